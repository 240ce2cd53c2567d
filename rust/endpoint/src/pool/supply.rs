//! What pools ask for: one queue for any number of pools, so that one thread can make environments for all of them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::schedule::Purpose;
use super::{Pool, Shared};
use crate::environment::ExecutionEnvironment;
use crate::error::EndpointError;
use crate::invocation::ServiceFailure;

/// The queue. Clones are handles on the same one.
#[derive(Clone, Default)]
pub struct Supply(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Pools that want something; each is here once.
    pools: VecDeque<Weak<Shared>>,
    closed: bool,
}

impl Supply {
    /// A queue in which nothing is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wait until an environment is wanted, and take the request; `None` when the time has come, or the queue is closed.
    pub fn next(&self, until: Option<Instant>) -> Option<Wanted> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(pool) = state.pools.pop_front() {
                drop(state);
                let pool = pool.upgrade().map(|shared| Pool { shared });
                if let Some(wanted) = pool.and_then(Pool::take_wanted) {
                    return Some(wanted);
                }
                state = self.lock();
                continue;
            }
            state = match until {
                None => self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
                    self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Wake who waits, and let nobody wait again.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.changed.notify_all();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// A pool that is not in the queue wants something.
    pub(super) fn push(&self, pool: Weak<Shared>) {
        self.lock().pools.push_back(pool);
        self.0.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request for an environment. One that is dropped unanswered is given up.
pub struct Wanted {
    pool: Pool,
    tenant: Option<Arc<str>>,
    purpose: Purpose,
    generation: u64,
    answered: bool,
}

impl Wanted {
    pub(super) fn new(pool: Pool, tenant: Option<Arc<str>>, purpose: Purpose, generation: u64) -> Self {
        Self { pool, tenant, purpose, generation, answered: false }
    }

    /// Who wants it.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The tenant it is for, where they are kept apart.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether no invocation waits for it.
    pub fn is_ahead(&self) -> bool {
        self.purpose != Purpose::Invocation
    }

    /// Whether it is for provisioned concurrency.
    pub fn is_provisioned(&self) -> bool {
        self.purpose == Purpose::Provisioned
    }

    /// Whether the pool can still use it.
    pub fn is_needed(&self) -> bool {
        self.pool.shared.is_needed(self.tenant.as_ref(), self.purpose)
    }

    /// Hand it over.
    ///
    /// Fails with [`EndpointError::Closed`] if the pool has ended, and it is the caller's to close then.
    pub fn deliver(mut self, environment: &ExecutionEnvironment) -> Result<(), EndpointError> {
        self.answered = true;
        let taken = self.pool.shared.add(environment, self.tenant.as_ref(), self.purpose, self.generation)?;
        if taken { Ok(()) } else { Err(EndpointError::Closed) }
    }

    /// It cannot be made: one invocation that waits is answered with this.
    pub fn give_up(mut self, failure: ServiceFailure) {
        self.answered = true;
        self.pool.shared.give_up(self.tenant.as_ref(), self.purpose, failure);
    }

    /// The answer comes without it, for this generation.
    pub(super) fn forget(mut self) -> u64 {
        self.answered = true;
        self.generation
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let failure = ServiceFailure {
            status: 500,
            error_type: "ServiceException".to_owned(),
            message: "No execution environment was made for the invocation".to_owned(),
        };
        self.pool.shared.give_up(self.tenant.as_ref(), self.purpose, failure);
    }
}
