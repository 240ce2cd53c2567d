//! How many invocations may run at once: the account's concurrency, and what functions have reserved of it (spec
//! lambda-service 7.1 and 7.3).
//!
//! One that was not taken is refused at once. What runs in a provisioned environment was counted when that was
//! provisioned.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An invocation whose caller has its answer, and whose environment comes to its end with it, is not in the way of the
/// caller's next one for so long.
const SETTLING: Duration = Duration::from_millis(100);

/// Environments of tenants that may be there for 1000 of the account's concurrency (spec lambda-service 1.8).
const TENANTS_PER_1000: usize = 2500;

/// Why an invocation is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttled {
    /// The account's unreserved concurrency is used up.
    Account,
    /// What the function has reserved is used up.
    Reserved,
}

impl Throttled {
    /// The `Reason` in the answer (spec lambda-service 1.5).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Account => "ConcurrentInvocationLimitExceeded",
            Self::Reserved => "ReservedFunctionConcurrentInvocationLimitExceeded",
        }
    }
}

/// The concurrency of an account. Clones are handles on the same one.
#[derive(Clone)]
pub struct Account(Arc<Mutex<State>>);

struct State {
    limit: usize,
    functions: Vec<Function>,
    vacant: Vec<usize>,
    /// What runs of the functions that have reserved nothing, and what may.
    unreserved: usize,
    unreserved_limit: usize,
    last: u64,
    settling: Vec<Settling>,
}

#[derive(Default)]
struct Function {
    reserved: Option<usize>,
    provisioned: usize,
    /// Outside of provisioned environments.
    running: usize,
    running_provisioned: usize,
}

struct Settling {
    permit: u64,
    function: usize,
    since: Instant,
}

/// One function's share. It has a place in the account as long as it lives.
pub struct FunctionConcurrency {
    account: Account,
    index: usize,
}

/// An invocation that was taken. It runs until this is dropped.
pub struct Permit {
    function: Arc<FunctionConcurrency>,
    id: u64,
    provisioned: bool,
    answered: bool,
}

/// The account's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountFigures {
    /// All there is.
    pub limit: usize,
    /// What functions have reserved.
    pub reserved: usize,
    /// What is provisioned for functions that have reserved nothing.
    pub provisioned: usize,
    /// Invocations that run.
    pub running: usize,
}

/// A function's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionFigures {
    /// What it has reserved.
    pub reserved: Option<usize>,
    /// What is provisioned for it.
    pub provisioned: usize,
    /// Its invocations that run.
    pub running: usize,
}

impl Account {
    /// An account in which `limit` invocations run at once.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            limit,
            functions: Vec::new(),
            vacant: Vec::new(),
            unreserved: 0,
            unreserved_limit: limit,
            last: 0,
            settling: Vec::new(),
        })))
    }

    /// A function that has reserved nothing.
    pub fn function(&self) -> Arc<FunctionConcurrency> {
        let mut state = self.lock();
        let index = if let Some(index) = state.vacant.pop() {
            state.functions[index] = Function::default();
            index
        } else {
            state.functions.push(Function::default());
            state.functions.len() - 1
        };
        drop(state);
        Arc::new(FunctionConcurrency { account: self.clone(), index })
    }

    /// What is used and reserved now.
    pub fn figures(&self) -> AccountFigures {
        let state = self.lock();
        let running = state.functions.iter().map(|function| function.running + function.running_provisioned);
        AccountFigures {
            limit: state.limit,
            reserved: state.reserved(),
            provisioned: state.provisioned(),
            running: running.sum(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reserved(&self) -> usize {
        self.functions.iter().filter_map(|function| function.reserved).sum()
    }

    /// What is provisioned counts against the reservation, where there is one.
    fn provisioned(&self) -> usize {
        let unreserved = self.functions.iter().filter(|function| function.reserved.is_none());
        unreserved.map(|function| function.provisioned).sum()
    }

    /// Reservations, or what is provisioned, have changed.
    fn limits_changed(&mut self) {
        self.unreserved_limit = self.limit.saturating_sub(self.reserved() + self.provisioned());
    }

    /// Whether one more invocation may run outside of provisioned environments.
    fn admit(&self, index: usize) -> Result<(), Throttled> {
        let function = &self.functions[index];
        let (running, limit, throttled) = match function.reserved {
            Some(reserved) => {
                (function.running, reserved.saturating_sub(function.provisioned), Throttled::Reserved)
            }
            None => (self.unreserved, self.unreserved_limit, Throttled::Account),
        };
        if running < limit {
            return Ok(());
        }
        let now = Instant::now();
        let reserved = function.reserved.is_some();
        let settling = self.settling.iter().filter(|settling| {
            let same_limit = if reserved {
                settling.function == index
            } else {
                self.functions[settling.function].reserved.is_none()
            };
            same_limit && now.duration_since(settling.since) < SETTLING
        });
        if running - settling.count().min(running) < limit { Ok(()) } else { Err(throttled) }
    }
}

impl FunctionConcurrency {
    /// Take an invocation that would run outside of provisioned environments.
    pub fn acquire(self: &Arc<Self>) -> Result<Permit, Throttled> {
        let mut state = self.account.lock();
        state.admit(self.index)?;
        let function = &mut state.functions[self.index];
        function.running += 1;
        if function.reserved.is_none() {
            state.unreserved += 1;
        }
        state.last += 1;
        let id = state.last;
        Ok(Permit { function: Arc::clone(self), id, provisioned: false, answered: false })
    }

    /// Take an invocation that runs in a provisioned environment.
    pub fn acquire_provisioned(self: &Arc<Self>) -> Permit {
        let mut state = self.account.lock();
        state.functions[self.index].running_provisioned += 1;
        Permit { function: Arc::clone(self), id: 0, provisioned: true, answered: false }
    }

    /// Reserve so much for the function, or nothing.
    pub fn reserve(&self, concurrency: Option<usize>) {
        let mut state = self.account.lock();
        let function = &mut state.functions[self.index];
        let before = std::mem::replace(&mut function.reserved, concurrency);
        let running = function.running;
        match (before, concurrency) {
            (None, Some(_)) => state.unreserved -= running,
            (Some(_), None) => state.unreserved += running,
            _ => {}
        }
        state.limits_changed();
    }

    /// One of the function's pools has `after` provisioned environments instead of `before`.
    pub fn change_provisioned(&self, before: usize, after: usize) {
        let mut state = self.account.lock();
        let function = &mut state.functions[self.index];
        function.provisioned = (function.provisioned + after).saturating_sub(before);
        state.limits_changed();
    }

    /// How many environments of tenants there may be.
    pub fn tenant_environments(&self) -> usize {
        self.account.lock().limit.saturating_mul(TENANTS_PER_1000) / 1000
    }

    /// What is used and reserved now.
    pub fn figures(&self) -> FunctionFigures {
        let state = self.account.lock();
        let function = &state.functions[self.index];
        FunctionFigures {
            reserved: function.reserved,
            provisioned: function.provisioned,
            running: function.running + function.running_provisioned,
        }
    }
}

impl Drop for FunctionConcurrency {
    fn drop(&mut self) {
        let mut state = self.account.lock();
        state.functions[self.index] = Function::default();
        state.vacant.push(self.index);
        state.limits_changed();
    }
}

impl Permit {
    /// The caller has its answer.
    pub fn answered(&mut self, now: Instant) {
        if self.provisioned || self.answered {
            return;
        }
        self.answered = true;
        let settling = Settling { permit: self.id, function: self.function.index, since: now };
        self.function.account.lock().settling.push(settling);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.function.account.lock();
        let function = &mut state.functions[self.function.index];
        if self.provisioned {
            function.running_provisioned -= 1;
            return;
        }
        function.running -= 1;
        if function.reserved.is_none() {
            state.unreserved -= 1;
        }
        if self.answered
            && let Some(place) = state.settling.iter().position(|settling| settling.permit == self.id)
        {
            state.settling.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_has_so_much_and_no_more() {
        let account = Account::new(2);
        let (one, other) = (account.function(), account.function());
        let first = one.acquire().unwrap();
        let _second = other.acquire().unwrap();
        assert_eq!(one.acquire().err(), Some(Throttled::Account));
        drop(first);
        assert!(other.acquire().is_ok());
    }

    #[test]
    fn a_reservation_is_a_limit_and_a_guarantee() {
        let account = Account::new(3);
        let (greedy, careful) = (account.function(), account.function());
        careful.reserve(Some(1));
        let _greedy = [greedy.acquire().unwrap(), greedy.acquire().unwrap()];
        assert_eq!(greedy.acquire().err(), Some(Throttled::Account), "the third one is reserved");
        let _careful = careful.acquire().unwrap();
        assert_eq!(careful.acquire().err(), Some(Throttled::Reserved));
        careful.reserve(Some(0));
        assert_eq!(careful.acquire().err(), Some(Throttled::Reserved));
    }

    #[test]
    fn a_reservation_of_zero_refuses_all() {
        let function = Account::new(1000).function();
        function.reserve(Some(0));
        assert_eq!(function.acquire().err(), Some(Throttled::Reserved));
    }

    #[test]
    fn what_runs_moves_with_its_function_when_that_reserves() {
        let account = Account::new(2);
        let (one, other) = (account.function(), account.function());
        let running = one.acquire().unwrap();
        one.reserve(Some(1));
        let _taken = other.acquire().unwrap();
        assert!(other.acquire().is_err(), "one of two is reserved");
        one.reserve(None);
        assert!(other.acquire().is_err(), "and back");
        drop(running);
        assert!(other.acquire().is_ok());
        assert_eq!(account.figures().running, 1);
    }

    #[test]
    fn provisioned_environments_count_whether_they_run_or_not() {
        let account = Account::new(3);
        let (provisioned, other) = (account.function(), account.function());
        provisioned.change_provisioned(0, 2);
        let _running = other.acquire().unwrap();
        assert_eq!(other.acquire().err(), Some(Throttled::Account));
        let _first = provisioned.acquire_provisioned();
        assert_eq!(provisioned.figures(), FunctionFigures { reserved: None, provisioned: 2, running: 1 });
        provisioned.reserve(Some(2));
        assert_eq!(
            provisioned.acquire().err(),
            Some(Throttled::Reserved),
            "no room beside the provisioned ones"
        );
        assert_eq!(
            account.figures(),
            AccountFigures { limit: 3, reserved: 2, provisioned: 0, running: 2 },
            "what is provisioned is part of the reservation"
        );
        provisioned.change_provisioned(2, 0);
        assert!(provisioned.acquire().is_ok());
    }

    #[test]
    fn whoever_has_its_answer_may_come_again_at_once() {
        let function = Account::new(1000).function();
        function.reserve(Some(1));
        let mut first = function.acquire().unwrap();
        assert!(function.acquire().is_err());
        first.answered(Instant::now());
        let mut second = function.acquire().unwrap();
        assert!(function.acquire().is_err(), "once");
        drop(first);
        assert!(function.acquire().is_err());
        second.answered(Instant::now().checked_sub(SETTLING).unwrap());
        assert!(function.acquire().is_err(), "it takes too long to end");
        drop(second);
        assert!(function.acquire().is_ok());
    }

    #[test]
    fn the_place_of_a_function_that_is_gone_is_empty() {
        let account = Account::new(5);
        account.function().reserve(Some(3));
        assert_eq!(account.figures().reserved, 0);
        assert_eq!(account.function().figures().reserved, None);
    }
}
