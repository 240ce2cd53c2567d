//! The execution environments of one function: as many as there are invocations at once, up to a limit.
//!
//! As in Lambda each environment runs one invocation at a time. The one that was used last is taken first, so that the
//! others grow old; where none is free another one is wanted, whose cold start is this invocation's alone. At the limit
//! invocations wait, in the order in which they came. What happens to one environment (a crash, a time limit, an init
//! that takes long) concerns the invocation that it was given, and nobody else.
//!
//! The pool makes no environments. Whoever made the first is told when another one is wanted, and adds it. All of them
//! are kept until the pool is closed, or until they are replaced: because the function's code has changed, say. Then
//! those that are busy finish what they run and end, the others end at once, and what waits or comes is run by their
//! successors, a new generation.
//!
//! A pool of one hands everything to its environment, which has a queue itself; so has one on Managed Instances, which
//! decides for itself how much it runs at once.

mod schedule;

use std::collections::BTreeMap;
use std::mem;
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
    limit: usize,
    version: HeaderValue,
    /// Held by who replaces all environments, or closes them. Taken before `state`.
    turn: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    schedule: Schedule<Invocation>,
    /// Those that invocations are given to, by their numbers in the schedule.
    environments: BTreeMap<usize, ExecutionEnvironment>,
    /// The one that takes everything, because it is and stays the only one.
    only: Option<ExecutionEnvironment>,
    /// How often they were replaced.
    generation: u64,
    /// They are being replaced: there is none at the moment, and what comes waits.
    between: bool,
    /// Those that were replaced and may not be gone.
    retired: Vec<ExecutionEnvironment>,
    closed: bool,
    /// A task will look at the schedule again.
    timer: bool,
}

impl Pool {
    /// A pool of up to `limit` environments, of which `first` is there. An environment on Managed Instances has no
    /// others beside it, whatever the limit.
    ///
    /// Fails with [`EndpointError::Thread`] if the endpoint's thread cannot be started.
    pub fn new(first: ExecutionEnvironment, limit: usize) -> Result<Self, EndpointError> {
        let handle = runtime_thread::handle()?;
        let mut schedule = Schedule::new(limit, SETTLING);
        let (member, _) = schedule.add();
        let shared = Arc::new_cyclic(|myself| Shared {
            myself: myself.clone(),
            handle,
            limit,
            version: first.executed_version(),
            turn: Mutex::default(),
            state: Mutex::new(State {
                schedule,
                only: stays_alone(&first, limit).then(|| first.clone()),
                environments: BTreeMap::from([(member, first)]),
                generation: 0,
                between: false,
                retired: Vec::new(),
                closed: false,
                timer: false,
            }),
            changed: Condvar::new(),
        });
        Ok(Self { shared })
    }

    /// Run an invocation in the environment that is free, or becomes free first.
    ///
    /// Fails with [`EndpointError::InvalidHeader`] for a value that cannot be sent, and with [`EndpointError::Closed`].
    pub fn submit(&self, request: InvocationRequest, waiter: Waiter) -> Result<(), EndpointError> {
        // The time limit is that of the environment it comes to.
        self.shared.submit(Invocation::new(request, Duration::ZERO, waiter, Instant::now())?)
    }

    /// Wait until another environment is wanted: who gets a generation makes one for it and calls [`Self::add`], or
    /// [`Self::give_up`]. `None` when the pool is closed.
    pub fn wait_until_wanted(&self) -> Option<u64> {
        let mut state = self.shared.lock();
        loop {
            if state.closed {
                return None;
            }
            if state.schedule.take_wanted() {
                return Some(state.generation);
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Take in an environment that was wanted for a generation. `false` if that was replaced meanwhile; the environment
    /// is the caller's to close then.
    ///
    /// Fails with [`EndpointError::Closed`], and the environment is the caller's to close then, too.
    pub fn add(&self, environment: ExecutionEnvironment, generation: u64) -> Result<bool, EndpointError> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(EndpointError::Closed);
        }
        if state.generation != generation {
            return Ok(false);
        }
        let (member, work) = state.schedule.add();
        state.environments.insert(member, environment);
        drop(state);
        if let Some(work) = work {
            self.shared.run(member, work);
        }
        self.shared.review();
        Ok(true)
    }

    /// The environment that was wanted for a generation cannot be made, and no other will be: those that are there must
    /// do, until they are replaced.
    pub fn give_up(&self, generation: u64) {
        let mut state = self.shared.lock();
        if state.generation == generation {
            state.schedule.give_up();
        }
        drop(state);
        self.shared.review();
    }

    /// Replace all environments by `first`, and others like it when they are wanted: what waits, and what comes, is
    /// theirs. Those that were there end, with the Shutdown phase, as soon as they have finished what they run; a process that
    /// is still in its Init phase ends at once. Nothing is lost, and nothing is waited for here.
    ///
    /// Fails with [`EndpointError::Closed`], and the environment is the caller's to close then.
    pub fn replace(&self, first: ExecutionEnvironment) -> Result<(), EndpointError> {
        let shared = &self.shared;
        let _turn = shared.take_turn();
        let mut state = shared.lock();
        if state.closed {
            return Err(EndpointError::Closed);
        }
        state.generation += 1;
        state.between = true;
        state.only = None;
        state.schedule.forget_all();
        let old: Vec<_> = mem::take(&mut state.environments).into_values().collect();
        drop(state);
        // Not under the lock: who waits for an answer may be called, and come back here.
        let mut waiting: Vec<Invocation> = old.iter().flat_map(ExecutionEnvironment::retire).collect();
        waiting.sort_by_key(|invocation| invocation.submitted);

        let mut state = shared.lock();
        state.retired.retain(|environment| !environment.is_gone());
        state.retired.extend(old);
        let mut given = None;
        let member = if stays_alone(&first, shared.limit) {
            // What comes before all of this is handed on waits behind it.
            loop {
                waiting.extend(state.schedule.drain());
                if waiting.is_empty() {
                    break;
                }
                drop(state);
                for invocation in waiting.drain(..) {
                    // One that is closed already takes none, and would have answered none.
                    drop(first.offer(invocation));
                }
                state = shared.lock();
            }
            state.only = Some(first.clone());
            state.schedule.add().0
        } else {
            state.schedule.wait_again(waiting);
            let (member, work) = state.schedule.add();
            given = work;
            member
        };
        state.environments.insert(member, first);
        state.between = false;
        drop(state);
        if let Some(work) = given {
            shared.run(member, work);
        }
        shared.review();
        Ok(())
    }

    /// How many environments there are, without those that were replaced.
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

/// Whether an environment has no others beside it in a pool with that limit.
fn stays_alone(environment: &ExecutionEnvironment, limit: usize) -> bool {
    limit <= 1 || environment.config().max_concurrency.is_some()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, mut invocation: Invocation) -> Result<(), EndpointError> {
        loop {
            let mut state = self.lock();
            if state.closed {
                return Err(EndpointError::Closed);
            }
            let (environment, member) = if let Some(only) = &state.only {
                (only.clone(), None)
            } else if let Some(member) = state.schedule.take_idle() {
                (state.environments[&member].clone(), Some(member))
            } else {
                state.schedule.wait(invocation);
                drop(state);
                self.review();
                return Ok(());
            };
            let generation = state.generation;
            drop(state);
            let Some(refused) = self.offer(&environment, member, invocation) else { return Ok(()) };
            if self.lock().generation == generation {
                // It was closed by somebody else.
                return Err(EndpointError::Closed);
            }
            invocation = refused;
        }
    }

    /// Give an environment, one of several if it has a number, its invocation. It comes back if that was replaced or
    /// closed meanwhile. With the number goes a lease, which comes back when both are done with each other.
    fn offer(
        &self,
        environment: &ExecutionEnvironment,
        member: Option<usize>,
        mut invocation: Invocation,
    ) -> Option<Invocation> {
        if let Some(member) = member {
            invocation.lease = Some(Lease { pool: self.myself.clone(), member });
            invocation.waiter = match invocation.waiter {
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
        }
        let mut refused = environment.offer(invocation)?;
        refused.lease = None;
        Some(refused)
    }

    /// Give an environment what has waited for one.
    fn run(&self, member: usize, work: Invocation) {
        let environment = self.lock().environments.get(&member).cloned();
        let refused = match environment {
            Some(environment) => self.offer(&environment, Some(member), work),
            None => Some(work),
        };
        if let Some(refused) = refused {
            // Replaced just now: it goes to the next one. Who waits is told by the loss if the pool is closed.
            let _ = self.submit(refused);
        }
    }

    fn released(&self, member: usize) {
        let work = {
            let mut state = self.lock();
            if state.closed { None } else { state.schedule.release(member) }
        };
        if let Some(work) = work {
            self.run(member, work);
        }
        self.review();
    }

    /// See if other environments are wanted, and when to look again.
    fn review(&self) {
        let mut state = self.lock();
        if state.closed || state.between {
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
        let _turn = self.take_turn();
        let mut state = self.lock();
        state.closed = true;
        let waiting = state.schedule.drain();
        let environments: Vec<_> = state.environments.values().chain(&state.retired).cloned().collect();
        drop(state);
        self.changed.notify_all();
        for invocation in waiting {
            // It answers them when it is closed.
            drop(environments[0].offer(invocation));
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
