//! The execution environments of one function: as many as there are invocations at once, up to a limit.
//!
//! As in Lambda each environment runs one invocation at a time. The one that was used last is taken first, so that the
//! others grow old; where none is free another one is wanted, whose cold start is this invocation's alone. At the limit
//! invocations wait, in the order in which they came. What happens to one environment (a crash, a time limit, an init
//! that takes long) concerns the invocation that it was given, and nobody else.
//!
//! The pool makes no environments: it asks for them in a [`Supply`], and is given them. It closes them: in an elastic pool
//! those that nobody has used for a time, in a retired one those that have nothing more to do, and all of them at the end.
//!
//! They can also be replaced: because the function's code has changed, say. Then those that are busy finish what they run
//! and end, the others end at once, and what waits or comes is run by their successors, a new generation. In the local
//! Lambda it is pools that replace each other: what runs or waits there is still the old version's.
//!
//! A pool of one hands everything to its environment, which has a queue itself; so has one on Managed Instances, which
//! decides for itself how much it runs at once.

mod schedule;
mod supply;

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use tokio::runtime::Handle;

use crate::concurrency::{FunctionConcurrency, Permit, Throttled};
use crate::environment::ExecutionEnvironment;
use crate::error::EndpointError;
use crate::invocation::{Answer, Invocation, InvocationRequest, InvokeResult, ServiceFailure, Waiter};
use crate::runtime_thread;
use schedule::{Ahead, Purpose, Schedule, Sweep, Taken};
pub use supply::{Supply, Wanted};

/// An environment whose caller has its answer is about to be free: the runtime only has to poll, and extensions to end
/// their work. For so long an invocation waits for it before it costs a cold start.
const SETTLING: Duration = Duration::from_millis(100);

/// Idle environments are looked for no more often than this.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// A function's environments. Clones are handles on the same pool.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

/// What a pool is told about its function.
pub struct PoolConfig {
    /// The function's name.
    pub function_name: String,
    /// What its invocations are executed by: `$LATEST` or a number.
    pub function_version: String,
    /// No environment is used by two tenants.
    pub tenant_isolation: bool,
    /// After how long without use an environment is closed; `None`: never.
    pub idle: Option<Duration>,
    /// What whoever makes the environments needs for it.
    pub subject: Option<Box<dyn Any + Send + Sync>>,
}

struct Shared {
    myself: Weak<Shared>,
    handle: Handle,
    supply: Supply,
    config: PoolConfig,
    version: HeaderValue,
    limit: usize,
    /// The environments come and go; else those that are there stay, and the supply is the pool's own.
    is_elastic: bool,
    /// Held by who replaces all environments, or closes them. Taken before `state`.
    turn: Mutex<()>,
    state: Mutex<State>,
    ended: Condvar,
}

#[expect(clippy::struct_excessive_bools, reason = "states that have nothing to do with each other")]
struct State {
    /// The one that takes everything, because it is and stays the only one.
    only: Option<ExecutionEnvironment>,
    /// How often the environments were replaced.
    generation: u64,
    /// They are being replaced: there is none at the moment, and what comes waits.
    between: bool,
    /// Those that were replaced and may not be gone.
    replaced: Vec<ExecutionEnvironment>,
    common: Lane,
    /// Those with environments, or with work.
    tenants: HashMap<Arc<str>, Lane>,
    ahead: Ahead,
    /// An environment that was wanted ahead of invocations could not be made: none is wanted for now.
    ahead_failed: bool,
    idle: Option<Duration>,
    concurrency: Option<Arc<FunctionConcurrency>>,
    closed: bool,
    retired: bool,
    /// Who takes the invocations that still come.
    successor: Option<Pool>,
    /// Retired, it lives until it has ended, whoever else knows it.
    retained: Option<Pool>,
    /// It is in the supply's queue.
    queued: bool,
    /// A task will look at the schedules again.
    timer: bool,
    /// Likewise for what is idle, at this time.
    sweep_at: Option<Instant>,
    totals: Totals,
    last_failure: Option<String>,
}

type Lane = Schedule<Place, Work>;

/// An environment, and the permit of the invocation that it runs.
struct Place {
    environment: ExecutionEnvironment,
    permit: Option<Permit>,
}

/// An invocation that no environment has yet.
struct Work {
    invocation: Invocation,
    permit: Option<Permit>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    cold_starts: u64,
    warm_starts: u64,
    throttled: u64,
    failures: u64,
}

/// A pool's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Environments that are starting or initialising.
    pub init: usize,
    /// Environments that run an invocation.
    pub busy: usize,
    /// Environments that wait for one.
    pub idle: usize,
    /// Those of the idle ones whose processes are stopped.
    pub frozen: usize,
    /// Those of all that are for provisioned concurrency.
    pub provisioned: usize,
    /// Those of them that have initialised.
    pub provisioned_ready: usize,
    /// Those of them whose last init failed.
    pub provisioned_failed: usize,
    /// Invocations without an environment.
    pub waiting: usize,
    /// Invocations that were the first of their environment.
    pub cold_starts: u64,
    /// Invocations that were not.
    pub warm_starts: u64,
    /// Invocations refused for the sake of concurrency.
    pub throttled: u64,
    /// Environments that could not be made.
    pub failures: u64,
}

/// Work that has found an environment.
struct Match {
    environment: ExecutionEnvironment,
    tenant: Option<Arc<str>>,
    /// One of several.
    member: Option<usize>,
    invocation: Invocation,
    generation: u64,
}

impl Pool {
    /// A pool of up to `limit` environments, of which `first` is there. They are kept until the pool is closed. An
    /// environment on Managed Instances has no others beside it, whatever the limit.
    ///
    /// Fails with [`EndpointError::Thread`] if the endpoint's thread cannot be started.
    pub fn new(first: &ExecutionEnvironment, limit: usize) -> Result<Self, EndpointError> {
        let config = PoolConfig {
            function_name: first.config().function_name.clone(),
            function_version: first.config().function_version.clone(),
            tenant_isolation: false,
            idle: None,
            subject: None,
        };
        let version = first.executed_version();
        let pool = Self::with(config, version, limit, None)?;
        pool.shared.lock().only = stays_alone(first, limit).then(|| first.clone());
        pool.add(first, 0)?;
        Ok(pool)
    }

    /// A pool without environments, which asks `supply` for them and closes those that are not used.
    ///
    /// Fails with [`EndpointError::Thread`] if the endpoint's thread cannot be started, and with
    /// [`EndpointError::InvalidHeader`] for a version that cannot be sent.
    pub fn elastic(config: PoolConfig, supply: &Supply) -> Result<Self, EndpointError> {
        let version = HeaderValue::try_from(&config.function_version)
            .map_err(|_| EndpointError::InvalidHeader { field: "function_version" })?;
        Self::with(config, version, usize::MAX, Some(supply.clone()))
    }

    fn with(
        config: PoolConfig,
        version: HeaderValue,
        limit: usize,
        supply: Option<Supply>,
    ) -> Result<Self, EndpointError> {
        let handle = runtime_thread::handle()?;
        let state = State {
            only: None,
            generation: 0,
            between: false,
            replaced: Vec::new(),
            common: Schedule::new(limit, SETTLING),
            tenants: HashMap::new(),
            ahead: Ahead::default(),
            ahead_failed: false,
            idle: config.idle,
            concurrency: None,
            closed: false,
            retired: false,
            successor: None,
            retained: None,
            queued: false,
            timer: false,
            sweep_at: None,
            totals: Totals::default(),
            last_failure: None,
        };
        let shared = Arc::new_cyclic(|myself| Shared {
            myself: myself.clone(),
            handle,
            is_elastic: supply.is_some(),
            supply: supply.unwrap_or_default(),
            config,
            version,
            limit,
            turn: Mutex::default(),
            state: Mutex::new(state),
            ended: Condvar::new(),
        });
        Ok(Self { shared })
    }

    /// What the pool was made with.
    pub fn config(&self) -> &PoolConfig {
        &self.shared.config
    }

    /// Whether both are handles on the same pool.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Run an invocation in the environment that is free, or becomes free first.
    ///
    /// Fails with [`EndpointError::InvalidHeader`] for a value that cannot be sent, with [`EndpointError::Throttled`] if
    /// too many run, with [`EndpointError::TenantMissing`] or [`EndpointError::TenantUnexpected`], with
    /// [`EndpointError::Retired`] and with [`EndpointError::Closed`].
    pub fn submit(&self, request: InvocationRequest, waiter: Waiter) -> Result<(), EndpointError> {
        let tenant = self.shared.tenant_of(&request)?;
        // The time limit is that of the environment it comes to.
        let mut invocation = Invocation::new(request, Duration::ZERO, waiter, Instant::now())?;
        let mut shared = Arc::clone(&self.shared);
        loop {
            match shared.submit(invocation, tenant.as_ref())? {
                Submitted::Taken => return Ok(()),
                Submitted::Passed { to, invocation: passed } => {
                    (shared, invocation) = (to.shared, *passed);
                }
            }
        }
    }

    /// Wait until another environment is wanted: who gets a generation makes one for it and calls [`Self::add`], or
    /// [`Self::give_up`]. `None` when the pool is closed. For a pool with a supply of its own.
    pub fn wait_until_wanted(&self) -> Option<u64> {
        self.shared.supply.next(None).map(Wanted::forget)
    }

    /// Take in an environment that was wanted for a generation. `false` if that was replaced meanwhile; the environment
    /// is the caller's to close then.
    ///
    /// Fails with [`EndpointError::Closed`], and the environment is the caller's to close then, too.
    pub fn add(&self, environment: &ExecutionEnvironment, generation: u64) -> Result<bool, EndpointError> {
        self.shared.add(environment, None, Purpose::Invocation, generation)
    }

    /// The environment that was wanted for a generation cannot be made, and no other will be: those that are there must
    /// do, until they are replaced.
    pub fn give_up(&self, generation: u64) {
        let mut state = self.shared.lock();
        if state.generation == generation {
            state.common.give_up_for_good();
        }
        drop(state);
        self.shared.review();
    }

    /// Replace all environments by `first`, and others like it when they are wanted: what waits, and what comes, is
    /// theirs. Those that were there end, with the Shutdown phase, as soon as they have finished what they run; a process
    /// that is still in its Init phase ends at once. Nothing is lost, and nothing is waited for here.
    ///
    /// Fails with [`EndpointError::Closed`], and the environment is the caller's to close then.
    pub fn replace(&self, first: &ExecutionEnvironment) -> Result<(), EndpointError> {
        let shared = &self.shared;
        let _turn = shared.take_turn();
        let mut state = shared.lock();
        if state.closed {
            return Err(EndpointError::Closed);
        }
        state.generation += 1;
        state.between = true;
        state.only = None;
        let old: Vec<_> = state.common.forget_all().into_iter().map(|place| place.environment).collect();
        drop(state);
        // Not under the lock: who waits for an answer may be called, and come back here.
        let mut waiting: Vec<Invocation> = old.iter().flat_map(ExecutionEnvironment::retire).collect();
        waiting.sort_by_key(|invocation| invocation.submitted);

        let mut state = shared.lock();
        state.replaced.retain(|environment| !environment.is_gone());
        state.replaced.extend(old);
        if stays_alone(first, shared.limit) {
            // What comes before all of this is handed on waits behind it.
            loop {
                waiting.extend(state.common.drain().into_iter().map(|work| work.invocation));
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
        } else {
            let again = waiting.into_iter().map(|invocation| Work { invocation, permit: None });
            state.common.wait_again(again.collect());
        }
        state.between = false;
        let generation = state.generation;
        drop(state);
        self.add(first, generation).map(drop)
    }

    /// Have so many environments beside those that invocations cause.
    pub fn provision(&self, count: usize) {
        let mut state = self.shared.lock();
        if state.closed || state.retired {
            return;
        }
        let before = std::mem::replace(&mut state.ahead.provisioned, count);
        if let Some(concurrency) = &state.concurrency {
            concurrency.change_provisioned(before, count);
        }
        state.ahead_failed = false;
        drop(state);
        self.shared.sweep();
        self.shared.review();
    }

    /// Keep at least so many environments, provisioned ones aside.
    pub fn keep(&self, count: usize) {
        let mut state = self.shared.lock();
        state.ahead.minimum = count;
        state.ahead_failed = false;
        drop(state);
        self.shared.sweep();
        self.shared.review();
    }

    /// After how long without use an environment is closed.
    pub fn idle_time(&self) -> Option<Duration> {
        self.shared.lock().idle
    }

    /// Change that, for those that are idle now, too.
    pub fn set_idle_time(&self, idle: Duration) {
        self.shared.lock().idle = Some(idle);
        self.shared.sweep();
    }

    /// Let the invocations count against a function's concurrency from now on.
    pub fn limit_by(&self, concurrency: Arc<FunctionConcurrency>) {
        let mut state = self.shared.lock();
        if state.closed || state.retired {
            return;
        }
        let provisioned = state.ahead.provisioned;
        if let Some(before) = &state.concurrency {
            before.change_provisioned(provisioned, 0);
        }
        concurrency.change_provisioned(0, provisioned);
        state.concurrency = Some(concurrency);
    }

    /// Take no more invocations; `successor` gets those that still come. What runs or waits comes to its end, and each
    /// environment is closed when there is nothing for it to do.
    pub fn retire(&self, successor: Option<Self>) {
        let mut state = self.shared.lock();
        if successor.is_some() || !state.retired {
            state.successor = successor;
        }
        state.retired = true;
        state.give_provisioned_back();
        if !state.closed {
            state.retained = Some(self.clone());
        }
        drop(state);
        self.shared.sweep();
        self.shared.ended.notify_all();
    }

    /// Whether it takes no more invocations.
    pub fn is_retired(&self) -> bool {
        let state = self.shared.lock();
        state.retired || state.closed
    }

    /// Whether it is retired or closed, and there is no environment and no invocation any more.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().has_ended()
    }

    /// Wait for that. `false` when the time has come first.
    pub fn wait_until_ended(&self, until: Option<Instant>) -> bool {
        let mut state = self.shared.lock();
        while !state.has_ended() {
            state = match until {
                None => self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let Some(left) =
                        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                    else {
                        return false;
                    };
                    self.shared.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// How many environments there are.
    pub fn size(&self) -> usize {
        self.shared.lock().lanes().map(Schedule::len).sum()
    }

    /// The pool's figures.
    pub fn counts(&self) -> PoolCounts {
        let state = self.shared.lock();
        let mut counts = PoolCounts {
            waiting: state.lanes().map(Schedule::waiting).sum(),
            cold_starts: state.totals.cold_starts,
            warm_starts: state.totals.warm_starts,
            throttled: state.totals.throttled,
            failures: state.totals.failures,
            ..PoolCounts::default()
        };
        let environments: Vec<(ExecutionEnvironment, bool, bool)> = state
            .lanes()
            .flat_map(Schedule::environments)
            .map(|(place, idle, provisioned)| (place.environment.clone(), idle, provisioned))
            .collect();
        drop(state);
        for (environment, idle, provisioned) in environments {
            let activity = environment.activity();
            counts.provisioned += usize::from(provisioned);
            counts.provisioned_ready += usize::from(provisioned && !activity.initialising);
            counts.provisioned_failed += usize::from(provisioned && activity.init_failed);
            match (activity.initialising, idle) {
                (true, _) => counts.init += 1,
                (false, true) => {
                    counts.idle += 1;
                    counts.frozen += usize::from(activity.frozen);
                }
                (false, false) => counts.busy += 1,
            }
        }
        counts
    }

    /// Why the last environment could not be made; `None` after one that could.
    pub fn last_failure(&self) -> Option<String> {
        self.shared.lock().last_failure.clone()
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

    /// For the supply: take the most urgent request, and go back into its queue if there are others.
    fn take_wanted(self) -> Option<Wanted> {
        let mut state = self.shared.lock();
        let taken = state.take_wanted();
        let generation = state.generation;
        state.queued = taken.as_ref().is_some_and(|(_, _, more)| *more);
        let again = state.queued;
        drop(state);
        if again {
            self.shared.supply.push(self.shared.myself.clone());
        }
        taken.map(|(tenant, purpose, _)| Wanted::new(self, tenant, purpose, generation))
    }
}

/// What became of work.
enum Submitted {
    Taken,
    /// The pool is retired: it is another one's.
    Passed {
        to: Pool,
        invocation: Box<Invocation>,
    },
}

impl State {
    fn lane(&mut self, tenant: Option<&Arc<str>>) -> Option<&mut Lane> {
        match tenant {
            None => Some(&mut self.common),
            Some(tenant) => self.tenants.get_mut(tenant),
        }
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.common).chain(self.tenants.values())
    }

    /// Whether an environment that becomes idle may have to go at once, or nobody would look after it later.
    fn wants_sweep(&self) -> bool {
        self.retired || self.sweep_at.is_none() || self.common.provisioned() > self.ahead.provisioned
    }

    /// What is wanted ahead, at the moment.
    fn wanted_ahead(&self) -> Ahead {
        if self.retired || self.ahead_failed { Ahead::default() } else { self.ahead }
    }

    fn take_wanted(&mut self) -> Option<(Option<Arc<str>>, Purpose, bool)> {
        let ahead = self.wanted_ahead();
        let now = Instant::now();
        let mut found = None;
        let lanes = std::iter::once((None, &mut self.common))
            .chain(self.tenants.iter_mut().map(|(tenant, lane)| (Some(tenant), lane)));
        for (tenant, lane) in lanes {
            let ahead = if tenant.is_none() { ahead } else { Ahead::default() };
            // What was wanted may have become superfluous.
            if !lane.review(ahead, now).0 {
                continue;
            }
            if found.is_some() {
                return found.map(|(tenant, purpose, _)| (tenant, purpose, true));
            }
            if let Some(purpose) = lane.take_wanted() {
                let more = lane.review(ahead, now).0;
                found = Some((tenant.cloned(), purpose, more));
                if more {
                    return found;
                }
            }
        }
        found
    }

    /// The provisioned concurrency is another pool's to have, or nobody's.
    fn give_provisioned_back(&mut self) {
        let provisioned = std::mem::take(&mut self.ahead.provisioned);
        if let Some(concurrency) = &self.concurrency {
            concurrency.change_provisioned(provisioned, 0);
        }
    }

    fn has_ended(&self) -> bool {
        (self.retired || self.closed) && self.lanes().all(Schedule::is_vacant)
    }

    /// Admit an invocation, and take an idle environment for it if there is one.
    fn admit(&mut self, tenant: Option<&Arc<str>>) -> Result<(Option<Permit>, Option<Taken>), Throttled> {
        let concurrency = self.concurrency.clone();
        let next = self.lane(tenant).and_then(|lane| lane.next_idle());
        let permit = match concurrency {
            None => None,
            Some(concurrency) if next == Some(true) => Some(concurrency.acquire_provisioned()),
            Some(concurrency) => Some(concurrency.acquire()?),
        };
        let taken = self.lane(tenant).and_then(Schedule::take_idle);
        Ok((permit, taken))
    }
}

/// Whether an environment has no others beside it in a pool with that limit.
fn stays_alone(environment: &ExecutionEnvironment, limit: usize) -> bool {
    limit <= 1 || environment.config().max_concurrency.is_some()
}

/// What those are told who wait in a pool that is closed.
fn closed() -> ServiceFailure {
    ServiceFailure {
        status: 500,
        error_type: "ServiceException".to_owned(),
        message: "The function's execution environments were closed".to_owned(),
    }
}

impl Shared {
    fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant whose environments may run this.
    fn tenant_of(&self, request: &InvocationRequest) -> Result<Option<Arc<str>>, EndpointError> {
        if !self.is_elastic {
            // The emulator's function has one environment for all, or as many as it needs.
            return Ok(None);
        }
        let tenant = request.tenant_id.as_deref().filter(|tenant| !tenant.is_empty());
        match (tenant, self.config.tenant_isolation) {
            (Some(tenant), true) => Ok(Some(Arc::from(tenant))),
            (None, false) => Ok(None),
            (None, true) => Err(EndpointError::TenantMissing),
            (Some(_), false) => Err(EndpointError::TenantUnexpected),
        }
    }

    fn submit(
        &self,
        mut invocation: Invocation,
        tenant: Option<&Arc<str>>,
    ) -> Result<Submitted, EndpointError> {
        loop {
            let mut state = self.lock();
            if state.closed {
                return Err(EndpointError::Closed);
            }
            if state.retired {
                let Some(to) = state.successor.clone() else { return Err(EndpointError::Retired) };
                return Ok(Submitted::Passed { to, invocation: Box::new(invocation) });
            }
            let begun = if let Some(only) = &state.only {
                let (environment, generation) = (only.clone(), state.generation);
                Match { environment, tenant: None, member: None, invocation, generation }
            } else {
                let Some(begun) = state.start(invocation, tenant, self.limit)? else {
                    drop(state);
                    self.review();
                    return Ok(Submitted::Taken);
                };
                begun
            };
            drop(state);
            let (generation, member) = (begun.generation, begun.member);
            let Some(refused) = self.offer(begun) else { return Ok(Submitted::Taken) };
            // It was closed, or replaced, by somebody else.
            if !self.lost(tenant, member) && self.lock().generation == generation {
                return Err(EndpointError::Closed);
            }
            invocation = refused;
        }
    }

    /// Give an environment, one of several if it has a number, its invocation. It comes back if that was replaced or
    /// closed meanwhile. With the number goes a lease, which comes back when both are done with each other.
    fn offer(&self, begun: Match) -> Option<Invocation> {
        let Match { environment, tenant, member, mut invocation, .. } = begun;
        if let Some(member) = member {
            invocation.lease = self.myself.upgrade().map(|pool| Lease {
                pool,
                tenant: tenant.clone(),
                member: Some(member),
            });
            let pool = self.myself.clone();
            let answered = move || {
                if let Some(pool) = pool.upgrade() {
                    pool.answered(tenant.as_ref(), member);
                }
            };
            invocation.waiter = match invocation.waiter {
                Waiter::Answer(done) => Waiter::Answer(Box::new(move |answer| {
                    answered();
                    done(answer);
                })),
                // The lease is still on its way back, and the caller may come again at once.
                Waiter::Finish(done) => Waiter::Finish(Box::new(move |result| {
                    answered();
                    done(result);
                })),
                Waiter::Nobody => Waiter::Nobody,
            };
        }
        let mut refused = environment.offer(invocation)?;
        // There is no end of it to be told.
        if let Some(lease) = refused.lease.take() {
            lease.forget();
        }
        Some(refused)
    }

    /// Give an environment what has waited for one.
    fn run(&self, begun: Match) {
        let (tenant, member) = (begun.tenant.clone(), begun.member);
        let Some(refused) = self.offer(begun) else { return };
        if !self.is_elastic {
            // Replaced just now: it goes to the next one. Who waits is told by the loss if the pool is closed.
            let _ = self.submit(refused, None);
            return;
        }
        // Somebody has closed the environment. It is the first to get another one, even if the pool is retired.
        let permit = self.take_permit(tenant.as_ref(), member);
        self.lost(tenant.as_ref(), member);
        let mut state = self.lock();
        let work = Work { invocation: refused, permit };
        if state.closed {
            drop(state);
            return work.fail(closed(), &self.config.function_version);
        }
        let limit = self.limit;
        state.lane_for(tenant, limit).wait_again(vec![work]);
        drop(state);
        self.review();
    }

    fn take_permit(&self, tenant: Option<&Arc<str>>, member: Option<usize>) -> Option<Permit> {
        self.lock().lane(tenant)?.environment(member?)?.permit.take()
    }

    /// Forget an environment that takes no invocations. Whether others can take its place.
    fn lost(&self, tenant: Option<&Arc<str>>, member: Option<usize>) -> bool {
        if !self.is_elastic {
            return false;
        }
        if let Some(member) = member
            && let Some(lane) = self.lock().lane(tenant)
        {
            lane.remove(member);
        }
        true
    }

    fn answered(&self, tenant: Option<&Arc<str>>, member: usize) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(lane) = state.lane(tenant) else { return };
        lane.answered(member, now);
        if let Some(permit) = lane.environment(member).and_then(|place| place.permit.as_mut()) {
            permit.answered(now);
        }
    }

    fn released(&self, tenant: Option<Arc<str>>, member: usize) {
        let mut state = self.lock();
        let closed = state.closed;
        let Some(lane) = state.lane(tenant.as_ref()) else { return };
        if let Some(place) = lane.environment(member) {
            place.permit = None;
            if closed || place.environment.is_closed() {
                lane.remove(member);
            }
        }
        let begun = match lane.release(member, Instant::now()) {
            Some((taken, work)) => state.begin(tenant, taken, work),
            None => None,
        };
        let sweep = self.is_elastic && (closed || state.wants_sweep());
        drop(state);
        if let Some(begun) = begun {
            self.run(begun);
        } else if sweep {
            self.sweep();
        }
        self.review();
    }

    fn add(
        &self,
        environment: &ExecutionEnvironment,
        tenant: Option<&Arc<str>>,
        purpose: Purpose,
        generation: u64,
    ) -> Result<bool, EndpointError> {
        let mut state = self.lock();
        if state.generation != generation {
            return Ok(false);
        }
        if state.closed {
            if let Some(lane) = state.lane(tenant) {
                lane.give_up(purpose);
            }
            drop(state);
            self.ended.notify_all();
            return Err(EndpointError::Closed);
        }
        state.last_failure = None;
        state.ahead_failed = false;
        let place = Place { environment: environment.clone(), permit: None };
        let Some(lane) = state.lane(tenant) else { return Err(EndpointError::Closed) };
        let (taken, work) = lane.add(place, purpose, Instant::now());
        let begun = work.and_then(|work| state.begin(tenant.cloned(), taken, work));
        drop(state);
        if let Some(begun) = begun {
            self.run(begun);
        } else if self.is_elastic {
            // It may have come too late, and goes at once.
            self.sweep();
            environment.prepare();
        }
        self.review();
        Ok(true)
    }

    fn give_up(&self, tenant: Option<&Arc<str>>, purpose: Purpose, failure: ServiceFailure) {
        let mut state = self.lock();
        state.totals.failures += 1;
        state.last_failure = Some(failure.message.clone());
        if purpose != Purpose::Invocation {
            state.ahead_failed = true;
        }
        let work = state.lane(tenant).and_then(|lane| lane.give_up(purpose));
        drop(state);
        if let Some(work) = work {
            work.fail(failure, &self.config.function_version);
        }
        self.sweep();
        self.review();
    }

    fn is_needed(&self, tenant: Option<&Arc<str>>, purpose: Purpose) -> bool {
        let mut state = self.lock();
        let ahead = state.wanted_ahead();
        let closed = state.closed;
        !closed && state.lane(tenant).is_some_and(|lane| lane.is_needed(purpose, ahead))
    }

    /// See if other environments are wanted, and when to look again.
    fn review(&self) {
        let mut state = self.lock();
        if state.closed || state.between {
            return;
        }
        let now = Instant::now();
        let ahead = state.wanted_ahead();
        let (mut wanted, mut again) = state.common.review(ahead, now);
        for lane in state.tenants.values_mut() {
            let (more, later) = lane.review(Ahead::default(), now);
            wanted |= more;
            again = [again, later].into_iter().flatten().min();
        }
        let push = wanted && !state.queued;
        state.queued |= push;
        let again = again.filter(|_| !state.timer);
        state.timer |= again.is_some();
        drop(state);
        if push {
            self.supply.push(self.myself.clone());
        }
        let Some(again) = again else { return };
        let myself = self.myself.clone();
        self.handle.spawn(async move {
            tokio::time::sleep_until(again.into()).await;
            if let Some(shared) = myself.upgrade() {
                shared.lock().timer = false;
                shared.review();
            }
        });
    }

    /// Close what is idle and is to go, and see to it that the next one is not forgotten.
    fn sweep(&self) {
        if !self.is_elastic {
            return;
        }
        let mut state = self.lock();
        let now = Instant::now();
        let (idle, keep, all) = (state.idle, state.ahead, state.retired || state.closed);
        let (mut going, mut next) = state.common.sweep(Sweep { idle, keep, all }, now);
        state.tenants.retain(|_, lane| {
            let (gone, later) = lane.sweep(Sweep { idle, keep: Ahead::default(), all }, now);
            going.extend(gone);
            next = [next, later].into_iter().flatten().min();
            !lane.is_vacant()
        });
        let ended = state.has_ended();
        let retained = if ended { state.retained.take() } else { None };
        let next = next
            .map(|next| next.max(now + SWEEP_INTERVAL))
            .filter(|next| state.sweep_at.is_none_or(|armed| *next < armed));
        if next.is_some() {
            state.sweep_at = next;
        }
        drop(state);
        for place in going {
            place.environment.close_soon();
        }
        if ended {
            self.ended.notify_all();
        }
        drop(retained);
        let Some(next) = next else { return };
        let myself = self.myself.clone();
        self.handle.spawn(async move {
            tokio::time::sleep_until(next.into()).await;
            let Some(shared) = myself.upgrade() else { return };
            let due = {
                let mut state = shared.lock();
                // An earlier one may have taken its place.
                let due = state.sweep_at == Some(next);
                if due {
                    state.sweep_at = None;
                }
                due
            };
            if due {
                shared.sweep();
                shared.review();
            }
        });
    }

    /// Close, and return the environments, which end now.
    fn close(&self) -> Vec<ExecutionEnvironment> {
        let _turn = self.take_turn();
        let mut state = self.lock();
        state.closed = true;
        state.give_provisioned_back();
        let mut waiting = state.common.drain();
        let mut environments: Vec<ExecutionEnvironment> =
            state.common.environments().map(|(place, ..)| place.environment.clone()).collect();
        environments.extend(state.replaced.iter().cloned());
        for lane in state.tenants.values_mut() {
            waiting.extend(lane.drain());
            environments.extend(lane.environments().map(|(place, ..)| place.environment.clone()));
        }
        drop(state);
        if !self.is_elastic {
            self.supply.close();
        }
        for work in waiting {
            if let (false, Some(first)) = (self.is_elastic, environments.first()) {
                // It answers them when it is closed.
                drop(first.offer(work.invocation));
                continue;
            }
            work.fail(closed(), &self.config.function_version);
        }
        for environment in &environments {
            environment.close_soon();
        }
        // The busy ones are removed when their invocations have failed.
        self.sweep();
        environments
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody can give it work any more. Where nothing is elastic, the environments are their maker's to close.
        if self.is_elastic {
            self.close();
        }
    }
}

impl State {
    /// An environment was taken for work: what is needed to run it, without the lock.
    fn begin(&mut self, tenant: Option<Arc<str>>, taken: Taken, work: Work) -> Option<Match> {
        let place = self.lane(tenant.as_ref())?.environment(taken.member)?;
        place.permit = work.permit;
        let environment = place.environment.clone();
        if taken.used || taken.provisioned {
            self.totals.warm_starts += 1;
        } else {
            self.totals.cold_starts += 1;
        }
        let (member, generation) = (Some(taken.member), self.generation);
        Some(Match { environment, tenant, member, invocation: work.invocation, generation })
    }

    /// Bring an invocation to an idle environment; `None` if it has to wait for one.
    fn start(
        &mut self,
        invocation: Invocation,
        tenant: Option<&Arc<str>>,
        limit: usize,
    ) -> Result<Option<Match>, EndpointError> {
        let admitted = self.admit(tenant).and_then(|(permit, taken)| match (&self.concurrency, tenant) {
            (Some(concurrency), Some(_)) if taken.is_none() => {
                let there: usize = self.lanes().map(Schedule::committed).sum();
                if there < concurrency.tenant_environments() {
                    Ok((permit, taken))
                } else {
                    Err(Throttled::Account)
                }
            }
            _ => Ok((permit, taken)),
        });
        let (permit, taken) = admitted.map_err(|throttled| {
            self.totals.throttled += 1;
            EndpointError::Throttled(throttled)
        })?;
        let work = Work { invocation, permit };
        if let Some(taken) = taken {
            return Ok(self.begin(tenant.cloned(), taken, work));
        }
        self.lane_for(tenant.cloned(), limit).wait(work);
        Ok(None)
    }

    /// The tenant's lane, which is made if there is none.
    fn lane_for(&mut self, tenant: Option<Arc<str>>, limit: usize) -> &mut Lane {
        match tenant {
            None => &mut self.common,
            Some(tenant) => self.tenants.entry(tenant).or_insert_with(|| Schedule::new(limit, SETTLING)),
        }
    }
}

impl Work {
    /// It is not run. To be called without the lock.
    fn fail(self, failure: ServiceFailure, executed_version: &str) {
        let Invocation { request_id, trace_id, waiter, .. } = self.invocation;
        let answer = Answer::refused(request_id, trace_id, failure);
        // The caller may come again at once.
        drop(self.permit);
        match waiter {
            Waiter::Answer(done) => done(answer),
            Waiter::Finish(done) => done(InvokeResult::refused(answer, executed_version.to_owned())),
            Waiter::Nobody => {}
        }
    }
}

/// An environment's invocation has this for as long as the two have to do with each other: until the runtime has polled
/// again, or its process is gone. However the invocation ends, it is dropped with it.
pub(crate) struct Lease {
    pool: Arc<Shared>,
    tenant: Option<Arc<str>>,
    member: Option<usize>,
}

impl Lease {
    /// The two have never had to do with each other.
    fn forget(mut self) {
        self.member = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(member) = self.member else { return };
        let pool = Arc::clone(&self.pool);
        let tenant = self.tenant.take();
        // The environment is locked here, and the next invocation would lock it again.
        pool.handle.clone().spawn(async move { pool.released(tenant, member) });
    }
}
