//! Everything that subscribers could be told, and what extensions were told, kept for whoever made the environment: the
//! tests of a function.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::event::{Event, push_time};
use super::subscription::Schema;
use crate::error_document::push_json_string;

/// So many entries are kept for who does not take them; then the oldest go.
const LIMIT: usize = 100_000;

/// Entries in the newest schema, as JSON documents, in the order in which they happened.
///
/// Two types are not of the catalogue: `caloric.extensionEvent`, an event that was handed to an extension, and
/// `caloric.shutdown`, the beginning of the Shutdown phase.
#[derive(Debug, Default)]
pub struct Recorder {
    entries: VecDeque<String>,
}

impl Recorder {
    /// An event of the catalogue. What only the Logs API knows is left out.
    pub fn event(&mut self, event: &Event) {
        if let Some(json) = event.json(Schema::V2025_01_29) {
            self.push(json);
        }
    }

    /// The extension called `name` gets `event`, a JSON document.
    pub fn extension_event(&mut self, name: &str, event: &[u8], time: SystemTime) {
        let mut json = entry("caloric.extensionEvent", time);
        json.push_str("{\"name\":");
        push_json_string(&mut json, name);
        json.push_str(",\"event\":");
        json.push_str(&String::from_utf8_lossy(event));
        json.push_str("}}");
        self.push(json);
    }

    /// All processes are about to end, for `reason`.
    pub fn shutdown(&mut self, reason: &str, time: SystemTime) {
        let mut json = entry("caloric.shutdown", time);
        json.push_str("{\"reason\":");
        push_json_string(&mut json, reason);
        json.push_str("}}");
        self.push(json);
    }

    /// What was recorded since the last call.
    pub fn take(&mut self) -> Vec<String> {
        self.entries.drain(..).collect()
    }

    fn push(&mut self, json: String) {
        if self.entries.len() == LIMIT {
            self.entries.pop_front();
        }
        self.entries.push_back(json);
    }
}

/// The beginning of an entry, up to its record.
fn entry(kind: &str, time: SystemTime) -> String {
    let mut json = String::from("{\"time\":\"");
    push_time(&mut json, time);
    json.push_str("\",\"type\":\"");
    json.push_str(kind);
    json.push_str("\",\"record\":");
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn entries_are_json_and_taken_once() {
        let mut recorder = Recorder::default();
        recorder.extension_event("a\"b", br#"{"eventType":"INVOKE"}"#, UNIX_EPOCH);
        recorder.shutdown("spindown", UNIX_EPOCH);
        let entries = recorder.take();
        assert_eq!(
            entries,
            [
                r#"{"time":"1970-01-01T00:00:00.000Z","type":"caloric.extensionEvent","record":{"name":"a\"b","event":{"eventType":"INVOKE"}}}"#,
                r#"{"time":"1970-01-01T00:00:00.000Z","type":"caloric.shutdown","record":{"reason":"spindown"}}"#,
            ]
        );
        assert!(recorder.take().is_empty());
    }

    #[test]
    fn the_oldest_go_when_nobody_takes_them() {
        let mut recorder = Recorder::default();
        for number in 0..=LIMIT {
            recorder.shutdown(&number.to_string(), UNIX_EPOCH);
        }
        let entries = recorder.take();
        assert_eq!(entries.len(), LIMIT);
        assert!(entries[0].contains(r#""reason":"1""#));
    }
}
