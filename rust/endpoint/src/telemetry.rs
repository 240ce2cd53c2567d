//! The Telemetry API and its predecessor, the Logs API: what happens in an environment, told to the extensions that
//! subscribed (spec extensions-telemetry 2).
//!
//! | file | subject |
//! |---|---|
//! | `subscription` | what a subscriber asks for, and what is wrong with it |
//! | `event` | the catalogue of events and their JSON |
//! | `lines` | output cut into lines |
//! | `queue` | batches, in bounded memory |
//! | `recorder` | everything, for whoever made the environment |
//! | `delivery` | HTTP and TCP sinks, retries, the last batch |
//! | `routes` | the HTTP side |

mod delivery;
mod event;
mod lines;
mod queue;
mod recorder;
pub mod routes;
mod subscription;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub use delivery::{FLUSH_LIMIT, Subscriber, deliver};
pub use event::{
    Event, InitPhase, Instance, Invoked, Metrics, MoreMetrics, Origin, Record, Span, Status, date_of,
};
pub use lines::Lines;
#[cfg(test)]
pub use queue::Batch;
use recorder::Recorder;
pub use subscription::{Api, Refusal, Streams, Subscription};

/// So much of what happens in Init is kept for those who subscribe later in it; output beyond that is not replayed.
const HISTORY_LIMIT: usize = 1024 * 1024;

/// An accepted subscription, as the log line and the event name its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub state: &'static str,
    pub streams: Streams,
}

/// Everybody who subscribed in one environment.
#[derive(Debug)]
pub struct Telemetry {
    json_logs: bool,
    /// Of Managed Instances, which know the latest schema only.
    managed: bool,
    /// Init is not over.
    open: bool,
    history: Vec<Event>,
    history_size: usize,
    subscribers: Vec<Kept>,
    function_output: Lines,
    recorder: Option<Recorder>,
    /// New subscribers, for whom delivery is to be started.
    pub started: Vec<Arc<Subscriber>>,
}

/// A subscription survives a reset: the extension that comes back with the same one goes on where it was.
#[derive(Debug)]
struct Kept {
    subscriber: Arc<Subscriber>,
    /// It was asked for in this generation of the environment.
    confirmed: bool,
}

impl Telemetry {
    /// No subscribers yet. `json_logs` says that the function's log format is JSON, `managed` that
    /// the environment is one of Managed Instances.
    pub fn new(json_logs: bool, managed: bool) -> Self {
        Self {
            json_logs,
            managed,
            open: true,
            history: Vec::new(),
            history_size: 0,
            subscribers: Vec::new(),
            function_output: Lines::default(),
            recorder: None,
            started: Vec::new(),
        }
    }

    /// Keep everything from now on, for [`Self::take_recorded`].
    pub fn record_everything(&mut self) {
        self.recorder = Some(Recorder::default());
    }

    /// What was recorded since the last call.
    pub fn take_recorded(&mut self) -> Vec<String> {
        self.recorder.as_mut().map(Recorder::take).unwrap_or_default()
    }

    /// The extension called `name` gets `event`.
    pub fn extension_event(&mut self, name: &str, event: &[u8], now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.extension_event(name, event, wall(now));
        }
    }

    /// The Shutdown phase begins.
    pub fn shutdown(&mut self, reason: &str, now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.shutdown(reason, wall(now));
        }
    }

    /// Whether anybody may ever learn of what happens now. After an Init without subscribers nobody does.
    pub fn is_wanted(&self) -> bool {
        self.open || self.has_subscribers()
    }

    /// Whether somebody is told of everything.
    pub fn has_subscribers(&self) -> bool {
        !self.subscribers.is_empty() || self.recorder.is_some()
    }

    /// `PUT` of the extension called `name`.
    pub fn subscribe(
        &mut self,
        name: &str,
        api: Api,
        body: &[u8],
        now: Instant,
    ) -> Result<Accepted, Refusal> {
        if !self.open {
            return Err(Refusal::Closed(api));
        }
        let subscription = Subscription::parse(api, self.managed, body)?;
        let streams = subscription.streams;
        if let Some(index) = self.subscribers.iter().position(|kept| kept.subscriber.name == name) {
            let kept = &mut self.subscribers[index];
            if kept.subscriber.subscription == subscription {
                kept.confirmed = true;
                return Ok(Accepted { state: "Already subscribed", streams });
            }
            if kept.confirmed {
                let same_api = kept.subscriber.subscription.api == api;
                return Err(if same_api { Refusal::Different(api) } else { Refusal::OtherApi(api) });
            }
            self.subscribers.remove(index).subscriber.end();
        }
        let subscriber = Arc::new(Subscriber::new(name, subscription));
        for event in &self.history {
            subscriber.push(event, now);
        }
        self.started.push(Arc::clone(&subscriber));
        self.subscribers.push(Kept { subscriber, confirmed: true });
        Ok(Accepted { state: "Subscribed", streams })
    }

    /// Tell everybody, and whoever subscribes later in this Init.
    pub fn record(&mut self, record: Record, now: Instant) {
        if !self.is_wanted() {
            return;
        }
        let event = Event { time: wall(now), record };
        for kept in &self.subscribers {
            kept.subscriber.push(&event, now);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.event(&event);
        }
        let size = event.size();
        let is_line = matches!(event.record, Record::Line { .. });
        if self.open && (!is_line || self.history_size + size <= HISTORY_LIMIT) {
            self.history_size += size;
            self.history.push(event);
        }
    }

    /// What the function wrote.
    pub fn function_output(&mut self, bytes: &[u8], now: Instant) {
        if !self.is_wanted() {
            return;
        }
        let mut lines = std::mem::take(&mut self.function_output);
        lines.push(bytes, |line| self.line(Origin::Function, line, now));
        self.function_output = lines;
    }

    /// The runtime's process is gone: what it left without a line end is complete.
    pub fn function_output_ends(&mut self, now: Instant) {
        let mut lines = std::mem::take(&mut self.function_output);
        lines.finish(|line| self.line(Origin::Function, line, now));
    }

    /// One line of output.
    pub fn line(&mut self, origin: Origin, line: &str, now: Instant) {
        self.record(Record::Line { origin, text: line.to_owned(), json: self.json_logs }, now);
    }

    /// Init is over. Nobody can subscribe any more, and a subscription that was not renewed after a reset ends.
    pub fn close_subscriptions(&mut self) {
        self.open = false;
        self.history = Vec::new();
        self.history_size = 0;
        self.subscribers.retain(|kept| {
            if !kept.confirmed {
                kept.subscriber.end();
            }
            kept.confirmed
        });
    }

    /// A new generation of the environment begins.
    pub fn reset(&mut self) {
        self.open = true;
        self.history.clear();
        self.history_size = 0;
        for kept in &mut self.subscribers {
            kept.confirmed = false;
        }
    }

    /// The extensions stand still: nothing is sent to them meanwhile, and nothing of theirs is late.
    pub fn pause(&self, paused: bool) {
        for kept in &self.subscribers {
            kept.subscriber.pause(paused);
        }
    }

    /// Those whose last events must be sent before the environment ends.
    pub fn subscribers(&self) -> Vec<Arc<Subscriber>> {
        self.subscribers.iter().map(|kept| Arc::clone(&kept.subscriber)).collect()
    }
}

/// The wall clock's time at a moment of the recent past.
pub fn wall(at: Instant) -> SystemTime {
    let (now, wall) = (Instant::now(), SystemTime::now());
    match at.checked_duration_since(now) {
        Some(ahead) => wall + ahead,
        None => wall - now.duration_since(at),
    }
}
