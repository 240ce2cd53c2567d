//! What a subscriber asks for, and what is wrong with it (spec extensions-telemetry 2.1 and 2.2).

use std::time::Duration;

use hyper::StatusCode;
use jiter::{JsonArray, JsonValue};

/// The two APIs. One extension may use one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Telemetry,
    Logs,
}

impl Api {
    /// As in error types and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Telemetry => "Telemetry",
            Self::Logs => "Logs",
        }
    }
}

/// The form of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schema {
    /// Logs.
    V2020_08_15,
    /// Logs, with `platform.runtimeDone`.
    V2021_03_18,
    /// Telemetry: init, spans, metrics.
    V2022_07_01,
    /// A function that logs in JSON has objects for records.
    V2022_12_13,
    /// `platform.start` names the function.
    V2025_01_29,
}

impl Schema {
    const ALL: [(Api, &str, Self); 5] = [
        (Api::Logs, "2020-08-15", Self::V2020_08_15),
        (Api::Logs, "2021-03-18", Self::V2021_03_18),
        (Api::Telemetry, "2022-07-01", Self::V2022_07_01),
        (Api::Telemetry, "2022-12-13", Self::V2022_12_13),
        (Api::Telemetry, "2025-01-29", Self::V2025_01_29),
    ];
}

/// The streams of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    pub platform: bool,
    pub function: bool,
    pub extension: bool,
}

impl Streams {
    /// The names, in the platform's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [("platform", self.platform), ("function", self.function), ("extension", self.extension)]
            .into_iter()
            .filter_map(|(name, subscribed)| subscribed.then_some(name))
    }
}

/// When a batch is sent: at whichever limit is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffering {
    pub max_items: usize,
    pub max_bytes: usize,
    /// Since the batch's first event.
    pub timeout: Duration,
}

/// Where events go: always to this machine, whatever the host is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Http { port: u16, path: String, method: &'static str },
    Tcp { port: u16 },
}

/// An accepted subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub api: Api,
    pub schema: Schema,
    pub streams: Streams,
    pub buffering: Buffering,
    pub destination: Destination,
}

/// Why there is no subscription. The service's own spelling is not known for all of them (spec 2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Something is wrong with the body: everything that is, in one text.
    Invalid(Api, String),
    /// The extension has another subscription.
    Different(Api),
    /// The extension uses the other API.
    OtherApi(Api),
    /// Init is over.
    Closed(Api),
}

impl Refusal {
    /// The answer's status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Closed(_) => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// `errorType`.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Invalid(Api::Telemetry, _) | Self::Different(Api::Telemetry) => "ValidationError",
            Self::Invalid(Api::Logs, _) | Self::Different(Api::Logs) => "Logs.ValidationError",
            Self::OtherApi(Api::Telemetry) => "Telemetry.AccessDenied",
            Self::OtherApi(Api::Logs) => "Logs.AccessDenied",
            Self::Closed(Api::Telemetry) => "Telemetry.SubscriptionClosed",
            Self::Closed(Api::Logs) => "Logs.SubscriptionClosed",
        }
    }

    /// `errorMessage`.
    pub fn message(&self) -> String {
        match self {
            Self::Invalid(_, problems) => problems.clone(),
            Self::Different(_) => {
                "the extension has a subscription already, and this is another one".to_owned()
            }
            Self::OtherApi(api) => {
                let other = if *api == Api::Logs { Api::Telemetry } else { Api::Logs };
                format!("the extension is subscribed to the {} API and cannot use both", other.name())
            }
            Self::Closed(api) => format!("{} API subscription is closed", api.name()),
        }
    }
}

/// The port that belongs to the platform.
const RESERVED_PORT: u16 = 9001;

impl Subscription {
    /// Read and check the body of a `PUT`. On Managed Instances (`managed`) the Telemetry API has its latest schema only.
    pub fn parse(api: Api, managed: bool, body: &[u8]) -> Result<Self, Refusal> {
        let refuse = |problem: String| Refusal::Invalid(api, problem);
        let document = JsonValue::parse(body, false).map_err(|error| refuse(error.description(body)))?;
        let root =
            Members::of(&document).ok_or_else(|| refuse("the body is not a JSON object".to_owned()))?;
        let mut problems = Vec::new();
        let schema = schema(api, managed, &root, &mut problems);
        let streams = streams(&root, &mut problems);
        let buffering = buffering(&root, &mut problems);
        let destination = destination(&root, &mut problems);
        match (schema, destination) {
            (Some(schema), Some(destination)) if problems.is_empty() => {
                Ok(Self { api, schema, streams, buffering, destination })
            }
            _ => Err(refuse(problems.join("; "))),
        }
    }
}

fn schema(api: Api, managed: bool, root: &Members<'_>, problems: &mut Vec<String>) -> Option<Schema> {
    let known = |of: Api, schema: Schema| {
        of == api && (!managed || api == Api::Logs || schema >= Schema::V2025_01_29)
    };
    let versions = || Schema::ALL.iter().filter(|(of, _, schema)| known(*of, *schema));
    let found = match root.get("schemaVersion") {
        None if api == Api::Logs => return Some(Schema::V2020_08_15),
        None => {
            problems.push("schemaVersion is required".to_owned());
            return None;
        }
        Some(JsonValue::Str(text)) => versions().find(|(_, name, _)| name == text),
        Some(_) => None,
    };
    if found.is_none() {
        let names: Vec<&str> = versions().map(|(_, name, _)| *name).collect();
        problems.push(format!("schemaVersion must be one of {}", names.join(", ")));
    }
    found.map(|(.., schema)| *schema)
}

fn streams(root: &Members<'_>, problems: &mut Vec<String>) -> Streams {
    let mut streams = Streams::default();
    let none = JsonArray::default();
    let types = match root.get("types") {
        Some(JsonValue::Array(types)) => types,
        Some(_) => {
            problems.push("types must be an array".to_owned());
            return streams;
        }
        None => &none,
    };
    if types.is_empty() {
        problems.push("types must name at least one of platform, function, extension".to_owned());
    }
    for kind in types.iter() {
        match kind {
            JsonValue::Str(name) if name == "platform" => streams.platform = true,
            JsonValue::Str(name) if name == "function" => streams.function = true,
            JsonValue::Str(name) if name == "extension" => streams.extension = true,
            other => {
                let name = if let JsonValue::Str(name) = other { name } else { "a value that is no string" };
                problems.push(format!("types: {name} is none of platform, function, extension"));
            }
        }
    }
    streams
}

fn buffering(root: &Members<'_>, problems: &mut Vec<String>) -> Buffering {
    let members = root.object("buffering", problems);
    let mut limit = |name: &str, default: usize, least: usize, most: usize| {
        let Some(value) = members.as_ref().and_then(|members| members.get(name)) else { return default };
        if let JsonValue::Int(number) = value
            && let Ok(number) = usize::try_from(*number)
            && (least..=most).contains(&number)
        {
            return number;
        }
        problems.push(format!("buffering.{name} must be a whole number from {least} to {most}"));
        default
    };
    Buffering {
        max_items: limit("maxItems", 10_000, 1000, 10_000),
        max_bytes: limit("maxBytes", 262_144, 262_144, 1_048_576),
        timeout: Duration::from_millis(limit("timeoutMs", 1000, 25, 30_000) as u64),
    }
}

fn destination(root: &Members<'_>, problems: &mut Vec<String>) -> Option<Destination> {
    if root.get("destination").is_none() {
        problems.push("destination is required".to_owned());
        return None;
    }
    let members = root.object("destination", problems)?;
    let text = |name: &str| match members.get(name) {
        Some(JsonValue::Str(text)) => Some(text.as_ref()),
        _ => None,
    };
    if members.get("encoding").is_some() && text("encoding") != Some("JSON") {
        problems.push("destination.encoding must be JSON".to_owned());
    }
    match text("protocol") {
        Some("HTTP") => {
            let method = match members.get("method") {
                None => Some("POST"),
                Some(_) => ["POST", "PUT"].into_iter().find(|method| text("method") == Some(method)),
            };
            if method.is_none() {
                problems.push("destination.method must be POST or PUT".to_owned());
            }
            let target = match text("URI") {
                Some(uri) => local_target(uri),
                None => Err("destination.URI is required for HTTP".to_owned()),
            };
            match target {
                Ok((port, path)) => Some(Destination::Http { port, path, method: method? }),
                Err(problem) => {
                    problems.push(problem);
                    None
                }
            }
        }
        Some("TCP") => match members.get("port") {
            Some(JsonValue::Int(port)) if (1..=65535).contains(port) && *port != i64::from(RESERVED_PORT) => {
                Some(Destination::Tcp { port: u16::try_from(*port).unwrap_or(RESERVED_PORT) })
            }
            _ => {
                problems.push("destination.port must be a port from 1 to 65535 and not 9001".to_owned());
                None
            }
        },
        _ => {
            problems.push("destination.protocol must be HTTP or TCP".to_owned());
            None
        }
    }
}

/// Port and path of `http://sandbox.localdomain:<port>[/path]`.
fn local_target(uri: &str) -> Result<(u16, String), String> {
    let Some(rest) = uri.strip_prefix("http://") else {
        return Err(format!("destination.URI {uri}: only http:// is supported"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    if !matches!(host, "sandbox.localdomain" | "sandbox") {
        return Err(format!("Invalid destination: the host of {uri} must be sandbox.localdomain"));
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.parse() {
        Ok(port) if digits && port != 0 && port != RESERVED_PORT => port,
        _ if port.is_empty() => return Err(format!("destination.URI {uri}: the port is missing")),
        _ => return Err(format!("destination.URI {uri}: the port must be from 1 to 65535 and not 9001")),
    };
    // It becomes part of a request line.
    if path.contains(|character: char| !character.is_ascii_graphic()) {
        return Err(format!("destination.URI {uri}: the path holds characters that a URI cannot have"));
    }
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((port, format!("{slash}{path}")))
}

/// The members of a JSON object; null counts as absent, and the last of several wins.
struct Members<'a>(&'a [(std::borrow::Cow<'a, str>, JsonValue<'a>)]);

impl<'a> Members<'a> {
    fn of(value: &'a JsonValue<'a>) -> Option<Self> {
        match value {
            JsonValue::Object(members) => Some(Self(members)),
            _ => None,
        }
    }

    fn get(&self, name: &str) -> Option<&'a JsonValue<'a>> {
        let found = self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
        found.filter(|value| **value != JsonValue::Null)
    }

    fn object(&self, name: &str, problems: &mut Vec<String>) -> Option<Members<'a>> {
        let value = self.get(name)?;
        let members = Members::of(value);
        if members.is_none() {
            problems.push(format!("{name} must be an object"));
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: &str = r#""destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:4243/t"}"#;

    fn telemetry(rest: &str) -> Result<Subscription, Refusal> {
        let body = format!(r#"{{"schemaVersion":"2022-12-13","types":["platform"],{rest}}}"#);
        Subscription::parse(Api::Telemetry, false, body.as_bytes())
    }

    fn destination(members: &str) -> Result<Destination, String> {
        telemetry(&format!("\"destination\":{members}"))
            .map(|subscription| subscription.destination)
            .map_err(|refusal| refusal.message())
    }

    #[test]
    fn what_is_left_open_takes_the_documented_defaults() {
        let subscription = telemetry(HTTP).unwrap();
        assert_eq!(subscription.schema, Schema::V2022_12_13);
        assert_eq!(subscription.streams, Streams { platform: true, ..Streams::default() });
        assert_eq!(
            subscription.buffering,
            Buffering { max_items: 10_000, max_bytes: 262_144, timeout: Duration::from_secs(1) }
        );
        let path = "/t".to_owned();
        assert_eq!(subscription.destination, Destination::Http { port: 4243, path, method: "POST" });
        let logs = format!(r#"{{"types":["function","extension"],"unknown":1,{HTTP}}}"#);
        assert_eq!(
            Subscription::parse(Api::Logs, false, logs.as_bytes()).unwrap().schema,
            Schema::V2020_08_15
        );
    }

    #[test]
    fn types_are_a_set() {
        let body = |types: &str| format!(r#"{{"schemaVersion":"2022-07-01","types":{types},{HTTP}}}"#);
        let parse = |types| Subscription::parse(Api::Telemetry, false, body(types).as_bytes()).unwrap();
        let all = parse(r#"["extension","platform","function","platform"]"#);
        assert_eq!(all.streams.names().collect::<Vec<_>>(), ["platform", "function", "extension"]);
        assert_eq!(all, parse(r#"["platform","function","extension"]"#), "it is the same subscription");
    }

    #[test]
    fn each_api_has_its_schemas() {
        for (api, name, expected) in Schema::ALL {
            let body = format!(r#"{{"schemaVersion":"{name}","types":["platform"],{HTTP}}}"#);
            assert_eq!(Subscription::parse(api, false, body.as_bytes()).unwrap().schema, expected);
            let other = if api == Api::Logs { Api::Telemetry } else { Api::Logs };
            assert!(Subscription::parse(other, false, body.as_bytes()).is_err(), "{name}");
        }
        let without = format!(r#"{{"types":["platform"],{HTTP}}}"#);
        let refused = Subscription::parse(Api::Telemetry, false, without.as_bytes()).unwrap_err();
        assert_eq!(refused.message(), "schemaVersion is required");
    }

    #[test]
    fn buffering_is_taken_field_by_field() {
        let body = format!(r#""buffering":{{"maxItems":1000,"timeoutMs":25,"maxBytes":null}},{HTTP}"#);
        let buffering = telemetry(&body).unwrap().buffering;
        assert_eq!((buffering.max_items, buffering.max_bytes), (1000, 262_144));
        assert_eq!(buffering.timeout, Duration::from_millis(25));
    }

    #[test]
    fn each_limit_has_its_bounds() {
        for (field, least, most) in
            [("maxItems", 1000, 10_000), ("maxBytes", 262_144, 1_048_576), ("timeoutMs", 25, 30_000)]
        {
            let with = |value: i64| telemetry(&format!(r#""buffering":{{"{field}":{value}}},{HTTP}"#));
            assert!(with(least).is_ok() && with(most).is_ok(), "{field}");
            for outside in [least - 1, most + 1, -1] {
                let refusal = with(outside).unwrap_err();
                let expected = format!("buffering.{field} must be a whole number from {least} to {most}");
                assert_eq!(refusal.message(), expected);
            }
        }
    }

    #[test]
    fn destinations_are_on_this_machine() {
        let http = |uri: &str| destination(&format!(r#"{{"protocol":"HTTP","URI":"{uri}"}}"#));
        let at = |path: &str| Ok(Destination::Http { port: 80, path: path.to_owned(), method: "POST" });
        assert_eq!(http("http://sandbox.localdomain:80"), at("/"));
        assert_eq!(http("http://sandbox:80/a/b?c=d#e"), at("/a/b?c=d"));
        assert_eq!(http("http://sandbox:80?x"), at("/?x"));
        for (uri, problem) in [
            ("https://sandbox.localdomain:80", "only http:// is supported"),
            ("sandbox.localdomain:80", "only http:// is supported"),
            ("http://sandbox.localdomain/t", "the port is missing"),
            ("http://sandbox.localdomain:0/", "the port must be from 1 to 65535 and not 9001"),
            ("http://sandbox.localdomain:9001/", "the port must be from 1 to 65535 and not 9001"),
            ("http://sandbox.localdomain:+80/", "the port must be from 1 to 65535 and not 9001"),
            ("http://sandbox.localdomain:8a/", "the port must be from 1 to 65535 and not 9001"),
            ("http://user@sandbox.localdomain:80/", "must be sandbox.localdomain"),
            ("http://sandbox.localdomain:70000/", "the port must be from 1 to 65535 and not 9001"),
            ("http://example.com:80/", "Invalid destination: the host of http://example.com:80/"),
            ("http://127.0.0.1:80/", "must be sandbox.localdomain"),
            ("http://sandbox:80/a b", "the path holds characters that a URI cannot have"),
        ] {
            assert!(http(uri).unwrap_err().contains(problem), "{uri}");
        }
        assert_eq!(destination(r#"{"protocol":"TCP","port":4243}"#), Ok(Destination::Tcp { port: 4243 }));
        for port in [1, 65535] {
            let accepted = destination(&format!(r#"{{"protocol":"TCP","port":{port}}}"#));
            assert_eq!(accepted, Ok(Destination::Tcp { port }));
        }
        let missing = destination(r#"{"protocol":"HTTP"}"#).unwrap_err();
        assert_eq!(missing, "destination.URI is required for HTTP");
        for protocol in [r#""UDP""#, r#""http""#, "1", "null"] {
            let refused = destination(&format!(r#"{{"protocol":{protocol},"port":1}}"#)).unwrap_err();
            assert_eq!(refused, "destination.protocol must be HTTP or TCP", "{protocol}");
        }
        for port in ["0", "-1", "65536", "9001", "\"80\"", "80.0", "null"] {
            let refused = destination(&format!(r#"{{"protocol":"TCP","port":{port}}}"#)).unwrap_err();
            assert!(refused.contains("destination.port must be a port"), "{port}");
        }
    }

    #[test]
    fn method_and_encoding_are_checked() {
        let with = |members: &str| {
            destination(&format!(r#"{{"protocol":"HTTP","URI":"http://sandbox:80/",{members}}}"#))
        };
        let put = with(r#""method":"PUT","encoding":"JSON""#).unwrap();
        assert_eq!(put, Destination::Http { port: 80, path: "/".to_owned(), method: "PUT" });
        assert!(with(r#""method":"GET""#).unwrap_err().contains("destination.method must be POST or PUT"));
        assert!(with(r#""encoding":"XML""#).unwrap_err().contains("destination.encoding must be JSON"));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let body = br#"{"schemaVersion":"2019-01-01","types":["platform","metrics",1]}"#;
        assert_eq!(
            Subscription::parse(Api::Telemetry, false, body).unwrap_err().message(),
            "schemaVersion must be one of 2022-07-01, 2022-12-13, 2025-01-29; types: metrics is none of platform, \
             function, extension; types: a value that is no string is none of platform, function, extension; \
             destination is required"
        );
        let refusal = Subscription::parse(Api::Logs, false, br#"{"schemaVersion":"2022-07-01","types":[]}"#);
        assert_eq!(
            refusal.unwrap_err().message(),
            "schemaVersion must be one of 2020-08-15, 2021-03-18; types must name at least one of platform, \
             function, extension; destination is required"
        );
        for body in ["", "[]", "{", "{}"] {
            let refusal = Subscription::parse(Api::Telemetry, false, body.as_bytes()).unwrap_err();
            assert_eq!(
                (refusal.status(), refusal.error_type()),
                (StatusCode::BAD_REQUEST, "ValidationError")
            );
        }
        assert!(
            telemetry("\"destination\":[]").unwrap_err().message().contains("destination must be an object")
        );
        assert!(telemetry("\"types\":{}").unwrap_err().message().contains("types must be an array"));
    }

    #[test]
    fn refusals_carry_the_apis_name() {
        for (refusal, error_type, message) in [
            (
                Refusal::Closed(Api::Telemetry),
                "Telemetry.SubscriptionClosed",
                "Telemetry API subscription is closed",
            ),
            (Refusal::Closed(Api::Logs), "Logs.SubscriptionClosed", "Logs API subscription is closed"),
        ] {
            assert_eq!((refusal.status(), refusal.error_type()), (StatusCode::FORBIDDEN, error_type));
            assert_eq!(refusal.message(), message);
        }
        assert_eq!(Refusal::Different(Api::Logs).error_type(), "Logs.ValidationError");
        let other = Refusal::OtherApi(Api::Logs);
        assert_eq!((other.status(), other.error_type()), (StatusCode::BAD_REQUEST, "Logs.AccessDenied"));
        assert!(other.message().contains("subscribed to the Telemetry API"));
        assert!(Refusal::OtherApi(Api::Telemetry).message().contains("subscribed to the Logs API"));
    }
}
