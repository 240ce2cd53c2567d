//! The time an environment lives in: the machine's, plus what its virtual clock was advanced by.
//!
//! A virtual clock never stands still, so that nothing can hang on it; [`VirtualClock::advance`] puts it forward at one
//! stroke. Every moment that a state machine is told, and every deadline it names, is in this time. What is real stays
//! so: `Lambda-Runtime-Deadline-Ms`, the waits of [`crate::environment`] for processes and callers, and the delivery of
//! telemetry; and of the state machines' own deadlines those that are about real processes, which a jump takes along
//! (`skip`).

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::environment::Shared;
use crate::environment_folder::EnvironmentFolder;
use crate::error::EndpointError;
use crate::telemetry;

/// A clock can be put forward by so much in all: what no time limit needs and every representation of time can hold.
const FARTHEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The file in an environment's folder that tells its processes how far the clock was put forward.
const FILE: &str = "clock";

/// A clock for tests, which goes as the machine's does and can be put forward. Clones are handles on the same one, and
/// environments may share it.
#[derive(Clone)]
pub struct VirtualClock {
    shared: Arc<Advanced>,
}

struct Advanced {
    made: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    advanced: Duration,
    environments: Vec<Weak<Shared>>,
}

impl VirtualClock {
    /// A clock that shows the machine's time.
    pub fn new() -> Self {
        Self { shared: Arc::new(Advanced { made: Instant::now(), state: Mutex::default() }) }
    }

    /// Put the clock forward. Time limits that have run out by then are acted upon before this returns; what follows
    /// from them has its own time, from now on.
    ///
    /// Fails with [`EndpointError::TooFar`] after a hundred years, and with [`EndpointError::Temporary`] if the
    /// processes of an environment cannot be told; the other environments are advanced then.
    pub fn advance(&self, by: Duration) -> Result<(), EndpointError> {
        let environments: Vec<Arc<Shared>> = {
            let mut state = self.state();
            state.advanced =
                state.advanced.checked_add(by).filter(|sum| *sum <= FARTHEST).ok_or(EndpointError::TooFar)?;
            state.environments.iter().filter_map(Weak::upgrade).collect()
        };
        // Without the lock: who hears of an ended invocation may advance the clock again.
        environments.iter().map(|environment| environment.advance(by)).fold(Ok(()), Result::and)
    }

    /// By how much it was put forward in all.
    pub fn advanced(&self) -> Duration {
        self.state().advanced
    }

    /// The time since it was made, as it shows it.
    pub fn elapsed(&self) -> Duration {
        self.shared.made.elapsed() + self.advanced()
    }

    /// Have an environment live in this clock's time.
    pub(crate) fn add(&self, environment: Weak<Shared>) {
        let environments = &mut self.state().environments;
        environments.retain(|known| known.strong_count() > 0);
        environments.push(environment);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualClock").field("advanced", &self.advanced()).finish_non_exhaustive()
    }
}

/// One environment's time. It changes under the lock of the environment's state only, so that all that happens in one
/// is in one order.
#[derive(Debug, Default)]
pub struct EnvironmentClock {
    ahead_ns: AtomicU64,
    told: AtomicBool,
}

impl EnvironmentClock {
    /// The moment it is.
    pub fn now(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    /// When a moment of this time comes, in the machine's.
    pub fn real(&self, moment: Instant) -> Instant {
        moment.checked_sub(self.ahead()).unwrap_or(moment)
    }

    /// Whether the processes of the environment were told where to look.
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// The file that tells the environment's processes how many nanoseconds the clock was put forward, made now if need
    /// be.
    pub fn file(&self, folder: &mut EnvironmentFolder) -> io::Result<PathBuf> {
        let path = folder.file(FILE)?;
        if !self.is_told() {
            fs::write(&path, self.ahead_ns.load(Ordering::Relaxed).to_string())?;
            self.told.store(true, Ordering::Relaxed);
        }
        Ok(path)
    }

    /// Put it forward; first the processes are told.
    pub fn advance(&self, by: Duration, folder: &mut EnvironmentFolder) -> io::Result<()> {
        // [`FARTHEST`] fits in.
        let ahead = u64::try_from((self.ahead() + by).as_nanos()).unwrap_or(u64::MAX);
        if self.is_told() {
            let path = folder.file(FILE)?;
            // A reader sees the one number or the other.
            let next = path.with_extension("next");
            fs::write(&next, ahead.to_string())?;
            fs::rename(&next, &path)?;
        }
        self.ahead_ns.store(ahead, Ordering::Relaxed);
        Ok(())
    }

    fn ahead(&self) -> Duration {
        Duration::from_nanos(self.ahead_ns.load(Ordering::Relaxed))
    }
}

/// The Unix time in milliseconds that the clock shows at a moment: ahead of the machine's as the clock is.
pub fn shown_unix_ms(at: Instant) -> u64 {
    let shown = telemetry::wall(at).duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(shown.as_millis()).unwrap_or(u64::MAX)
}
