//! What a failed conversation with the Runtime API means for the loop it belongs to: the end, or a line on stderr where
//! others share the environment (spec runtime-api 6.2).

use std::time::Duration;

use caloric_core::{Answer, Client, Error, Interrupted, Invocation, Posted, Tcp, TcpConnector, Wait};

/// How often a worker asks for an invocation before it gives up, and after what time for the second time; then twice
/// that, and so on.
const NEXT_ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// A wait that can also let time pass.
pub trait Pause: Wait<Tcp> {
    /// Let so much time pass.
    fn pause(&mut self, time: Duration) -> Result<(), Interrupted>;
}

/// How a loop takes it.
#[derive(Debug, Clone, Copy)]
pub struct Persistence {
    /// It is one of several that share an environment: what goes wrong in one conversation must not end it.
    pub worker: bool,
    /// Tells the user.
    pub warn: fn(&str),
}

impl Persistence {
    /// Whether the loop goes on after a failed conversation.
    pub fn survives(self, error: &Error) -> bool {
        self.worker && !matches!(error, Error::Interrupted)
    }

    /// The next invocation; a worker asks a few times before it gives up. `failed` is how asking has failed already.
    pub fn poll<W: Pause>(
        self,
        client: &mut Client<TcpConnector>,
        failed: Option<Error>,
        wait: &mut W,
    ) -> Result<Invocation, Error> {
        let mut outcome = match failed {
            Some(error) => Err(error),
            None => client.next_invocation(wait),
        };
        let mut delay = FIRST_DELAY;
        for attempt in 2..=NEXT_ATTEMPTS {
            match outcome {
                Err(error) if self.survives(&error) => {
                    let delay_ms = delay.as_millis();
                    (self.warn)(&format!(
                        "{error}; asking again in {delay_ms} ms (attempt {attempt} of {NEXT_ATTEMPTS})"
                    ));
                }
                other => return other,
            }
            wait.pause(delay).map_err(|_| Error::Interrupted)?;
            delay *= 2;
            outcome = client.next_invocation(wait);
        }
        outcome
    }

    /// Post an answer. That it was refused, or lost where that is not the end, is told.
    pub fn deliver<W: Pause>(
        self,
        client: &mut Client<TcpConnector>,
        answer: &Answer<'_>,
        then_next: bool,
        wait: &mut W,
    ) -> Result<(), Error> {
        match client.post(answer, then_next, wait) {
            Ok(Posted::Accepted) => {}
            Ok(Posted::Refused(refusal)) => {
                (self.warn)(&format!("the answer to {} was not accepted: {refusal}", answer.request_id));
            }
            Err(error) if self.survives(&error) => {
                (self.warn)(&format!("the answer to {} is lost: {error}", answer.request_id));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Tell what became of a streamed answer. Fails where the loop ends for it.
    pub fn settle_stream(self, ended: Result<Posted, Error>) -> Result<(), Error> {
        match ended {
            Ok(Posted::Accepted) => Ok(()),
            Ok(Posted::Refused(refusal)) => {
                (self.warn)(&format!("the streamed answer was not accepted: {refusal}"));
                Ok(())
            }
            // Whether the Runtime API is gone shows when the next invocation is asked for.
            Err(error @ (Error::NoAnswer { .. } | Error::Io { .. })) => {
                (self.warn)(&format!("the streamed answer was broken off: {error}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
