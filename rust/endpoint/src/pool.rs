//! The execution environments of one function: as many as there are invocations at once, up to a limit.
//!
//! As in Lambda each environment runs one invocation at a time. The one that was used last is taken first, so that the
//! others grow old; where none is free another one is wanted, whose cold start is this invocation's alone. At the limit
//! invocations wait, in the order in which they came. What happens to one environment (a crash, a time limit, an init
//! that takes long) concerns the invocation that it was given, and nobody else.
//!
//! The pool makes no environments. Whoever made the first is told when another one is wanted, and adds it. All of them
//! are kept until the pool is closed.
//!
//! A pool of one hands everything to its environment, which has a queue itself; so has one on Managed Instances, which
//! decides for itself how much it runs at once.

mod schedule;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use tokio::runtime::Handle;

use crate::environment::ExecutionEnvironment;
use crate::error::EndpointError;
use crate::invocation::{Invocation, InvocationRequest, Waiter};
use crate::runtime_thread;
use schedule::Schedule;

/// An environment whose caller has its answer is about to be free: the runtime only has to poll, and extensions to end
/// their work. For so long an invocation waits for it before it costs a cold start.
const SETTLING: Duration = Duration::from_millis(100);

/// A function's environments. Clones are handles on the same pool.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    myself: Weak<Shared>,
    handle: Handle,
    /// There is one environment and never another.
    alone: bool,
    version: HeaderValue,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    schedule: Schedule<Work>,
    environments: Vec<ExecutionEnvironment>,
    closed: bool,
    /// A task will look at the schedule again.
    timer: bool,
}

/// An invocation that no environment has yet.
struct Work {
    request: InvocationRequest,
    waiter: Waiter,
    submitted: Instant,
}

impl Pool {
    /// A pool of up to `limit` environments, of which `first` is there. An environment on Managed Instances has no
    /// others beside it, whatever the limit.
    ///
    /// Fails with [`EndpointError::Thread`] if the endpoint's thread cannot be started.
    pub fn new(first: ExecutionEnvironment, limit: usize) -> Result<Self, EndpointError> {
        let handle = runtime_thread::handle()?;
        let mut schedule = Schedule::new(limit, SETTLING);
        schedule.add();
        let shared = Arc::new_cyclic(|myself| Shared {
            myself: myself.clone(),
            handle,
            alone: limit <= 1 || first.config().max_concurrency.is_some(),
            version: first.executed_version(),
            state: Mutex::new(State { schedule, environments: vec![first], closed: false, timer: false }),
            changed: Condvar::new(),
        });
        Ok(Self { shared })
    }

    /// Run an invocation in the environment that is free, or becomes free first.
    ///
    /// Fails with [`EndpointError::InvalidHeader`] for a value that cannot be sent, and with [`EndpointError::Closed`].
    pub fn submit(&self, request: InvocationRequest, waiter: Waiter) -> Result<(), EndpointError> {
        if self.shared.alone {
            let environment = self.shared.lock().environments[0].clone();
            return environment.submit_all([(request, waiter)]);
        }
        self.shared.submit(Work { request, waiter, submitted: Instant::now() })
    }

    /// Wait until another environment is wanted: who gets `true` makes one and calls [`Self::add`], or
    /// [`Self::give_up`]. `false` when the pool is closed.
    pub fn wait_until_wanted(&self) -> bool {
        let mut state = self.shared.lock();
        loop {
            if state.closed {
                return false;
            }
            if state.schedule.take_wanted() {
                return true;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Take in an environment that was wanted.
    ///
    /// Fails with [`EndpointError::Closed`], and the environment is the caller's to close then.
    pub fn add(&self, environment: ExecutionEnvironment) -> Result<(), EndpointError> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(EndpointError::Closed);
        }
        state.environments.push(environment);
        let (member, work) = state.schedule.add();
        drop(state);
        if let Some(work) = work {
            // Who waits for it was told all there is to tell when it was queued.
            let _ = self.shared.run(member, work);
        }
        self.shared.review();
        Ok(())
    }

    /// The environment that was wanted cannot be made, and no other will be: those that are there must do.
    pub fn give_up(&self) {
        self.shared.lock().schedule.give_up();
        self.shared.review();
    }

    /// How many environments there are.
    pub fn size(&self) -> usize {
        self.shared.lock().environments.len()
    }

    /// Close all environments at once, and return when all of them are: see [`ExecutionEnvironment::close`].
    pub fn close(&self) {
        for environment in self.shared.close() {
            environment.close();
        }
    }

    /// Close without waiting for the processes to be gone.
    pub fn close_soon(&self) {
        self.shared.close();
    }

    pub(crate) fn executed_version(&self) -> HeaderValue {
        self.shared.version.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, work: Work) -> Result<(), EndpointError> {
        let mut state = self.lock();
        if state.closed {
            return Err(EndpointError::Closed);
        }
        if let Some(member) = state.schedule.take_idle() {
            drop(state);
            return self.run(member, work);
        }
        // What is wrong with it is said now, not when its turn comes.
        let timeout = state.environments[0].config().timeout;
        Invocation::new(work.request.clone(), timeout, Waiter::Nobody, work.submitted)?;
        state.schedule.wait(work);
        drop(state);
        self.review();
        Ok(())
    }

    /// Give an environment its invocation. The lease comes back when both are done with each other.
    fn run(&self, member: usize, work: Work) -> Result<(), EndpointError> {
        let environment = self.lock().environments[member].clone();
        let lease = Lease { pool: self.myself.clone(), member };
        let waiter = match work.waiter {
            Waiter::Answer(done) => {
                let pool = self.myself.clone();
                Waiter::Answer(Box::new(move |answer| {
                    if let Some(pool) = pool.upgrade() {
                        pool.lock().schedule.answered(member, Instant::now());
                    }
                    done(answer);
                }))
            }
            other => other,
        };
        environment.submit_leased(work.request, waiter, lease, work.submitted.elapsed())
    }

    fn released(&self, member: usize) {
        let work = {
            let mut state = self.lock();
            if state.closed { None } else { state.schedule.release(member) }
        };
        if let Some(work) = work {
            let _ = self.run(member, work);
        }
        self.review();
    }

    /// See if other environments are wanted, and when to look again.
    fn review(&self) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let (wanted, again) = state.schedule.review(Instant::now());
        if wanted {
            self.changed.notify_all();
        }
        let Some(again) = again.filter(|_| !state.timer) else { return };
        state.timer = true;
        drop(state);
        let myself = self.myself.clone();
        self.handle.spawn(async move {
            tokio::time::sleep_until(again.into()).await;
            if let Some(shared) = myself.upgrade() {
                shared.lock().timer = false;
                shared.review();
            }
        });
    }

    /// Close, and return the environments, which end now.
    fn close(&self) -> Vec<ExecutionEnvironment> {
        let mut state = self.lock();
        state.closed = true;
        let waiting = state.schedule.drain();
        let environments = state.environments.clone();
        drop(state);
        self.changed.notify_all();
        for work in waiting {
            // It answers them when it is closed.
            let _ = environments[0].submit_all([(work.request, work.waiter)]);
        }
        for environment in &environments {
            environment.close_soon();
        }
        environments
    }
}

/// An environment's invocation has this for as long as the two have to do with each other: until the runtime has polled
/// again, or its process is gone. However the invocation ends, it is dropped with it.
pub(crate) struct Lease {
    pool: Weak<Shared>,
    member: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let member = self.member;
        // The environment is locked here, and the next invocation would lock it again.
        pool.handle.clone().spawn(async move { pool.released(member) });
    }
}
