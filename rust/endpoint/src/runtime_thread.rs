//! The one thread on which all environments of a process are served.

use std::io;
use std::process;
use std::sync::{Mutex, PoisonError, mpsc};

use tokio::runtime::{Builder, Handle};

use crate::error::EndpointError;

/// The handle, and the process it was made in: a thread does not survive a fork.
static THREAD: Mutex<Option<(u32, Handle)>> = Mutex::new(None);

/// The shared event loop, started at the first call.
///
/// Fails with [`EndpointError::Thread`] if the operating system gives no thread or no epoll descriptor.
pub fn handle() -> Result<Handle, EndpointError> {
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    match &*thread {
        Some((pid, handle)) if *pid == process::id() => Ok(handle.clone()),
        _ => {
            let handle = start()?;
            *thread = Some((process::id(), handle.clone()));
            Ok(handle)
        }
    }
}

fn start() -> Result<Handle, EndpointError> {
    let (sender, receiver) = mpsc::channel();
    spawn("caloric-endpoint", move || {
        let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        let _ = sender.send(Ok(runtime.handle().clone()));
        runtime.block_on(std::future::pending::<()>());
    })?;
    match receiver.recv() {
        Ok(result) => result.map_err(EndpointError::Thread),
        Err(_) => Err(EndpointError::Thread(io::Error::other("the thread ended before it began to serve"))),
    }
}

/// Start a thread that receives no signals, so that they go to Python's main thread.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), EndpointError> {
    let blocked = BlockedSignals::new();
    let started = std::thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024).spawn(body);
    drop(blocked);
    started.map(drop).map_err(EndpointError::Thread)
}

/// All signals blocked on this thread for as long as the value lives: a new thread inherits the mask.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> Self {
        // SAFETY: both sets are plain data, filled before they are read; the call changes this thread's mask only.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that pthread_sigmask wrote.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_ours_block_every_signal_and_the_caller_keeps_its_mask() {
        let (sender, receiver) = mpsc::channel();
        spawn("mask-test", move || {
            // SAFETY: the set is written by the call before it is read.
            let blocked = unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
                [libc::SIGINT, libc::SIGTERM, libc::SIGCHLD]
                    .iter()
                    .all(|signal| libc::sigismember(&raw const mask, *signal) == 1)
            };
            let _ = sender.send(blocked);
        })
        .unwrap();
        assert!(receiver.recv().unwrap());
        // SAFETY: as above.
        let blocked_here = unsafe {
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut mask);
            libc::sigismember(&raw const mask, libc::SIGTERM)
        };
        assert_eq!(blocked_here, 0);
    }
}
