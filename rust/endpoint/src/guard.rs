//! Who may call our ports: programs on this machine, and no web page but the service's own.
//!
//! A page of another origin can make the user's browser send requests to a port on this machine, and a name that its
//! owner lets point here (DNS rebinding) makes the page's origin look like ours. The first is seen by `Origin`, and where
//! browsers leave that out by `Sec-Fetch-Site`; the second by `Host`. An address as `Host` cannot have been rebound.

use std::net::{IpAddr, Ipv6Addr};

use http_body_util::Full;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Response, StatusCode};

use crate::invoke_path::{Answered, document, failure};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names by which this port may be called.
pub struct Guard {
    /// In lower case, besides those of the loopback.
    allowed: Vec<String>,
}

impl Guard {
    /// `host` is what the port is bound to.
    pub fn new(host: &str, allowed_hosts: &[String]) -> Self {
        let mut allowed: Vec<String> =
            allowed_hosts.iter().map(|name| bare(name).to_ascii_lowercase()).collect();
        allowed.push(bare(host).to_ascii_lowercase());
        Self { allowed }
    }

    /// Fails with the answer to a request that is not let in.
    pub fn check(&self, head: &Parts) -> Result<(), Box<Answered>> {
        let mut hosts = head.headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        let named = host.filter(|_| hosts.next().is_none()).and_then(|host| host.parse::<Authority>().ok());
        let Some(named) = named.filter(|named| self.knows(named.host()) && !named.as_str().contains('@'))
        else {
            return Err(Box::new(misdirected(host.unwrap_or_default())));
        };
        if let Some(target) = head.uri.authority().filter(|target| !self.knows(target.host())) {
            return Err(Box::new(misdirected(target.as_str())));
        }
        let origins_are_ours = head.headers.get_all(ORIGIN).iter().all(|origin| is_of(origin, &named));
        let site = head.headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
        if !origins_are_ours || !matches!(site, None | Some(b"same-origin" | b"none")) {
            return Err(Box::new(foreign()));
        }
        Ok(())
    }

    fn knows(&self, host: &str) -> bool {
        let host = bare(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            return address.to_canonical().is_loopback() || self.allowed.iter().any(|name| name == host);
        }
        // A dot at the end makes a name absolute and no other.
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        is_localhost(&host) || self.allowed.contains(&host)
    }
}

/// Whether a request to a Runtime API comes from a web page. A browser says so, and where it takes the page's origin for
/// ours, and says nothing, the name in `Host` is one that somebody has registered: it has a dot, and on the `loopback`
/// nobody else has use for it.
pub fn is_from_web_page(headers: &HeaderMap, loopback: bool) -> bool {
    if headers.contains_key(ORIGIN) || headers.contains_key(FETCH_SITE) {
        return true;
    }
    let host = headers.get(HOST).filter(|_| loopback).and_then(|host| host.to_str().ok());
    host.and_then(|host| host.parse::<Authority>().ok()).is_some_and(|named| {
        let host = bare(named.host()).trim_end_matches('.').to_ascii_lowercase();
        host.contains('.') && !is_localhost(&host) && host.parse::<IpAddr>().is_err()
    })
}

/// Whether a name, in lower case, is that of the loopback (RFC 6761).
fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inside.filter(|inside| inside.parse::<Ipv6Addr>().is_ok()).unwrap_or(host)
}

/// Whether an origin is that of pages which came from here.
fn is_of(origin: &HeaderValue, host: &Authority) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
    origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host.as_str()))
}

fn misdirected(host: &str) -> Answered {
    let shown: String = host.chars().take(200).collect();
    let message = format!(
        "The request's host is '{shown}', and this service answers to localhost only: use the address that it printed, \
         or allow the name"
    );
    refusal(StatusCode::MISDIRECTED_REQUEST, &message)
}

fn foreign() -> Answered {
    let message = "The request comes from a web page of another origin, and this service answers to none";
    refusal(StatusCode::FORBIDDEN, message)
}

fn refusal(status: StatusCode, message: &str) -> Response<Full<bytes::Bytes>> {
    failure(status, "AccessDeniedException", &document(Some("User"), "Message", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    /// The status of the refusal, or 200.
    fn status(uri: &str, headers: &[(&str, &str)]) -> u16 {
        let guard = Guard::new("127.0.0.1", &["Lambda.Test".to_owned()]);
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        guard.check(&head).map_or_else(|refusal| refusal.status().as_u16(), |()| 200)
    }

    #[test]
    fn the_host_is_a_name_of_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST:9001",
            "localhost.:9001",
            "lambda.us-east-1.localhost:80",
            "127.0.0.1:9001",
            "127.1.2.3",
            "[::1]:9001",
            "[::ffff:127.0.0.1]",
            "lambda.test:9001",
        ] {
            assert_eq!(status("/", &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9001",
            "localhost.evil.example",
            "notlocalhost",
            "192.168.1.1",
            "0.0.0.0:9001",
            "[::2]",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil.example@localhost",
            "",
            "a b",
        ] {
            assert_eq!(status("/", &[("host", host)]), 421, "{host}");
        }
        assert_eq!(status("/", &[]), 421);
        assert_eq!(status("/", &[("host", "localhost"), ("host", "localhost")]), 421);
    }

    #[test]
    fn an_absolute_target_counts_too() {
        assert_eq!(status("http://localhost/", &[("host", "localhost")]), 200);
        assert_eq!(status("http://evil.example/", &[("host", "localhost")]), 421);
        assert_eq!(status("http://localhost/", &[("host", "evil.example")]), 421);
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let with = |origin| status("/", &[("host", "localhost:9001"), ("origin", origin)]);
        assert_eq!(with("http://localhost:9001"), 200);
        for origin in [
            "http://localhost:3000",
            "http://localhost",
            "https://localhost:9001",
            "http://127.0.0.1:9001",
            "http://evil.example",
            "null",
            "",
        ] {
            assert_eq!(with(origin), 403, "{origin}");
        }
    }

    #[test]
    fn a_runtime_is_told_from_a_web_page() {
        let from_page = |name: &'static str, value: &str, loopback| {
            let value = HeaderValue::try_from(value).unwrap();
            is_from_web_page(&HeaderMap::from_iter([(HeaderName::from_static(name), value)]), loopback)
        };
        assert!(!is_from_web_page(&HeaderMap::new(), true));
        for host in [
            "127.0.0.1:9001",
            "localhost:9001",
            "a.localhost",
            "[::1]:80",
            "169.254.100.1:9001",
            "runtime:80",
        ] {
            assert!(!from_page("host", host, true), "{host}");
        }
        assert!(from_page("host", "evil.example:9001", true));
        assert!(from_page("host", "127.0.0.1.evil.example.", true));
        assert!(!from_page("host", "host.docker.internal:9001", false), "a container, say");
        for loopback in [true, false] {
            assert!(from_page("origin", "http://127.0.0.1:9001", loopback));
            assert!(from_page("sec-fetch-site", "same-origin", loopback));
        }
    }

    #[test]
    fn a_browser_that_sends_no_origin_tells_the_site() {
        let with = |site| status("/", &[("host", "localhost:9001"), ("sec-fetch-site", site)]);
        assert_eq!((with("same-origin"), with("none")), (200, 200));
        assert_eq!((with("cross-site"), with("same-site")), (403, 403));
    }
}
