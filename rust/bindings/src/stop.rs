//! The word that no more invocations are to be asked for, which also reaches those who wait for one.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Given once, and heard by everyone from then on.
#[derive(Debug)]
pub struct Stop(OwnedFd);

impl Stop {
    /// Nothing has been said yet. Fails where there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        event_descriptor().map(Self)
    }

    /// Say it.
    pub fn give(&self) {
        raise(&self.0);
    }

    /// Whether it has been said.
    pub fn is_given(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd that outlives the call, which does not wait.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    /// What can be read once it has been said, for those who wait for something else too.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An eventfd, which can be read after [`raise`].
pub fn event_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointer; the descriptor is ours alone.
    unsafe {
        match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// Make an eventfd readable.
pub fn raise(descriptor: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight bytes, as an eventfd takes. It can only fail where it is readable already.
    unsafe { libc::write(descriptor.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Make it unreadable again.
pub fn lower(descriptor: &OwnedFd) {
    let mut count = [0u8; 8];
    // SAFETY: eight bytes, as an eventfd gives. It fails where it was not readable, which is fine.
    unsafe { libc::read(descriptor.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}
