//! What waits to be sent to one subscriber: batches by items, bytes and time, in bounded memory (spec
//! extensions-telemetry 2.4). No clock and no socket: the time is passed in.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use super::event::{Event, Record};
use super::subscription::Buffering;
use super::subscription::Schema;

/// So many full batches wait behind the one that is being sent. What comes after them is dropped and reported.
pub const MAX_WAITING: usize = 8;

/// The platform's own words.
const TOO_SLOW: &str =
    "Some logs were dropped because the downstream consumer is slower than the logs production rate";

/// Events that are sent together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    events: Vec<String>,
    bytes: usize,
}

impl Batch {
    /// One JSON array, as HTTP subscribers get it.
    pub fn array(&self) -> String {
        format!("[{}]", self.events.join(","))
    }

    /// One object per line, as TCP subscribers get it.
    pub fn lines(&self) -> String {
        let mut lines = String::with_capacity(self.bytes + self.events.len());
        for event in &self.events {
            lines.push_str(event);
            lines.push('\n');
        }
        lines
    }
}

/// The batches of one subscriber.
#[derive(Debug)]
pub struct Queue {
    buffering: Buffering,
    schema: Schema,
    /// Whether losses are reported: they are platform events.
    reports_losses: bool,
    filling: Batch,
    /// Since when the batch has an event, or a loss to report.
    since: Option<Instant>,
    full: VecDeque<Batch>,
    dropped_records: usize,
    dropped_bytes: usize,
}

impl Queue {
    /// An empty queue.
    pub fn new(buffering: Buffering, schema: Schema, reports_losses: bool) -> Self {
        Self {
            buffering,
            schema,
            reports_losses,
            filling: Batch::default(),
            since: None,
            full: VecDeque::new(),
            dropped_records: 0,
            dropped_bytes: 0,
        }
    }

    /// Whether the sender must look again: a batch has become full, or has begun.
    pub fn push(&mut self, event: &Event, now: Instant) -> bool {
        let Some(json) = event.json(self.schema) else { return false };
        if self.full.len() >= MAX_WAITING {
            self.dropped_records += 1;
            self.dropped_bytes += json.len();
            // The report of the loss is due like an event.
            self.since.get_or_insert(now);
            return false;
        }
        self.report_losses(event.time);
        self.add(json, now)
    }

    fn add(&mut self, json: String, now: Instant) -> bool {
        let begun = self.since.is_none();
        self.since.get_or_insert(now);
        self.filling.bytes += json.len();
        self.filling.events.push(json);
        let full = self.filling.events.len() >= self.buffering.max_items
            || self.filling.bytes >= self.buffering.max_bytes;
        if full {
            self.close_batch();
        }
        begun || full
    }

    fn report_losses(&mut self, time: SystemTime) {
        let (records, bytes) = (self.dropped_records, self.dropped_bytes);
        (self.dropped_records, self.dropped_bytes) = (0, 0);
        if records > 0 && self.reports_losses {
            let record = Record::LogsDropped { reason: TOO_SLOW, records, bytes };
            if let Some(json) = (Event { time, record }).json(self.schema) {
                self.filling.bytes += json.len();
                self.filling.events.push(json);
            }
        }
    }

    fn close_batch(&mut self) {
        self.since = None;
        let batch = std::mem::take(&mut self.filling);
        if !batch.events.is_empty() {
            self.full.push_back(batch);
        }
    }

    /// When the batch that fills is due; `None` while there is nothing in it.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.buffering.timeout)
    }

    /// The next batch, if one is full or due; any that has an event, if `all` are wanted.
    pub fn take(&mut self, now: Instant, wall: SystemTime, all: bool) -> Option<Batch> {
        if self.full.is_empty() && (all || self.due().is_some_and(|due| due <= now)) {
            self.report_losses(wall);
            self.close_batch();
        }
        self.full.pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.since.is_none() && self.dropped_records == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Origin;
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    const TIMEOUT: Duration = Duration::from_millis(100);

    struct Sender {
        queue: Queue,
        now: Instant,
    }

    impl Sender {
        fn new(max_items: usize, max_bytes: usize) -> Self {
            let buffering = Buffering { max_items, max_bytes, timeout: TIMEOUT };
            let queue = Queue::new(buffering, Schema::V2022_07_01, true);
            Self { queue, now: Instant::now() }
        }

        fn line(&mut self, text: &str) -> bool {
            let record = Record::Line { origin: Origin::Function, text: text.to_owned(), json: false };
            self.queue.push(&Event { time: UNIX_EPOCH, record }, self.now)
        }

        fn take(&mut self) -> Option<Batch> {
            self.queue.take(self.now, UNIX_EPOCH, false)
        }
    }

    fn of(line: &str) -> String {
        format!(r#"{{"time":"1970-01-01T00:00:00.000Z","type":"function","record":"{line}"}}"#)
    }

    #[test]
    fn a_batch_is_due_when_its_first_event_is_old_enough() {
        let mut sender = Sender::new(1000, 262_144);
        assert_eq!(sender.queue.due(), None);
        assert!(sender.line("a"), "the sender must learn of the new deadline");
        sender.now += TIMEOUT / 2;
        assert!(!sender.line("b"), "which a second event does not change");
        assert_eq!(sender.take(), None);
        sender.now += TIMEOUT / 2;
        assert_eq!(sender.queue.due(), Some(sender.now));
        let batch = sender.take().unwrap();
        assert_eq!(batch.array(), format!("[{},{}]", of("a"), of("b")));
        assert_eq!(batch.lines(), format!("{}\n{}\n", of("a"), of("b")));
        assert!(sender.queue.is_empty());
        assert_eq!((sender.queue.due(), sender.take()), (None, None));
    }

    #[test]
    fn a_batch_is_sent_when_it_has_all_its_items() {
        let mut sender = Sender::new(3, 262_144);
        sender.line("a");
        sender.line("b");
        assert_eq!(sender.take(), None);
        assert!(sender.line("c"));
        assert_eq!(sender.take().unwrap().events.len(), 3);
        assert!(sender.line("d"), "a new batch has begun");
    }

    #[test]
    fn a_batch_is_sent_when_it_has_its_bytes() {
        let mut sender = Sender::new(1000, 2 * of("a").len());
        sender.line("a");
        assert_eq!(sender.take(), None);
        sender.line("b");
        assert_eq!(sender.take().unwrap().events.len(), 2);
    }

    #[test]
    fn everything_can_be_taken_before_its_time() {
        let mut sender = Sender::new(2, 262_144);
        for text in ["a", "b", "c"] {
            sender.line(text);
        }
        let mut take = || sender.queue.take(sender.now, UNIX_EPOCH, true).map(|batch| batch.events.len());
        assert_eq!((take(), take(), take()), (Some(2), Some(1), None));
    }

    #[test]
    fn a_subscriber_that_is_too_slow_loses_events_and_is_told() {
        let mut sender = Sender::new(1, 262_144);
        for number in 0..MAX_WAITING + 3 {
            sender.line(&number.to_string());
        }
        assert_eq!(sender.take().unwrap().array(), format!("[{}]", of("0")));
        sender.line("later");
        let mut rest = Vec::new();
        while let Some(batch) = sender.queue.take(sender.now, UNIX_EPOCH, true) {
            rest.extend(batch.events);
        }
        let bytes = of("8").len() + of("9").len() + of("10").len();
        let report = &rest[MAX_WAITING - 1];
        assert!(report.contains(r#""type":"platform.logsDropped""#), "{report}");
        assert!(report.contains(&format!(r#""droppedRecords":3,"droppedBytes":{bytes}"#)), "{report}");
        assert_eq!(rest[MAX_WAITING..], [of("later")]);
    }

    #[test]
    fn a_loss_is_told_even_if_nothing_comes_after_it() {
        let mut sender = Sender::new(1, 262_144);
        for _ in 0..=MAX_WAITING {
            sender.line("x");
        }
        for _ in 0..MAX_WAITING {
            sender.take().unwrap();
        }
        assert!(!sender.queue.is_empty());
        let last = sender.queue.take(sender.now, UNIX_EPOCH, true).unwrap();
        assert!(last.array().contains("platform.logsDropped"));
        assert!(sender.queue.is_empty());
    }

    #[test]
    fn a_loss_is_told_in_time_without_another_event() {
        let mut sender = Sender::new(1, 262_144);
        for _ in 0..=MAX_WAITING {
            sender.line("x");
        }
        sender.now += TIMEOUT / 2;
        while sender.take().is_some() {}
        let due = sender.queue.due().expect("the sender must look again");
        sender.now = due;
        assert!(sender.take().unwrap().array().contains("platform.logsDropped"));
        assert!(sender.queue.is_empty());
        assert_eq!(sender.queue.due(), None);
    }

    #[test]
    fn who_takes_no_platform_events_is_not_told_of_losses() {
        let mut sender = Sender::new(1, 262_144);
        sender.queue.reports_losses = false;
        for _ in 0..=MAX_WAITING {
            sender.line("x");
        }
        while sender.take().is_some() {}
        assert_eq!(sender.queue.take(sender.now, UNIX_EPOCH, true), None);
        assert!(sender.queue.is_empty());
    }

    #[test]
    fn events_that_the_schema_does_not_know_are_left_out() {
        let mut sender = Sender::new(1000, 262_144);
        let record = Record::End { request_id: "id".to_owned() };
        assert!(!sender.queue.push(&Event { time: UNIX_EPOCH, record }, sender.now));
        assert!(sender.queue.is_empty());
    }
}
