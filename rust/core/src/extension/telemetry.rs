//! Subscribing to telemetry, which an extension may do until the end of the Init phase (spec extensions-telemetry 2.2).

use super::{ExtensionClient, ExtensionError};
use crate::error::{Call, Refusal};
use crate::exchange::Exchange;
use crate::protocol;
use crate::transport::{Connect, Wait};

/// What the platform said to a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Subscribed {
    /// Telemetry will be delivered.
    Yes,
    /// 202 and 404, as emulators say it: there is no telemetry, and nothing else is wrong.
    NotSupported(Refusal),
}

impl<C: Connect> ExtensionClient<C> {
    /// Subscribe; `subscription` is the JSON document of the Telemetry API.
    pub fn subscribe_telemetry<W: Wait<C::Transport>>(
        &mut self,
        subscription: &[u8],
        wait: &mut W,
    ) -> Result<Subscribed, ExtensionError> {
        const CALL: Call = Call::TelemetrySubscribe;
        let length = subscription.len().to_string();
        let headers = [("Content-Type", "application/json"), ("Content-Length", &length)];
        let mut head = std::mem::take(&mut self.head);
        self.write_head(&mut head, "PUT", protocol::TELEMETRY_PATH, &headers);
        let outcome = self.converse(CALL, &head, subscription, wait);
        self.head = head;
        outcome?;
        match self.exchange.responses.status() {
            200 => {
                self.exchange.settle();
                Ok(Subscribed::Yes)
            }
            202 | 404 => {
                let refusal = self.exchange.refusal();
                self.exchange.settle();
                Ok(Subscribed::NotSupported(refusal))
            }
            _ => Err(self.status_error(CALL)),
        }
    }

    /// The same extension over a connection of its own, for what has to be said while [`Self::next_event`] waits.
    #[must_use]
    pub fn beside(&self, connector: C) -> Self {
        Self {
            exchange: Exchange::new(connector),
            user_agent: self.user_agent.clone(),
            registration: self.registration.clone(),
            head: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ID, accepted, register, registered, response};
    use super::*;
    use crate::memory::{Memory, NoWait, Script};

    fn subscribe(answer: &[u8]) -> (Result<Subscribed, ExtensionError>, Vec<String>) {
        let (client, sent) = register([Script::answers(&[&registered(), answer])], &[], false);
        let outcome = client.unwrap().subscribe_telemetry(b"{}", &mut NoWait);
        (outcome, sent())
    }

    #[test]
    fn a_subscription_is_put_and_accepted() {
        let (outcome, sent) = subscribe(&response("200 OK", "", "\"OK\""));
        assert_eq!(outcome.unwrap(), Subscribed::Yes);
        let put = format!(
            "PUT /2022-07-01/telemetry HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: caloric/test\r\n\
             Lambda-Extension-Identifier: {ID}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        assert!(sent.concat().ends_with(&put), "{sent:?}");
    }

    #[test]
    fn a_platform_without_telemetry_is_no_failure() {
        for (status, code) in [("202 Accepted", 202), ("404 Not Found", 404)] {
            let Ok(Subscribed::NotSupported(refusal)) = subscribe(&response(status, "", "none here")).0
            else {
                panic!("{status}")
            };
            assert_eq!((refusal.status, refusal.body.as_str()), (code, "none here"));
        }
    }

    #[test]
    fn a_refused_subscription_is_an_error() {
        let (outcome, _) = subscribe(&response("400 Bad Request", "", "{\"errorType\":\"ValidationError\"}"));
        let error = outcome.unwrap_err().to_string();
        assert_eq!(error, "PUT /telemetry was refused: 400 {\"errorType\":\"ValidationError\"}");
        let (outcome, _) = subscribe(&response("500 Oops", "", ""));
        assert!(matches!(outcome, Err(ExtensionError::Conversation(_))));
    }

    #[test]
    fn errors_can_be_reported_beside_a_poll() {
        let (client, _) = register([Script::bytes(&registered())], &[], false);
        let memory = Memory::new([Script::bytes(&accepted())]);
        let sent = memory.sent();
        client.unwrap().beside(memory).post_exit_error("Extension.Test", b"{}", &mut NoWait).unwrap();
        assert!(String::from_utf8_lossy(&sent.borrow()[0]).contains(&format!("Identifier: {ID}\r\n")));
    }
}
