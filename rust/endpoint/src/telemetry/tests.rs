//! Subscriptions over the life of an environment: history, repetition, resets.

use std::time::{Duration, Instant, SystemTime};

use super::subscription::Schema;
use super::*;

fn body(api: Api, port: u16) -> String {
    let schema = if api == Api::Logs { "2020-08-15" } else { "2022-12-13" };
    format!(
        r#"{{"schemaVersion":"{schema}","types":["platform","function"],"destination":{{"protocol":"TCP","port":{port}}}}}"#
    )
}

struct Environment {
    telemetry: Telemetry,
    now: Instant,
}

impl Environment {
    fn new() -> Self {
        Self { telemetry: Telemetry::new(false, false), now: Instant::now() }
    }

    fn subscribe(&mut self, name: &str, api: Api, port: u16) -> Result<&'static str, Refusal> {
        let accepted = self.telemetry.subscribe(name, api, body(api, port).as_bytes(), self.now);
        accepted.map(|accepted| accepted.state)
    }

    fn end(&mut self, request_id: &str) {
        self.telemetry.record(Record::End { request_id: request_id.to_owned() }, self.now);
    }

    /// What waits for a subscriber, in its own form.
    fn waiting(&self, name: &str) -> Vec<String> {
        let subscribers = self.telemetry.subscribers();
        let subscriber = subscribers.iter().find(|subscriber| subscriber.name == name).expect("subscribed");
        subscriber
            .take_all()
            .iter()
            .flat_map(|batch| batch.lines().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

fn types(events: &[String]) -> Vec<String> {
    events.iter().map(|event| event.split('"').nth(7).unwrap().to_owned()).collect()
}

#[test]
fn what_happened_before_in_init_is_replayed() {
    let mut environment = Environment::new();
    environment.telemetry.function_output(b"early\npar", environment.now);
    environment.end("1");
    assert_eq!(environment.subscribe("obs", Api::Logs, 1), Ok("Subscribed"));
    environment.telemetry.function_output(b"tial\n", environment.now);
    let events = environment.waiting("obs");
    assert_eq!(types(&events), ["function", "platform.end", "function"]);
    assert!(events[0].contains(r#""record":"early\n""#) && events[2].contains(r#""record":"partial\n""#));
}

#[test]
fn the_replay_is_bounded_and_keeps_platform_events() {
    let mut environment = Environment::new();
    let line = format!("{}\n", "x".repeat(100_000));
    for _ in 0..20 {
        environment.telemetry.function_output(line.as_bytes(), environment.now);
    }
    environment.end("1");
    environment.subscribe("obs", Api::Logs, 1).unwrap();
    let events = environment.waiting("obs");
    assert_eq!(events.len(), 11, "ten lines make a megabyte");
    assert!(events[10].contains("platform.end"));
}

#[test]
fn an_identical_repeat_is_no_second_subscription_and_another_one_is_refused() {
    let mut environment = Environment::new();
    environment.subscribe("obs", Api::Logs, 1).unwrap();
    assert_eq!(environment.subscribe("obs", Api::Logs, 1), Ok("Already subscribed"));
    assert_eq!(environment.subscribe("obs", Api::Logs, 2), Err(Refusal::Different(Api::Logs)));
    assert_eq!(environment.subscribe("obs", Api::Telemetry, 1), Err(Refusal::OtherApi(Api::Telemetry)));
    assert_eq!(environment.subscribe("other", Api::Telemetry, 1), Ok("Subscribed"));
    assert_eq!(environment.telemetry.started.len(), 2);
    assert_eq!(environment.telemetry.subscribers().len(), 2);
}

#[test]
fn nobody_can_subscribe_after_init() {
    let mut environment = Environment::new();
    environment.subscribe("obs", Api::Telemetry, 1).unwrap();
    environment.telemetry.close_subscriptions();
    assert_eq!(environment.subscribe("late", Api::Telemetry, 1), Err(Refusal::Closed(Api::Telemetry)));
    assert_eq!(environment.subscribe("obs", Api::Logs, 1), Err(Refusal::Closed(Api::Logs)));
    assert!(environment.telemetry.is_wanted());
}

#[test]
fn without_a_subscriber_nothing_is_wanted_after_init() {
    let mut environment = Environment::new();
    assert!(environment.telemetry.is_wanted());
    environment.end("1");
    environment.telemetry.close_subscriptions();
    assert!(!environment.telemetry.is_wanted());
    environment.end("2");
    environment.telemetry.function_output(b"x\n", environment.now);
    environment.telemetry.reset();
    environment.subscribe("obs", Api::Logs, 1).unwrap();
    assert!(environment.waiting("obs").is_empty(), "a new generation has no old history");
}

#[test]
fn a_failed_init_is_not_replayed_in_the_next_one() {
    let mut environment = Environment::new();
    environment.telemetry.function_output(b"of the failed one\n", environment.now);
    environment.end("1");
    environment.telemetry.reset();
    environment.end("2");
    environment.subscribe("obs", Api::Logs, 1).unwrap();
    let events = environment.waiting("obs");
    assert!(events.len() == 1 && events[0].contains(r#""requestId":"2""#), "{events:?}");
}

#[test]
fn a_subscription_that_comes_back_after_a_reset_goes_on() {
    let mut environment = Environment::new();
    environment.subscribe("obs", Api::Logs, 1).unwrap();
    environment.subscribe("gone", Api::Logs, 2).unwrap();
    environment.telemetry.close_subscriptions();
    environment.telemetry.reset();
    environment.end("report of the failed one");
    assert_eq!(environment.subscribe("obs", Api::Logs, 1), Ok("Already subscribed"));
    environment.telemetry.close_subscriptions();
    let names: Vec<_> = environment.telemetry.subscribers().iter().map(|s| s.name.clone()).collect();
    assert_eq!(names, ["obs"]);
    assert_eq!(environment.waiting("obs").len(), 1);
    assert_eq!(environment.telemetry.started.len(), 2, "delivery goes on, it is not started anew");
    let over: Vec<_> = environment.telemetry.started.iter().map(|subscriber| subscriber.is_over()).collect();
    assert_eq!(over, [false, true]);
}

#[test]
fn another_subscription_after_a_reset_takes_the_place_of_the_old_one() {
    let mut environment = Environment::new();
    environment.subscribe("obs", Api::Logs, 1).unwrap();
    environment.telemetry.reset();
    assert_eq!(environment.subscribe("obs", Api::Telemetry, 2), Ok("Subscribed"));
    let subscribers = environment.telemetry.subscribers();
    assert_eq!(subscribers.len(), 1);
    assert!(environment.telemetry.started[0].is_over() && !subscribers[0].is_over());
    assert_eq!(subscribers[0].subscription.schema, Schema::V2022_12_13);
}

#[test]
fn what_a_process_left_without_a_line_end_is_told_when_it_is_gone() {
    let mut environment = Environment::new();
    environment.subscribe("obs", Api::Logs, 1).unwrap();
    environment.telemetry.function_output(b"last words", environment.now);
    assert!(environment.waiting("obs").is_empty());
    environment.telemetry.function_output_ends(environment.now);
    assert!(environment.waiting("obs")[0].contains(r#""record":"last words""#));
}

#[test]
fn lines_are_objects_where_the_function_logs_in_json() {
    for (json_logs, expected) in [(true, r#""record":{"a": 1}}"#), (false, r#""record":"{\"a\": 1}\n"}"#)] {
        let mut environment =
            Environment { telemetry: Telemetry::new(json_logs, false), now: Instant::now() };
        let body = r#"{"schemaVersion":"2022-12-13","types":["function","extension"],"destination":{"protocol":"TCP","port":1}}"#;
        environment.telemetry.subscribe("obs", Api::Telemetry, body.as_bytes(), environment.now).unwrap();
        environment.telemetry.function_output(b"{\"a\": 1}\n", environment.now);
        environment.telemetry.line(Origin::Extension, "{\"a\": 1}\n", environment.now);
        let events = environment.waiting("obs");
        assert_eq!(types(&events), ["function", "extension"]);
        assert!(events.iter().all(|event| event.ends_with(expected)), "{events:?}");
    }
}

#[test]
fn the_wall_clock_is_told_for_moments_around_now() {
    let (now, wall_now) = (Instant::now(), SystemTime::now());
    let near = |time: SystemTime, expected: SystemTime| {
        let off = time.duration_since(expected).unwrap_or_else(|error| error.duration());
        off < Duration::from_secs(1)
    };
    let later = now + Duration::from_secs(5);
    assert!(near(wall(later), wall_now + Duration::from_secs(5)));
    assert!(near(wall(now), wall_now));
}
