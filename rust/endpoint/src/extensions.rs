//! The extensions of one environment: who is registered, what each may call when, and what the phases wait for (spec
//! extensions-telemetry 1). Like `lifecycle`, without any input or output: what happens is a call, and what follows is
//! its result and the wakers to be woken.
//!
//! | file | subject |
//! |---|---|
//! | `event` | INVOKE and SHUTDOWN, as they are sent |
//! | `refusal` | the catalogue of errors (spec 1.5) |
//! | `routes` | the HTTP side |

mod event;
mod refusal;
pub mod routes;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use uuid::Uuid;

pub use event::{Event, ShutdownReason};
pub use refusal::Refusal;

use crate::identifiers;
use crate::process::Exit;

/// Internal and external ones together.
pub const MAX_EXTENSIONS: usize = 10;

/// What an extension did last, as the platform names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtensionState {
    /// Its process was launched, or is about to be.
    Started,
    Registered,
    /// It waits for an event.
    Ready,
    /// It works on an event.
    Running,
    InitError,
    ExitError,
    LaunchError,
    /// Its process ended by itself in the Shutdown phase.
    Exited,
    /// Its process had to be killed in the Shutdown phase, or ended with an error.
    ShutdownFailed,
}

impl ExtensionState {
    /// The name in messages, log lines and telemetry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
            Self::LaunchError => "LaunchError",
            Self::Exited => "Exited",
            Self::ShutdownFailed => "ShutdownFailed",
        }
    }
}

/// The events an extension asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Subscribed {
    pub invoke: bool,
    pub shutdown: bool,
}

impl Subscribed {
    /// The names, in the platform's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [("INVOKE", self.invoke), ("SHUTDOWN", self.shutdown)]
            .into_iter()
            .filter_map(|(name, subscribed)| subscribed.then_some(name))
    }
}

/// Which of the two errors an extension reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedError {
    Init,
    Exit,
}

impl ReportedError {
    fn state(self) -> ExtensionState {
        match self {
            Self::Init => ExtensionState::InitError,
            Self::Exit => ExtensionState::ExitError,
        }
    }

    fn fatal(self) -> &'static str {
        match self {
            Self::Init => "Extension.InitError",
            Self::Exit => "Extension.ExitError",
        }
    }
}

/// The outcome of one look at `/event/next`.
#[derive(Debug)]
pub enum EventPoll {
    Deliver(Arc<Event>),
    Refused(Refusal),
    /// The poller is registered and will be woken.
    Pending,
}

/// One extension.
#[derive(Debug)]
pub struct Extension {
    name: String,
    external: bool,
    /// Given at registration.
    id: Option<Uuid>,
    state: ExtensionState,
    subscribed: Subscribed,
    /// Why it failed, where it said so or where its launch failed.
    error_type: Option<String>,
    /// A one-slot latch, not a queue: what was released and not yet fetched.
    event: Option<Arc<Event>>,
    poll: Poll,
}

/// The request that waits for the next event.
#[derive(Debug)]
enum Poll {
    None,
    Parked {
        poller: u64,
        waker: Waker,
    },
    /// Its client hung up. The platform does not notice: the extension counts as ready, and the event is lost.
    Abandoned,
}

impl Extension {
    fn new(name: &str, external: bool) -> Self {
        Self {
            name: name.to_owned(),
            external,
            id: None,
            state: ExtensionState::Started,
            subscribed: Subscribed::default(),
            error_type: None,
            event: None,
            poll: Poll::None,
        }
    }

    /// The name it registered with; an external one's is its file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it did last.
    pub fn state(&self) -> ExtensionState {
        self.state
    }

    /// What it registered for.
    pub fn subscribed(&self) -> Subscribed {
        self.subscribed
    }

    /// Why it failed.
    pub fn error_type(&self) -> Option<&str> {
        self.error_type.as_deref()
    }

    fn transition(&self, to: ExtensionState, called: &str) -> Refusal {
        Refusal::Transition { from: self.state, to, extension: called.to_owned() }
    }

    /// Hand it an event: now if it waits for one, at its next poll if it does not. The request to be woken.
    fn release(&mut self, event: &Arc<Event>) -> Option<Waker> {
        if self.state == ExtensionState::Ready {
            self.state = ExtensionState::Running;
        }
        match std::mem::replace(&mut self.poll, Poll::None) {
            Poll::Abandoned => None,
            Poll::None => {
                self.event = Some(Arc::clone(event));
                None
            }
            Poll::Parked { poller, waker } => {
                self.event = Some(Arc::clone(event));
                self.poll = Poll::Parked { poller, waker: waker.clone() };
                Some(waker)
            }
        }
    }
}

/// The extensions of one generation of an environment: a reset begins a new one.
#[derive(Debug)]
pub struct Extensions {
    /// Of Managed Instances, where nobody is told of an invocation.
    managed: bool,
    /// The names of the executables that are launched before the runtime.
    external: Vec<String>,
    list: Vec<Extension>,
    to_launch: VecDeque<String>,
    /// Somebody took the request and has not reported yet.
    launching: Vec<String>,
    /// Internal extensions may register: the runtime has not polled yet.
    registration_open: bool,
    /// Init is not over: every extension must poll once.
    initialising: bool,
    /// The first fatal error type that one of them reported.
    fatal: Option<&'static str>,
}

impl Extensions {
    /// The extensions of an environment that launches `external`, one of Managed Instances or not.
    pub fn new(external: Vec<String>, managed: bool) -> Self {
        Self {
            managed,
            list: external.iter().map(|name| Extension::new(name, true)).collect(),
            external,
            to_launch: VecDeque::new(),
            launching: Vec::new(),
            registration_open: true,
            initialising: true,
            fatal: None,
        }
    }

    /// A new generation: all identifiers are void, and whoever lives must register anew.
    pub fn reset(&mut self) {
        *self = Self::new(std::mem::take(&mut self.external), self.managed);
    }

    /// A runtime that goes on after a failure, because nobody can end it, does so without extensions.
    pub fn forget(&mut self) {
        self.reset();
        self.list.clear();
        self.registration_open = false;
        self.initialising = false;
    }

    // ---- launch ------------------------------------------------------------------------------------------------

    /// Init begins: external extensions are to be launched, all at once.
    pub fn launch(&mut self) {
        if !self.list.iter().any(|extension| extension.external) {
            // They were forgotten.
            self.reset();
        }
        self.to_launch = self.external.iter().cloned().collect();
    }

    /// Take one extension that is to be launched.
    pub fn take_launch(&mut self) -> Option<String> {
        let name = self.to_launch.pop_front()?;
        self.launching.push(name.clone());
        Some(name)
    }

    /// Somebody reports on a launch. `false` if that was for an earlier generation, which is over.
    pub fn launched(&mut self, name: &str) -> bool {
        let index = self.launching.iter().position(|launching| launching == name);
        index.is_some_and(|index| {
            self.launching.remove(index);
            true
        })
    }

    /// An executable could not be started.
    pub fn launch_failed(&mut self, name: &str, error_type: &str) {
        if let Some(extension) = self.external_mut(name) {
            extension.state = ExtensionState::LaunchError;
            extension.error_type = Some(error_type.to_owned());
        }
    }

    /// Whether the environment launches an extension of this name.
    pub fn is_external(&self, name: &str) -> bool {
        self.external.iter().any(|external| external == name)
    }

    /// Whether the environment launches any.
    pub fn has_external(&self) -> bool {
        !self.external.is_empty()
    }

    // ---- calls of the extensions -------------------------------------------------------------------------------

    /// `POST /register`: the identifier for all further calls (the order of the checks is that of spec 1.2).
    pub fn register(&mut self, name: &str, body: &[u8]) -> Result<Uuid, Refusal> {
        if name.is_empty() {
            return Err(Refusal::EmptyName);
        }
        let events = event::requested(body)?;
        let external = self.is_external(name);
        let mut subscribed = Subscribed::default();
        for event in events {
            match event.as_str() {
                _ if self.managed && !external => return Err(Refusal::NoEventsForInternal),
                "INVOKE" if !self.managed => subscribed.invoke = true,
                "SHUTDOWN" if external => subscribed.shutdown = true,
                "SHUTDOWN" => return Err(Refusal::ShutdownNotSupported),
                _ => return Err(Refusal::UnknownEvent(event)),
            }
        }
        if !external {
            if !self.registration_open {
                return Err(Refusal::RegistrationClosed);
            }
            if self.list.len() >= MAX_EXTENSIONS {
                return Err(Refusal::TooMany);
            }
            if self.list.iter().any(|extension| extension.name == name) {
                return Err(Refusal::NameTaken);
            }
            self.list.push(Extension::new(name, false));
        }
        let Some(extension) = self.list.iter_mut().find(|extension| extension.name == name) else {
            return Err(Refusal::UnknownExtension(name.to_owned()));
        };
        if extension.state != ExtensionState::Started {
            return Err(extension.transition(ExtensionState::Registered, name));
        }
        let id = identifiers::uuid();
        extension.id = Some(id);
        extension.subscribed = subscribed;
        extension.state = ExtensionState::Registered;
        Ok(id)
    }

    /// `GET /event/next` of poller `poller`: the previous event is done with, and the next one is waited for.
    pub fn poll_event(&mut self, id: Uuid, poller: u64, waker: &Waker) -> EventPoll {
        let Some(extension) = self.registered_mut(id) else {
            return EventPoll::Refused(Refusal::UnknownExtension(id.to_string()));
        };
        let parked =
            matches!(&extension.poll, Poll::Parked { poller: registered, .. } if *registered == poller);
        if !parked {
            if !matches!(extension.state, ExtensionState::Registered | ExtensionState::Running) {
                return EventPoll::Refused(extension.transition(ExtensionState::Ready, &id.to_string()));
            }
            extension.state = ExtensionState::Ready;
        }
        if let Some(event) = extension.event.take() {
            extension.state = ExtensionState::Running;
            extension.poll = Poll::None;
            return EventPoll::Deliver(event);
        }
        extension.poll = Poll::Parked { poller, waker: waker.clone() };
        EventPoll::Pending
    }

    /// A waiting request went away.
    pub fn abandon_poll(&mut self, id: Uuid, poller: u64) {
        if let Some(extension) = self.registered_mut(id)
            && matches!(&extension.poll, Poll::Parked { poller: registered, .. } if *registered == poller)
        {
            // An event that was released to it is on its way to nobody.
            extension.event = None;
            extension.poll = Poll::Abandoned;
        }
    }

    /// `POST /init/error` or `/exit/error`. The environment fails when the process ends, which it must do by itself.
    pub fn report_error(&mut self, id: Uuid, kind: ReportedError, error_type: &str) -> Result<(), Refusal> {
        let Some(extension) = self.registered_mut(id) else { return Err(Refusal::UnknownIdentifier) };
        let to = kind.state();
        if extension.state == to {
            return Ok(());
        }
        let legal = match kind {
            ReportedError::Init => matches!(extension.state, ExtensionState::Registered),
            ReportedError::Exit => matches!(
                extension.state,
                ExtensionState::Registered | ExtensionState::Ready | ExtensionState::Running
            ),
        };
        if !legal {
            return Err(extension.transition(to, &id.to_string()));
        }
        extension.state = to;
        extension.error_type = Some(error_type.to_owned());
        self.fatal.get_or_insert(kind.fatal());
        Ok(())
    }

    /// The extension with this identifier.
    pub fn find(&self, id: Uuid) -> Option<&Extension> {
        self.list.iter().find(|extension| extension.id == Some(id))
    }

    // ---- the phases --------------------------------------------------------------------------------------------

    /// Gate 1: the runtime may be started.
    pub fn all_external_registered(&self) -> bool {
        self.list.iter().all(|extension| !extension.external || extension.id.is_some())
    }

    /// The runtime polled for the first time: internal extensions come too late from now on.
    pub fn close_registration(&mut self) {
        self.registration_open = false;
    }

    /// Gates 3 and 5: in Init every extension, after that those subscribed to INVOKE have asked for their next event.
    pub fn are_ready(&self) -> bool {
        self.list.iter().all(|extension| {
            let awaited = self.initialising || extension.subscribed.invoke;
            !awaited || extension.state == ExtensionState::Ready
        })
    }

    /// Whether init is not over.
    pub fn are_initialising(&self) -> bool {
        self.initialising
    }

    /// Init is over: from now on only those subscribed to INVOKE are waited for.
    pub fn end_init(&mut self) {
        self.initialising = false;
    }

    /// Hand INVOKE to those subscribed. Pushes the requests to be woken, and returns the names of those whose request
    /// was abandoned, so that the event is lost.
    pub fn invoke(&mut self, event: Event, wakers: &mut Vec<Waker>) -> Vec<&str> {
        let event = Arc::new(event);
        let mut lost = Vec::new();
        for extension in self.list.iter_mut().filter(|extension| extension.subscribed.invoke) {
            let abandoned = matches!(extension.poll, Poll::Abandoned);
            wakers.extend(extension.release(&event));
            if abandoned {
                lost.push(extension.name.as_str());
            }
        }
        lost
    }

    /// Hand SHUTDOWN to the external extensions subscribed to it. Returns the names of the other external ones, which
    /// are killed without a word.
    pub fn shut_down(&mut self, event: Event, wakers: &mut Vec<Waker>) -> Vec<String> {
        self.to_launch.clear();
        let event = Arc::new(event);
        let mut unsubscribed = Vec::new();
        for extension in self.list.iter_mut().filter(|extension| extension.external) {
            if extension.subscribed.shutdown {
                wakers.extend(extension.release(&event));
            } else {
                unsubscribed.push(extension.name.clone());
            }
        }
        unsubscribed
    }

    /// An external extension's process has ended in the Shutdown phase.
    pub fn ended_in_shutdown(&mut self, name: &str, exit: Exit) {
        if let Some(extension) = self.external_mut(name)
            && extension.state == ExtensionState::Running
        {
            let clean = exit == Exit::Status(0);
            extension.state = if clean { ExtensionState::Exited } else { ExtensionState::ShutdownFailed };
        }
    }

    /// The fatal error of an environment that a process has left when it should not: what an extension reported before,
    /// and `otherwise` where none did.
    pub fn fatal_error(&self, otherwise: &'static str) -> &'static str {
        self.fatal.unwrap_or(otherwise)
    }

    /// Whether one of the kind is registered: the Shutdown phase takes its time only then (spec 3.4).
    pub fn registered(&self, external: bool) -> bool {
        self.list.iter().any(|extension| extension.id.is_some() && extension.external == external)
    }

    /// Whether there is one of either kind.
    pub fn any_registered(&self) -> bool {
        self.registered(false) || self.registered(true)
    }

    /// Whether anybody waits for INVOKE.
    pub fn any_subscribed_to_invoke(&self) -> bool {
        self.list.iter().any(|extension| extension.subscribed.invoke)
    }

    /// Every extension, external ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Extension> {
        self.list.iter()
    }

    fn external_mut(&mut self, name: &str) -> Option<&mut Extension> {
        self.list.iter_mut().find(|extension| extension.external && extension.name == name)
    }

    fn registered_mut(&mut self, id: Uuid) -> Option<&mut Extension> {
        self.list.iter_mut().find(|extension| extension.id == Some(id))
    }
}
