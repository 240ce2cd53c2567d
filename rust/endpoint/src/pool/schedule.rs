//! Which environment runs what: the bookkeeping of a pool, or of one tenant in it, without threads or clocks.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Environments by number, in the order in which they were added, and the work that waits for one. A number is never
/// another environment's.
pub struct Schedule<E, W> {
    limit: usize,
    /// The limit, or how many there are since no more can be made.
    attainable: usize,
    settling: Duration,
    members: BTreeMap<usize, Member<E>>,
    /// The number of the next one.
    next: usize,
    /// The one that was used last is at the end.
    idle: Vec<usize>,
    /// Likewise, of provisioned ones.
    idle_provisioned: Vec<usize>,
    waiting: VecDeque<W>,
    /// Environments that are wanted, and nobody makes yet.
    wanted: Demand,
    /// Environments that somebody makes.
    making: Demand,
}

struct Member<E> {
    environment: E,
    provisioned: bool,
    used: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle(Instant),
    Busy,
    /// The caller has its answer; the environment has not come to its end with the invocation.
    Answered(Instant),
}

/// What an environment is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An invocation that waits.
    Invocation,
    /// The minimum that is kept.
    Minimum,
    /// Provisioned concurrency.
    Provisioned,
}

/// Numbers of environments by purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Demand {
    invocations: usize,
    minimum: usize,
    provisioned: usize,
}

impl Demand {
    fn total(self) -> usize {
        self.invocations + self.minimum + self.provisioned
    }

    fn of(&mut self, purpose: Purpose) -> &mut usize {
        match purpose {
            Purpose::Invocation => &mut self.invocations,
            Purpose::Minimum => &mut self.minimum,
            Purpose::Provisioned => &mut self.provisioned,
        }
    }
}

/// How many environments there are without being asked for by an invocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    /// At least so many that are not provisioned.
    pub minimum: usize,
    /// So many for provisioned concurrency.
    pub provisioned: usize,
}

/// Which idle environments are to go.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// Those that have not been used for so long, but for those that are kept.
    pub idle: Option<Duration>,
    /// What is kept.
    pub keep: Ahead,
    /// All, unless work waits for them.
    pub all: bool,
}

/// An idle environment that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub member: usize,
    /// It is for provisioned concurrency.
    pub provisioned: bool,
    /// It has had an invocation before.
    pub used: bool,
}

impl<E, W> Schedule<E, W> {
    /// No environments, and up to `limit` later. One that has answered is waited for as long as `settling`.
    pub fn new(limit: usize, settling: Duration) -> Self {
        Self {
            limit,
            attainable: limit,
            settling,
            members: BTreeMap::new(),
            next: 0,
            idle: Vec::new(),
            idle_provisioned: Vec::new(),
            waiting: VecDeque::new(),
            wanted: Demand::default(),
            making: Demand::default(),
        }
    }

    /// Whether an idle environment is there, and is provisioned: the one that [`Self::take_idle`] would take.
    pub fn next_idle(&self) -> Option<bool> {
        if self.idle_provisioned.is_empty() { self.idle.last().map(|_| false) } else { Some(true) }
    }

    /// The idle environment that was used last, busy from now on: a provisioned one before others.
    pub fn take_idle(&mut self) -> Option<Taken> {
        let member = self.idle_provisioned.pop().or_else(|| self.idle.pop())?;
        Some(self.begin(member))
    }

    fn begin(&mut self, member: usize) -> Taken {
        let Some(place) = self.members.get_mut(&member) else {
            return Taken { member, provisioned: false, used: false };
        };
        place.state = State::Busy;
        let used = std::mem::replace(&mut place.used, true);
        Taken { member, provisioned: place.provisioned, used }
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
    pub fn add(&mut self, environment: E, purpose: Purpose, now: Instant) -> (Taken, Option<W>) {
        let making = self.making.of(purpose);
        *making = making.saturating_sub(1);
        let provisioned = purpose == Purpose::Provisioned;
        let member = self.next;
        self.next += 1;
        self.members
            .insert(member, Member { environment, provisioned, used: false, state: State::Idle(now) });
        if let Some(work) = self.waiting.pop_front() {
            return (self.begin(member), Some(work));
        }
        // It has never been used: all others come before it.
        self.idle_of(provisioned).insert(0, member);
        (Taken { member, provisioned, used: false }, None)
    }

    /// None of the environments is there any more, and those that are being made will not be added. What waits stays.
    /// Returns them.
    pub fn forget_all(&mut self) -> Vec<E> {
        self.attainable = self.limit;
        self.idle.clear();
        self.idle_provisioned.clear();
        self.wanted = Demand::default();
        self.making = Demand::default();
        std::mem::take(&mut self.members).into_values().map(|place| place.environment).collect()
    }

    fn idle_of(&mut self, provisioned: bool) -> &mut Vec<usize> {
        if provisioned { &mut self.idle_provisioned } else { &mut self.idle }
    }

    /// The caller of a busy environment has its answer.
    pub fn answered(&mut self, member: usize, now: Instant) {
        if let Some(place) = self.members.get_mut(&member)
            && place.state == State::Busy
        {
            place.state = State::Answered(now);
        }
    }

    /// An environment is done; what it is to do next, if anything waits and it is still there.
    pub fn release(&mut self, member: usize, now: Instant) -> Option<(Taken, W)> {
        let place = self.members.get_mut(&member)?;
        if let Some(work) = self.waiting.pop_front() {
            return Some((self.begin(member), work));
        }
        place.state = State::Idle(now);
        let provisioned = place.provisioned;
        self.idle_of(provisioned).push(member);
        None
    }

    /// Forget an environment that is no use any more, busy or idle.
    pub fn remove(&mut self, member: usize) -> Option<E> {
        let place = self.members.remove(&member)?;
        self.idle.retain(|idle| *idle != member);
        self.idle_provisioned.retain(|idle| *idle != member);
        Some(place.environment)
    }

    /// Take out idle environments that are to go. Returns them, and when the next one grows too old.
    pub fn sweep(&mut self, sweep: Sweep, now: Instant) -> (Vec<E>, Option<Instant>) {
        let all = sweep.all && self.waiting.is_empty();
        let (spare, spare_provisioned) = if all {
            (usize::MAX, usize::MAX)
        } else {
            let provisioned = self.provisioned();
            (
                (self.len() - provisioned).saturating_sub(sweep.keep.minimum),
                provisioned.saturating_sub(sweep.keep.provisioned),
            )
        };
        // Those that have waited longest go first.
        let mut going: Vec<usize> = self.idle_provisioned.iter().copied().take(spare_provisioned).collect();
        let mut next = None;
        let mut old: Vec<(Instant, usize)> =
            self.idle.iter().filter_map(|member| Some((self.idle_since(*member)?, *member))).collect();
        old.sort_by_key(|(since, _)| *since);
        for (since, member) in old.into_iter().take(spare) {
            match sweep.idle.and_then(|idle| since.checked_add(idle)) {
                _ if all => going.push(member),
                Some(until) if until <= now => going.push(member),
                Some(until) => {
                    next = Some(until);
                    break;
                }
                None => break,
            }
        }
        (going.into_iter().filter_map(|member| self.remove(member)).collect(), next)
    }

    fn idle_since(&self, member: usize) -> Option<Instant> {
        match self.members.get(&member)?.state {
            State::Idle(since) => Some(since),
            _ => None,
        }
    }

    /// Work out how many environments are wanted. Returns if any is, and when to look again if what waits relies on
    /// environments that have answered.
    pub fn review(&mut self, ahead: Ahead, now: Instant) -> (bool, Option<Instant>) {
        if self.waiting.is_empty() && ahead == Ahead::default() {
            self.wanted = Demand::default();
            return (false, None);
        }
        let uncovered = self.waiting.len().saturating_sub(self.making.total());
        let mut settling: Vec<Instant> = Vec::new();
        if uncovered > 0 {
            let until = self.places().filter_map(|place| match place.state {
                State::Answered(since) => Some(since + self.settling),
                _ => None,
            });
            settling.extend(until.filter(|until| *until > now));
            settling.sort_unstable();
        }
        let room = self.attainable.saturating_sub(self.len() + self.making.total());
        let provisioned = self.provisioned();
        let invocations = uncovered.saturating_sub(settling.len()).min(room);
        let others = self.len() - provisioned + self.making.invocations + self.making.minimum + invocations;
        self.wanted = Demand {
            invocations,
            minimum: ahead.minimum.saturating_sub(others),
            provisioned: ahead.provisioned.saturating_sub(provisioned + self.making.provisioned),
        };
        let relies = uncovered > 0 && room > invocations;
        (self.wanted.total() > 0, settling.first().copied().filter(|_| relies))
    }

    /// Take the request for an environment, if there is one, the most urgent one first; [`Self::add`] or
    /// [`Self::give_up`] follows.
    pub fn take_wanted(&mut self) -> Option<Purpose> {
        let purpose = [Purpose::Invocation, Purpose::Provisioned, Purpose::Minimum]
            .into_iter()
            .find(|purpose| *self.wanted.of(*purpose) > 0)?;
        *self.wanted.of(purpose) -= 1;
        *self.making.of(purpose) += 1;
        Some(purpose)
    }

    /// Whether an environment that is being made is of use: whether there would be a reason to ask for it now.
    pub fn is_needed(&self, purpose: Purpose, ahead: Ahead) -> bool {
        let provisioned = self.provisioned();
        match purpose {
            Purpose::Invocation => !self.waiting.is_empty(),
            Purpose::Minimum => self.len() - provisioned < ahead.minimum,
            Purpose::Provisioned => provisioned < ahead.provisioned,
        }
    }

    /// An environment cannot be made. Returns the work that it was for, if that still waits.
    pub fn give_up(&mut self, purpose: Purpose) -> Option<W> {
        let making = self.making.of(purpose);
        *making = making.saturating_sub(1);
        if purpose == Purpose::Invocation { self.waiting.pop_front() } else { None }
    }

    /// An environment cannot be made, and what waits is to wait for those that are there: there will be no others.
    pub fn give_up_for_good(&mut self) {
        self.making.invocations = self.making.invocations.saturating_sub(1);
        self.attainable = self.len();
    }

    /// All that waits.
    pub fn drain(&mut self) -> Vec<W> {
        self.waiting.drain(..).collect()
    }

    /// How much waits.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many environments there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// How many of them are for provisioned concurrency.
    pub fn provisioned(&self) -> usize {
        self.places().filter(|place| place.provisioned).count()
    }

    /// How many there are, and are being made.
    pub fn committed(&self) -> usize {
        self.len() + self.making.total()
    }

    /// There is nothing here, and nothing to come.
    pub fn is_vacant(&self) -> bool {
        self.committed() == 0 && self.waiting.is_empty()
    }

    fn places(&self) -> impl Iterator<Item = &Member<E>> {
        self.members.values()
    }

    /// All environments, with whether they are idle, and provisioned.
    pub fn environments(&self) -> impl Iterator<Item = (&E, bool, bool)> {
        self.places()
            .map(|place| (&place.environment, matches!(place.state, State::Idle(_)), place.provisioned))
    }

    /// The environment with this number.
    pub fn environment(&mut self, member: usize) -> Option<&mut E> {
        self.members.get_mut(&member).map(|place| &mut place.environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLING: Duration = Duration::from_millis(100);
    const NOTHING: Ahead = Ahead { minimum: 0, provisioned: 0 };

    type Scheduled = Schedule<char, &'static str>;

    /// A schedule with `count` idle environments, and room for `limit`.
    fn schedule(count: u8, limit: usize) -> Scheduled {
        let mut schedule = Schedule::new(limit, SETTLING);
        for number in 0..count {
            schedule.add(char::from(b'A' + number), Purpose::Invocation, Instant::now());
        }
        schedule
    }

    fn take(schedule: &mut Scheduled) -> Option<usize> {
        schedule.take_idle().map(|taken| taken.member)
    }

    fn release(schedule: &mut Scheduled, member: usize) -> Option<&'static str> {
        schedule.release(member, Instant::now()).map(|(_, work)| work)
    }

    fn wanted_ahead(schedule: &mut Scheduled, ahead: Ahead, now: Instant) -> Vec<Purpose> {
        schedule.review(ahead, now);
        std::iter::from_fn(|| schedule.take_wanted()).collect()
    }

    fn wanted(schedule: &mut Scheduled, now: Instant) -> usize {
        wanted_ahead(schedule, NOTHING, now).len()
    }

    fn add(schedule: &mut Scheduled, purpose: Purpose) -> (usize, Option<&'static str>) {
        let (taken, work) = schedule.add('x', purpose, Instant::now());
        (taken.member, work)
    }

    #[test]
    fn the_environment_that_was_used_last_is_taken_first() {
        let mut schedule = schedule(3, 3);
        let (first, second) = (take(&mut schedule).unwrap(), take(&mut schedule).unwrap());
        assert_eq!((first, second), (0, 1), "those that were never used stand in their order");
        release(&mut schedule, second);
        release(&mut schedule, first);
        assert_eq!(take(&mut schedule), Some(first));
        assert_eq!(take(&mut schedule), Some(second));
        assert_eq!(take(&mut schedule), Some(2));
        assert_eq!(take(&mut schedule), None);
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
        assert_eq!(add(&mut schedule, Purpose::Invocation), (1, Some("a")));
        assert_eq!(add(&mut schedule, Purpose::Invocation), (2, Some("b")));
        assert_eq!(wanted(&mut schedule, now), 0);
        assert_eq!(release(&mut schedule, 1), Some("c"));
        assert_eq!(release(&mut schedule, 0), None);
    }

    #[test]
    fn what_is_no_longer_needed_is_no_longer_wanted_and_what_is_made_is_kept() {
        let now = Instant::now();
        let mut schedule = schedule(1, 9);
        schedule.take_idle();
        schedule.wait("a");
        schedule.wait("b");
        schedule.review(NOTHING, now);
        assert_eq!(schedule.take_wanted(), Some(Purpose::Invocation));
        assert!(schedule.is_needed(Purpose::Invocation, NOTHING));
        assert_eq!(release(&mut schedule, 0), Some("a"));
        assert_eq!(release(&mut schedule, 0), Some("b"));
        assert!(!schedule.is_needed(Purpose::Invocation, NOTHING));
        assert_eq!(wanted(&mut schedule, now), 0);
        assert_eq!(release(&mut schedule, 0), None);
        assert_eq!(add(&mut schedule, Purpose::Invocation), (1, None));
        assert_eq!(take(&mut schedule), Some(0), "the new one has never been used");
        assert_eq!(take(&mut schedule), Some(1));
    }

    #[test]
    fn an_environment_that_has_answered_is_waited_for_but_not_for_long() {
        let now = Instant::now();
        let mut schedule = schedule(2, 9);
        schedule.take_idle();
        schedule.take_idle();
        schedule.answered(0, now);
        schedule.wait("a");
        assert_eq!(schedule.review(NOTHING, now), (false, Some(now + SETTLING)));
        schedule.wait("b");
        assert_eq!(
            schedule.review(NOTHING, now),
            (true, Some(now + SETTLING)),
            "only one of them is about to be free"
        );
        assert_eq!(wanted(&mut schedule, now), 1);
        assert_eq!(wanted(&mut schedule, now + SETTLING), 1);
        assert_eq!(schedule.review(NOTHING, now + SETTLING), (false, None));
    }

    #[test]
    fn at_the_limit_nobody_looks_again_for_what_cannot_be() {
        let now = Instant::now();
        let mut schedule = schedule(1, 1);
        schedule.take_idle();
        schedule.answered(0, now);
        schedule.wait("a");
        assert_eq!(schedule.review(NOTHING, now), (false, None));
    }

    #[test]
    fn after_a_failure_to_make_one_those_that_are_there_must_do() {
        let now = Instant::now();
        let mut schedule = schedule(1, 9);
        schedule.take_idle();
        schedule.wait("a");
        assert_eq!(wanted(&mut schedule, now), 1);
        schedule.give_up_for_good();
        assert_eq!(wanted(&mut schedule, now), 0);
        assert_eq!(release(&mut schedule, 0), Some("a"));
    }

    #[test]
    fn one_that_cannot_be_made_costs_one_invocation() {
        let now = Instant::now();
        let mut schedule = schedule(0, 9);
        schedule.wait("a");
        schedule.wait("b");
        assert_eq!(wanted(&mut schedule, now), 2);
        assert_eq!(schedule.give_up(Purpose::Invocation), Some("a"));
        assert_eq!(wanted(&mut schedule, now), 0, "the other one is still being made");
        assert_eq!(schedule.give_up(Purpose::Invocation), Some("b"));
        assert!(schedule.is_vacant());
    }

    #[test]
    fn an_answer_of_one_that_is_not_busy_changes_nothing() {
        let now = Instant::now();
        let mut schedule = schedule(1, 2);
        schedule.answered(0, now);
        assert_eq!(take(&mut schedule), Some(0));
        assert_eq!(schedule.drain(), Vec::<&str>::new());
    }

    #[test]
    fn the_first_invocation_of_an_environment_is_told_from_the_others() {
        let mut schedule = schedule(1, 1);
        assert!(!schedule.take_idle().unwrap().used);
        release(&mut schedule, 0);
        assert!(schedule.take_idle().unwrap().used);
    }

    #[test]
    fn provisioned_environments_are_made_ahead_and_used_first() {
        let now = Instant::now();
        let mut schedule = schedule(1, usize::MAX);
        let ahead = Ahead { minimum: 2, provisioned: 1 };
        assert_eq!(wanted_ahead(&mut schedule, ahead, now), [Purpose::Provisioned, Purpose::Minimum]);
        assert_eq!(wanted_ahead(&mut schedule, ahead, now), [], "both are being made");
        let (provisioned, _) = add(&mut schedule, Purpose::Provisioned);
        assert_eq!(schedule.next_idle(), Some(true));
        assert_eq!(take(&mut schedule), Some(provisioned));
        assert_eq!(schedule.next_idle(), Some(false));
        assert_eq!(schedule.remove(provisioned), Some('x'));
        assert_eq!(wanted_ahead(&mut schedule, ahead, now), [Purpose::Provisioned], "a lost one is replaced");
    }

    #[test]
    fn what_was_idle_for_too_long_goes_and_the_minimum_stays() {
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        let mut schedule: Scheduled = Schedule::new(9, SETTLING);
        for name in ['a', 'b', 'c'] {
            schedule.add(name, Purpose::Invocation, now);
        }
        schedule.add('p', Purpose::Provisioned, now);
        let keep = Ahead { minimum: 1, provisioned: 1 };
        let sweep = |keep| Sweep { idle: Some(minute), keep, all: false };
        assert_eq!(schedule.sweep(sweep(keep), now), (vec![], Some(now + minute)));
        // The provisioned one, then 'a', which is used again.
        let provisioned = take(&mut schedule).unwrap();
        let first = take(&mut schedule).unwrap();
        schedule.release(first, now + minute / 2);
        schedule.release(provisioned, now);
        let (gone, next) = schedule.sweep(sweep(keep), now + minute);
        assert_eq!((gone, next), (vec!['c', 'b'], None), "the one that is left is the minimum");
        let (gone, _) = schedule.sweep(sweep(NOTHING), now + minute);
        assert_eq!(gone, ['p'], "it is not provisioned any more");
        assert_eq!(schedule.len(), 1);
        assert_eq!(schedule.sweep(sweep(NOTHING), now + minute * 2).0, ['a']);
        assert!(schedule.is_vacant());
    }

    #[test]
    fn a_sweep_of_all_spares_the_busy_and_what_is_needed() {
        let now = Instant::now();
        let mut schedule = schedule(2, 9);
        let busy = take(&mut schedule).unwrap();
        let all = Sweep { idle: None, keep: Ahead { minimum: 5, provisioned: 5 }, all: true };
        assert_eq!(schedule.sweep(all, now).0, ['B']);
        schedule.wait("a");
        assert_eq!(release(&mut schedule, busy), Some("a"));
        assert_eq!(schedule.sweep(all, now).0, []);
        assert_eq!(release(&mut schedule, busy), None);
        assert_eq!(schedule.sweep(all, now).0, ['A']);
    }

    #[test]
    fn a_number_is_not_given_again() {
        let mut schedule = schedule(2, 9);
        assert_eq!(schedule.remove(0), Some('A'));
        assert_eq!(release(&mut schedule, 0), None, "nothing is there");
        assert_eq!(take(&mut schedule), Some(1));
        assert_eq!(add(&mut schedule, Purpose::Invocation).0, 2);
        assert_eq!(schedule.len(), 2);
    }

    #[test]
    fn forgotten_environments_get_nothing_and_what_waits_stays_in_its_order() {
        let now = Instant::now();
        let mut schedule = schedule(2, 2);
        schedule.take_idle();
        schedule.take_idle();
        schedule.wait("c");
        assert_eq!(schedule.forget_all(), ['A', 'B']);
        assert_eq!(release(&mut schedule, 0), None);
        schedule.answered(1, now);
        assert_eq!(take(&mut schedule), None);
        schedule.wait_again(vec!["a", "b"]);
        assert_eq!(add(&mut schedule, Purpose::Invocation), (2, Some("a")));
        assert_eq!(release(&mut schedule, 1), None);
        assert_eq!(wanted(&mut schedule, now), 1);
        assert_eq!(release(&mut schedule, 2), Some("b"));
        assert_eq!(release(&mut schedule, 2), Some("c"));
        assert_eq!(release(&mut schedule, 2), None);
        assert_eq!(take(&mut schedule), Some(2));
    }

    #[test]
    fn after_all_were_forgotten_others_can_be_made_again() {
        let now = Instant::now();
        let mut schedule = schedule(1, 2);
        schedule.take_idle();
        schedule.wait("a");
        assert_eq!(wanted(&mut schedule, now), 1);
        schedule.give_up_for_good();
        schedule.forget_all();
        assert_eq!(add(&mut schedule, Purpose::Invocation), (1, Some("a")));
        schedule.wait("b");
        assert_eq!(wanted(&mut schedule, now), 1);
    }
}
