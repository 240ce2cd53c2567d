//! What Python cannot do about SIGTERM: know when it came, have it interrupt the main thread whichever thread it met, and
//! end the process on time whatever runs. For `caloric.shutdown`.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use caloric_core::telemetry_receiver::without_signals;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// The process and the thread in which Python runs signal handlers.
static PROCESS: AtomicI32 = AtomicI32::new(0);
static MAIN_THREAD: AtomicI32 = AtomicI32::new(0);
/// Python's own handler, an `extern "C" fn(c_int)`.
static PYTHON_HANDLER: AtomicUsize = AtomicUsize::new(0);
/// When the first SIGTERM came, and when the process is to have ended, in milliseconds of the monotonic clock; 0 before.
static CAME_MS: AtomicI64 = AtomicI64::new(0);
static DEADLINE_MS: AtomicI64 = AtomicI64::new(0);
static BEGUN: AtomicBool = AtomicBool::new(false);

fn now_ms() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one valid timespec. The clock exists on every Linux. Allowed in a signal handler.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

fn current_thread() -> i32 {
    // SAFETY: gettid cannot fail; a thread id fits into an int.
    #[expect(clippy::cast_possible_truncation, reason = "pid_t is an int")]
    unsafe {
        libc::syscall(libc::SYS_gettid) as i32
    }
}

/// The handler of SIGTERM, in front of Python's. Does only what a signal handler may.
extern "C" fn on_sigterm(number: libc::c_int) {
    // SAFETY: errno belongs to this thread; what was interrupted may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: getpid cannot fail.
    let process = unsafe { libc::getpid() };
    let main = MAIN_THREAD.load(Ordering::Relaxed);
    if process == PROCESS.load(Ordering::Relaxed) && current_thread() != main {
        // The main thread would hear of it when it next runs Python, which may be in an hour.
        // SAFETY: plain numbers.
        unsafe { libc::syscall(libc::SYS_tgkill, process, main, number) };
    } else {
        let _ = CAME_MS.compare_exchange(0, now_ms(), Ordering::Relaxed, Ordering::Relaxed);
        // SAFETY: `watch_sigterm` has taken it from the kernel, as the address of a handler without SA_SIGINFO.
        let handler: extern "C" fn(libc::c_int) =
            unsafe { std::mem::transmute(PYTHON_HANDLER.load(Ordering::Relaxed)) };
        handler(number);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// What is done about SIGTERM.
fn sigterm_action() -> Result<libc::sigaction, std::io::Error> {
    // SAFETY: sigaction is plain data for which all zeroes is a valid value, and the kernel fills it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        match libc::sigaction(libc::SIGTERM, std::ptr::null(), &raw mut action) {
            0 => Ok(action),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

fn own_handler() -> usize {
    on_sigterm as extern "C" fn(libc::c_int) as usize
}

/// Whether nobody has set another handler since [`watch_sigterm`].
pub fn sigterm_is_watched() -> bool {
    sigterm_action().is_ok_and(|action| action.sa_sigaction == own_handler())
}

/// Add this file's functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(watch_sigterm, module)?)?;
    module.add_function(wrap_pyfunction!(begin_shutdown, module)?)?;
    module.add_function(wrap_pyfunction!(remaining_shutdown_ms, module)?)
}

/// Note when SIGTERM comes, and have it interrupt the main thread. To be called there, with a handler for it set in Python.
#[pyfunction]
pub fn watch_sigterm() -> PyResult<()> {
    let mut action = sigterm_action().map_err(PyOSError::new_err)?;
    let handler = action.sa_sigaction;
    let special = [libc::SIG_DFL, libc::SIG_IGN, own_handler()].contains(&handler);
    if special || action.sa_flags & libc::SA_SIGINFO != 0 {
        return Ok(());
    }
    PYTHON_HANDLER.store(handler, Ordering::Relaxed);
    MAIN_THREAD.store(current_thread(), Ordering::Relaxed);
    // SAFETY: getpid cannot fail.
    PROCESS.store(unsafe { libc::getpid() }, Ordering::Relaxed);
    action.sa_sigaction = own_handler();
    // SAFETY: a valid action whose handler only does what a handler may.
    if unsafe { libc::sigaction(libc::SIGTERM, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(PyOSError::new_err(std::io::Error::last_os_error()));
    }
    Ok(())
}

/// End the process with status 0, so long after SIGTERM came, whatever runs then.
#[pyfunction]
#[pyo3(signature = (budget_ms))]
pub fn begin_shutdown(budget_ms: i64) -> PyResult<()> {
    BEGUN.store(true, Ordering::Relaxed);
    let now = now_ms();
    let came = match CAME_MS.load(Ordering::Relaxed) {
        // Python's handler was called by somebody else.
        0 => now,
        came => came,
    };
    let deadline = came + budget_ms;
    DEADLINE_MS.store(deadline, Ordering::Relaxed);
    let left = Duration::from_millis(u64::try_from(deadline - now).unwrap_or(0));
    let watchdog = move || {
        std::thread::sleep(left);
        say(&format!("{budget_ms} ms after SIGTERM an on_shutdown hook still runs; the process ends now"));
        // SAFETY: ends the process at once. Whoever holds the GIL or a lock cannot delay it.
        unsafe { libc::_exit(0) };
    };
    let thread = std::thread::Builder::new().name("shutdown".to_owned()).stack_size(64 * 1024);
    without_signals(|| thread.spawn(watchdog)).map_err(PyOSError::new_err)?;
    Ok(())
}

/// How many milliseconds are left of it, 0 when it is over; None before `begin_shutdown`.
#[pyfunction]
pub fn remaining_shutdown_ms() -> Option<i64> {
    match DEADLINE_MS.load(Ordering::Relaxed) {
        0 => None,
        deadline => Some((deadline - now_ms()).max(0)),
    }
}

/// Whether this process is on its way out.
pub fn has_begun() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// A line on stderr, without Python. Failing to write it changes nothing.
pub fn say(message: &str) {
    let line = format!("caloric: {message}\n");
    // SAFETY: the buffer is valid and as long as said.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}
