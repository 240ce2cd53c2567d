//! Which environment runs what: the bookkeeping of a pool, without environments, threads or clocks.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Environments by number, in the order in which they were added, and the work that waits for one. A number is never
/// another environment's.
pub struct Schedule<W> {
    limit: usize,
    /// The limit, or how many there are since no more can be made.
    attainable: usize,
    settling: Duration,
    members: BTreeMap<usize, Member>,
    /// The number of the next one.
    next: usize,
    /// The one that was used last is at the end.
    idle: Vec<usize>,
    waiting: VecDeque<W>,
    /// Environments that are wanted, and nobody makes yet.
    wanted: usize,
    /// Environments that somebody makes.
    making: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Idle,
    Busy,
    /// The caller has its answer; the environment has not come to its end with the invocation.
    Answered(Instant),
}

impl<W> Schedule<W> {
    /// No environments, and up to `limit` later. One that has answered is waited for as long as `settling`.
    pub fn new(limit: usize, settling: Duration) -> Self {
        Self {
            limit,
            attainable: limit,
            settling,
            members: BTreeMap::new(),
            next: 0,
            idle: Vec::new(),
            waiting: VecDeque::new(),
            wanted: 0,
            making: 0,
        }
    }

    /// The idle environment that was used last, busy from now on.
    pub fn take_idle(&mut self) -> Option<usize> {
        let member = self.idle.pop()?;
        self.members.insert(member, Member::Busy);
        Some(member)
    }

    /// Nobody is idle: the work waits.
    pub fn wait(&mut self, work: W) {
        self.waiting.push_back(work);
    }

    /// Work that an environment gives back: it comes before all that waits.
    pub fn wait_again(&mut self, works: Vec<W>) {
        for work in works.into_iter().rev() {
            self.waiting.push_front(work);
        }
    }

    /// A new environment, and what it is to do at once.
    pub fn add(&mut self) -> (usize, Option<W>) {
        let member = self.next;
        self.next += 1;
        self.making = self.making.saturating_sub(1);
        let work = self.waiting.pop_front();
        if work.is_some() {
            self.members.insert(member, Member::Busy);
        } else {
            self.members.insert(member, Member::Idle);
            // It has never been used: all others come before it.
            self.idle.insert(0, member);
        }
        (member, work)
    }

    /// None of the environments is there any more, and those that are being made will not be added. What waits stays.
    pub fn forget_all(&mut self) {
        self.attainable = self.limit;
        self.members.clear();
        self.idle.clear();
        self.wanted = 0;
        self.making = 0;
    }

    /// The caller of a busy environment has its answer.
    pub fn answered(&mut self, member: usize, now: Instant) {
        if let Some(state @ Member::Busy) = self.members.get_mut(&member) {
            *state = Member::Answered(now);
        }
    }

    /// An environment is done; what it is to do next, if anything waits and it is still there.
    pub fn release(&mut self, member: usize) -> Option<W> {
        let state = self.members.get_mut(&member)?;
        let work = self.waiting.pop_front();
        if work.is_some() {
            *state = Member::Busy;
        } else {
            *state = Member::Idle;
            self.idle.push(member);
        }
        work
    }

    /// Work out how many environments are wanted. Returns if any is, and when to look again if what waits relies on
    /// environments that have answered.
    pub fn review(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let uncovered = self.waiting.len().saturating_sub(self.making);
        let mut settling: Vec<Instant> = self
            .members
            .values()
            .filter_map(|member| match member {
                Member::Answered(since) => Some(*since + self.settling),
                _ => None,
            })
            .filter(|until| *until > now)
            .collect();
        settling.sort_unstable();
        let room = self.attainable.saturating_sub(self.members.len() + self.making);
        self.wanted = uncovered.saturating_sub(settling.len()).min(room);
        let relies = uncovered > 0 && room > self.wanted;
        (self.wanted > 0, settling.first().copied().filter(|_| relies))
    }

    /// Take the request for an environment, if there is one; [`Self::add`] or [`Self::give_up`] follows.
    pub fn take_wanted(&mut self) -> bool {
        let taken = self.wanted > 0;
        if taken {
            self.wanted -= 1;
            self.making += 1;
        }
        taken
    }

    /// An environment cannot be made: there will be no others.
    pub fn give_up(&mut self) {
        self.making = self.making.saturating_sub(1);
        self.attainable = self.members.len();
    }

    /// All that waits.
    pub fn drain(&mut self) -> Vec<W> {
        self.waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLING: Duration = Duration::from_millis(100);

    /// A schedule with `count` idle environments, and room for `limit`.
    fn schedule(count: usize, limit: usize) -> Schedule<&'static str> {
        let mut schedule = Schedule::new(limit, SETTLING);
        for _ in 0..count {
            schedule.add();
        }
        schedule
    }

    fn wanted(schedule: &mut Schedule<&'static str>, now: Instant) -> usize {
        schedule.review(now);
        let mut count = 0;
        while schedule.take_wanted() {
            count += 1;
        }
        count
    }

    #[test]
    fn the_environment_that_was_used_last_is_taken_first() {
        let mut schedule = schedule(3, 3);
        let (first, second) = (schedule.take_idle().unwrap(), schedule.take_idle().unwrap());
        assert_eq!((first, second), (0, 1), "those that were never used stand in their order");
        schedule.release(second);
        schedule.release(first);
        assert_eq!(schedule.take_idle(), Some(first));
        assert_eq!(schedule.take_idle(), Some(second));
        assert_eq!(schedule.take_idle(), Some(2));
        assert_eq!(schedule.take_idle(), None);
    }

    #[test]
    fn each_invocation_that_waits_wants_one_environment_up_to_the_limit() {
        let now = Instant::now();
        let mut schedule = schedule(1, 3);
        schedule.take_idle();
        assert_eq!(wanted(&mut schedule, now), 0);
        schedule.wait("a");
        assert_eq!(wanted(&mut schedule, now), 1);
        assert_eq!(wanted(&mut schedule, now), 0, "one is being made for it");
        schedule.wait("b");
        schedule.wait("c");
        assert_eq!(wanted(&mut schedule, now), 1);
        assert_eq!(schedule.add(), (1, Some("a")));
        assert_eq!(schedule.add(), (2, Some("b")));
        assert_eq!(wanted(&mut schedule, now), 0);
        assert_eq!(schedule.release(1), Some("c"));
        assert_eq!(schedule.release(0), None);
    }

    #[test]
    fn what_is_no_longer_needed_is_no_longer_wanted_and_what_is_made_is_kept() {
        let now = Instant::now();
        let mut schedule = schedule(1, 9);
        schedule.take_idle();
        schedule.wait("a");
        schedule.wait("b");
        schedule.review(now);
        assert!(schedule.take_wanted());
        assert_eq!(schedule.release(0), Some("a"));
        assert_eq!(schedule.release(0), Some("b"));
        assert_eq!(wanted(&mut schedule, now), 0);
        assert_eq!(schedule.release(0), None);
        assert_eq!(schedule.add(), (1, None));
        assert_eq!(schedule.take_idle(), Some(0), "the new one has never been used");
        assert_eq!(schedule.take_idle(), Some(1));
    }

    #[test]
    fn an_environment_that_has_answered_is_waited_for_but_not_for_long() {
        let now = Instant::now();
        let mut schedule = schedule(2, 9);
        schedule.take_idle();
        schedule.take_idle();
        schedule.answered(0, now);
        schedule.wait("a");
        assert_eq!(schedule.review(now), (false, Some(now + SETTLING)));
        schedule.wait("b");
        assert_eq!(
            schedule.review(now),
            (true, Some(now + SETTLING)),
            "only one of them is about to be free"
        );
        assert_eq!(wanted(&mut schedule, now), 1);
        assert_eq!(wanted(&mut schedule, now + SETTLING), 1);
        assert_eq!(schedule.review(now + SETTLING), (false, None));
    }

    #[test]
    fn at_the_limit_nobody_looks_again_for_what_cannot_be() {
        let now = Instant::now();
        let mut schedule = schedule(1, 1);
        schedule.take_idle();
        schedule.answered(0, now);
        schedule.wait("a");
        assert_eq!(schedule.review(now), (false, None));
    }

    #[test]
    fn after_a_failure_to_make_one_those_that_are_there_must_do() {
        let now = Instant::now();
        let mut schedule = schedule(1, 9);
        schedule.take_idle();
        schedule.wait("a");
        assert_eq!(wanted(&mut schedule, now), 1);
        schedule.give_up();
        assert_eq!(wanted(&mut schedule, now), 0);
        assert_eq!(schedule.release(0), Some("a"));
    }

    #[test]
    fn forgotten_environments_get_nothing_and_what_waits_stays_in_its_order() {
        let now = Instant::now();
        let mut schedule = schedule(2, 2);
        schedule.take_idle();
        schedule.take_idle();
        schedule.wait("c");
        schedule.forget_all();
        assert_eq!(schedule.release(0), None);
        schedule.answered(1, now);
        assert_eq!(schedule.take_idle(), None);
        schedule.wait_again(vec!["a", "b"]);
        assert_eq!(schedule.add(), (2, Some("a")));
        assert_eq!(schedule.release(1), None);
        assert_eq!(wanted(&mut schedule, now), 1);
        assert_eq!(schedule.release(2), Some("b"));
        assert_eq!(schedule.release(2), Some("c"));
        assert_eq!(schedule.release(2), None);
        assert_eq!(schedule.take_idle(), Some(2));
    }

    #[test]
    fn after_all_were_forgotten_others_can_be_made_again() {
        let now = Instant::now();
        let mut schedule = schedule(1, 2);
        schedule.take_idle();
        schedule.wait("a");
        assert_eq!(wanted(&mut schedule, now), 1);
        schedule.give_up();
        schedule.forget_all();
        assert_eq!(schedule.add(), (1, Some("a")));
        schedule.wait("b");
        assert_eq!(wanted(&mut schedule, now), 1);
    }

    #[test]
    fn an_answer_of_one_that_is_not_busy_changes_nothing() {
        let now = Instant::now();
        let mut schedule = schedule(1, 2);
        schedule.answered(0, now);
        assert_eq!(schedule.take_idle(), Some(0));
        assert_eq!(schedule.drain(), Vec::<&str>::new());
    }
}
