//! How callers write a function's name (spec lambda-service 0.2).

use std::borrow::Cow;

/// A function and maybe one of its versions or aliases, as a path and a query name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    /// The bare name.
    pub name: String,
    /// What was written behind it, or in the query.
    pub qualifier: Option<String>,
}

/// Where functions are: what the ARNs of those that are reachable here say.
#[derive(Debug, Clone)]
pub struct Location {
    /// Such as `us-east-1`.
    pub region: String,
    /// Twelve digits.
    pub account_id: String,
}

impl Location {
    /// The ARN of a function, or of a version or alias of it.
    pub fn arn(&self, name: &str, qualifier: Option<&str>) -> String {
        let unqualified = format!("arn:aws:lambda:{}:{}:function:{name}", self.region, self.account_id);
        match qualifier {
            Some(qualifier) => format!("{unqualified}:{qualifier}"),
            None => unqualified,
        }
    }

    /// Read a name in any of its forms and a query. `None` for what is none, names two qualifiers, or is elsewhere: what
    /// is wrong with it is not said here.
    pub fn read(&self, name: &str, query: Option<&str>) -> Option<FunctionName> {
        let written = decoded(name)?;
        let in_query = match qualifier_of(query) {
            Query::None => None,
            Query::One(qualifier) => Some(decoded(qualifier)?.into_owned()),
            Query::Unclear => return None,
        };
        let (name, in_name) = self.parts(&written)?;
        if !is_name(name) || in_name.is_some_and(|qualifier| !is_qualifier(qualifier)) {
            return None;
        }
        let qualifier = match (in_name, in_query) {
            (Some(in_name), Some(in_query)) if in_name != in_query => return None,
            (_, Some(qualifier)) => Some(qualifier).filter(|qualifier| is_qualifier(qualifier)).map(Some)?,
            (qualifier, None) => qualifier.map(str::to_owned),
        };
        Some(FunctionName { name: name.to_owned(), qualifier })
    }

    /// The bare name and the qualifier.
    fn parts<'a>(&self, written: &'a str) -> Option<(&'a str, Option<&'a str>)> {
        let of_function = |rest: &'a str| match rest.split_once(':') {
            Some((name, qualifier)) => Some((name, Some(qualifier))),
            None => Some((rest, None)),
        };
        let in_account = |rest: &'a str| {
            let (account, rest) = rest.split_once(":function:")?;
            (account == self.account_id).then_some(rest)
        };
        if let Some(rest) = written.strip_prefix("arn:") {
            let (partition, rest) = rest.split_once(':')?;
            let (region, rest) = rest.strip_prefix("lambda:")?.split_once(':')?;
            if !partition.starts_with("aws") || region != self.region {
                return None;
            }
            return of_function(in_account(rest)?);
        }
        match in_account(written) {
            Some(rest) => of_function(rest),
            None => of_function(written),
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn is_qualifier(qualifier: &str) -> bool {
    (1..=128).contains(&qualifier.len())
        && qualifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_$".contains(&byte))
}

enum Query<'a> {
    None,
    One(&'a str),
    /// Given twice.
    Unclear,
}

fn qualifier_of(query: Option<&str>) -> Query<'_> {
    let mut found = Query::None;
    for parameter in query.unwrap_or_default().split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name == "Qualifier" {
            match found {
                Query::None => found = Query::One(value),
                _ => return Query::Unclear,
            }
        }
    }
    found
}

/// Without percent-encoding; `None` if that is broken.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digit = |byte: u8| char::from(byte).to_digit(16);
            bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, query: Option<&str>) -> Option<(String, Option<String>)> {
        let location = Location { region: "eu-west-1".to_owned(), account_id: "123456789012".to_owned() };
        location.read(name, query).map(|read| (read.name, read.qualifier))
    }

    fn orders(qualifier: Option<&str>) -> (String, Option<String>) {
        ("orders".to_owned(), qualifier.map(str::to_owned))
    }

    #[test]
    fn a_function_has_many_names() {
        for name in [
            "orders",
            "123456789012:function:orders",
            "arn:aws:lambda:eu-west-1:123456789012:function:orders",
            "arn%3Aaws%3alambda%3Aeu-west-1%3A123456789012%3Afunction%3Aorders",
        ] {
            assert_eq!(read(name, None), Some(orders(None)), "{name}");
            assert_eq!(read(name, Some("Qualifier=7&other=x")), Some(orders(Some("7"))), "{name}");
        }
    }

    #[test]
    fn a_qualifier_is_in_the_name_or_in_the_query() {
        for name in [
            "orders:live",
            "orders%3Alive",
            "123456789012:function:orders:live",
            "arn:aws:lambda:eu-west-1:123456789012:function:orders:live",
        ] {
            assert_eq!(read(name, None), Some(orders(Some("live"))), "{name}");
            assert_eq!(read(name, Some("Qualifier=live")), Some(orders(Some("live"))), "{name}");
            assert_eq!(read(name, Some("Qualifier=7")), None, "{name}: two");
        }
        assert_eq!(read("orders:$LATEST", None), Some(orders(Some("$LATEST"))));
        assert_eq!(read("orders", Some("Qualifier=%24LATEST")), Some(orders(Some("$LATEST"))));
        assert_eq!(read("orders", Some("")), Some(orders(None)));
    }

    #[test]
    fn what_is_no_name_or_is_elsewhere_is_not_read() {
        for name in [
            "",
            "or ders",
            "orders:",
            "orders:live:live",
            "orders%3",
            "orders%zz",
            "%ff",
            "arn:aws:lambda:us-east-1:123456789012:function:orders",
            "arn:aws:lambda:eu-west-1:999999999999:function:orders",
            "arn:aws:lambda:eu-west-1:123456789012:layer:orders",
            "arn:gcp:lambda:eu-west-1:123456789012:function:orders",
            "999999999999:function:orders",
            &"x".repeat(65),
        ] {
            assert_eq!(read(name, None), None, "{name}");
        }
        for query in ["Qualifier=", "Qualifier", "Qualifier=a&Qualifier=a", "Qualifier=a.b", "Qualifier=%"] {
            assert_eq!(read("orders", Some(query)), None, "{query}");
        }
    }
}
