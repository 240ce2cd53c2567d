//! Waiting for the Runtime API without the GIL, with signals.
//!
//! Python runs its signal handlers in the main thread, when that thread next executes Python. While it waits for
//! `/next`, perhaps for hours, it never does; so the wait notices the signal and lets Python run. A blocked `read` would
//! not do: under `SA_RESTART`, which asyncio sets, the kernel restarts it. `ppoll` always returns.

use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use caloric_core::{Interest, Interrupted, Wait};
use pyo3::exceptions::PyInterruptedError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::persistence::Pause;

/// How long one `ppoll` lasts at most. A signal that arrives in the instant between the last check and `ppoll` is
/// delivered to another thread, if there is one that takes it, and would be noticed only then.
static LONGEST_POLL: libc::timespec = libc::timespec { tv_sec: 1, tv_nsec: 0 };
const LONGEST_POLL_TIME: Duration = Duration::from_secs(1);

/// Signals that tell of a fault of the running code itself: blocking them would hide it.
const FAULTS: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

/// Keeps signals blocked from the last check until it is dropped, except inside `ppoll`, so that none is lost between
/// the two.
pub struct SignalWait {
    original: libc::sigset_t,
    /// What a signal handler raised.
    raised: Option<PyErr>,
    /// A descriptor that ends a wait for the Runtime API when it can be read, unless what is waited for is there too.
    pub stop: Option<RawFd>,
}

impl SignalWait {
    /// Run the handlers of signals that have come, then block signals. Raises what a handler raises.
    pub fn begin(py: Python<'_>) -> PyResult<Self> {
        py.check_signals()?;
        let wait = Self { original: block_signals(), raised: None, stop: None };
        // A signal may have come between the two lines above. Its handler runs with signals blocked: rare, harmless.
        py.check_signals()?;
        Ok(wait)
    }

    /// What a handler raised, if that ended the wait.
    pub fn into_raised(mut self) -> Option<PyErr> {
        self.raised.take()
    }

    /// Wait until `descriptor` can be read, with signals. `false`: it could not until then.
    pub fn wait_until(
        &mut self,
        descriptor: &impl AsRawFd,
        until: Option<Instant>,
    ) -> Result<bool, Interrupted> {
        let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            let left = until.map_or(LONGEST_POLL_TIME, |until| {
                until.saturating_duration_since(Instant::now()).min(LONGEST_POLL_TIME)
            });
            let timeout = timespec(left);
            // SAFETY: one valid pollfd, a timeout and a signal mask, all of which outlive the call.
            let ready =
                unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, &raw const self.original) };
            if ready > 0 {
                return Ok(true);
            }
            if ready == 0 && until.is_some_and(|until| until <= Instant::now()) {
                return Ok(false);
            }
            self.let_handlers_run(ready < 0)?;
        }
    }

    /// Let Python run its handlers as if nothing were blocked.
    fn let_handlers_run(&mut self, interrupted: bool) -> Result<(), Interrupted> {
        set_signal_mask(&self.original);
        let outcome = Python::attach(|py| {
            run_handlers(py, interrupted)?;
            block_signals();
            py.check_signals()
        });
        outcome.map_err(|error| {
            self.raised = Some(error);
            Interrupted
        })
    }
}

impl Drop for SignalWait {
    fn drop(&mut self) {
        set_signal_mask(&self.original);
    }
}

impl<T: AsRawFd> Wait<T> for SignalWait {
    fn wait(&mut self, transport: &T, interest: Interest) -> Result<(), Interrupted> {
        let poll = |fd, events| libc::pollfd { fd, events, revents: 0 };
        // A negative descriptor is left out.
        let mut polls = [
            poll(transport.as_raw_fd(), interest.poll_events()),
            poll(self.stop.unwrap_or(-1), libc::POLLIN),
        ];
        loop {
            // SAFETY: two pollfds, a constant timeout and a signal mask, all of which outlive the call.
            let ready = unsafe {
                libc::ppoll(polls.as_mut_ptr(), 2, &raw const LONGEST_POLL, &raw const self.original)
            };
            if ready > 0 {
                return if polls[0].revents == 0 { Err(Interrupted) } else { Ok(()) };
            }
            let interrupted =
                ready < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
            if ready < 0 && !interrupted {
                // The caller's own read or write will tell what is wrong.
                return Ok(());
            }
            self.let_handlers_run(interrupted)?;
        }
    }
}

impl Pause for SignalWait {
    fn pause(&mut self, time: Duration) -> Result<(), Interrupted> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = timespec(left);
            // SAFETY: no descriptors; the timeout and the mask outlive the call.
            let ready =
                unsafe { libc::ppoll(std::ptr::null_mut(), 0, &raw const timeout, &raw const self.original) };
            if ready == 0 {
                return Ok(());
            }
            self.let_handlers_run(true)?;
        }
    }
}

/// Talk to the platform without the GIL; signal handlers run meanwhile, and what one raises goes before the failure that
/// came of it.
pub fn without_gil<T: Send, E: Send>(
    py: Python<'_>,
    talk: impl FnOnce(&mut SignalWait) -> Result<T, E> + Send,
    to_python: impl FnOnce(&E) -> PyErr,
) -> PyResult<T> {
    let mut wait = SignalWait::begin(py)?;
    let outcome = py.detach(|| talk(&mut wait));
    match (outcome, wait.into_raised()) {
        (Ok(value), _) => Ok(value),
        (Err(_), Some(raised)) => Err(raised),
        (Err(error), None) => Err(to_python(&error)),
    }
}

/// Wait until `descriptor` can be read, with signals: raises what a handler raises. A lock would not do: a signal that
/// comes in the instant before the main thread sleeps on it is not noticed until somebody releases it.
#[pyfunction]
#[pyo3(signature = (descriptor))]
pub fn wait_readable(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    let wait = |wait: &mut SignalWait| wait.wait_until(&descriptor, None);
    without_gil(py, wait, |_| PyInterruptedError::new_err("a signal ended the wait")).map(drop)
}

/// Run Python's signal handlers and, where user code keeps an event loop, the handlers it registered there.
fn run_handlers(py: Python<'_>, interrupted: bool) -> PyResult<()> {
    py.check_signals()?;
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?.cast_into::<PyDict>()?;
    if !modules.contains(intern!(py, "asyncio"))? {
        // No event loop can have been made; importing asyncio ourselves would cost more than the whole start.
        return Ok(());
    }
    py.import(intern!(py, "caloric.event_loop"))?
        .call_method1(intern!(py, "run_signal_handlers"), (interrupted,))?;
    py.check_signals()
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data that sigfillset initialises; the sets outlive the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut original: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        for fault in FAULTS {
            libc::sigdelset(&raw mut all, fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut original);
        original
    }
}

fn set_signal_mask(mask: &libc::sigset_t) {
    // SAFETY: `mask` was filled by pthread_sigmask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::from_ref(mask), std::ptr::null_mut()) };
}
