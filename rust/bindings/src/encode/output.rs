//! The buffer that JSON is written to.

use std::ptr;

use pyo3::exceptions::PyMemoryError;

use super::Raised;

/// A byte buffer with one check per value instead of one per byte: the writer reserves room for the longest
/// text a value can have and then writes without looking.
///
/// It appends to what the caller's buffer already holds, so a response head can be put in front of the body.
/// The buffer's own length counts what was written only after `finish`.
pub struct Output<'a> {
    end: *mut u8,
    limit: *mut u8,
    buffer: &'a mut Vec<u8>,
}

impl<'a> Output<'a> {
    /// Append to `buffer`.
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        let spare = buffer.spare_capacity_mut().as_mut_ptr_range();
        Self { end: spare.start.cast(), limit: spare.end.cast(), buffer }
    }

    /// Count what was written as part of the buffer.
    pub fn finish(mut self) {
        self.count();
    }

    fn count(&mut self) {
        // SAFETY: both point into the buffer's memory, and everything before `end` has been written.
        unsafe { self.buffer.set_len(self.end.offset_from_unsigned(self.buffer.as_ptr())) };
    }

    /// Make room for `additional` bytes.
    #[inline(always)]
    pub fn reserve(&mut self, additional: usize) -> Result<(), Raised> {
        // SAFETY: both point into the same memory.
        if unsafe { self.limit.offset_from_unsigned(self.end) } < additional {
            self.grow(additional)
        } else {
            Ok(())
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, additional: usize) -> Result<(), Raised> {
        let length = self.buffer.len();
        self.count();
        let grown = self.buffer.try_reserve(additional);
        let spare = self.buffer.spare_capacity_mut().as_mut_ptr_range();
        (self.end, self.limit) = (spare.start.cast(), spare.end.cast());
        // An output that is not finished leaves the buffer as it was.
        self.buffer.truncate(length);
        grown.map_err(|_| Raised::new::<PyMemoryError, _>(()))
    }

    /// Append one byte.
    ///
    /// # Safety
    /// The room was reserved and not used since.
    #[inline(always)]
    pub unsafe fn put(&mut self, byte: u8) {
        debug_assert!(self.end < self.limit);
        // SAFETY: the caller reserved the room.
        unsafe {
            self.end.write(byte);
            self.end = self.end.add(1);
        }
    }

    /// Append bytes.
    ///
    /// # Safety
    /// The room was reserved and not used since.
    #[inline(always)]
    pub unsafe fn put_all(&mut self, bytes: &[u8]) {
        // SAFETY: the caller reserved the room, and a borrowed slice cannot overlap it.
        unsafe {
            debug_assert!(bytes.len() <= self.limit.offset_from_unsigned(self.end));
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.end, bytes.len());
            self.end = self.end.add(bytes.len());
        }
    }

    /// Append up to 32 bytes in pieces that overlap, which is quicker than a call that has to look at the
    /// length.
    ///
    /// # Safety
    /// The room was reserved and not used since, and there are no more than 32 bytes.
    #[inline(always)]
    pub unsafe fn put_few(&mut self, bytes: &[u8]) {
        let length = bytes.len();
        debug_assert!(length <= 32);
        // SAFETY: the caller reserved the room; the first piece starts and the second ends where `bytes`
        // does.
        unsafe {
            debug_assert!(length <= self.limit.offset_from_unsigned(self.end));
            let (from, to) = (bytes.as_ptr(), self.end);
            if length >= 16 {
                copy_two::<16>(from, to, length);
            } else if length >= 8 {
                copy_two::<8>(from, to, length);
            } else if length >= 4 {
                copy_two::<4>(from, to, length);
            } else if length >= 2 {
                copy_two::<2>(from, to, length);
            } else if length == 1 {
                to.write(*from);
            }
            self.end = to.add(length);
        }
    }

    /// Where the next byte goes.
    #[inline(always)]
    pub fn end(&self) -> *mut u8 {
        self.end
    }

    /// Count what was written from `end()` up to `end`.
    ///
    /// # Safety
    /// Every byte from `end()` to `end` is written and was reserved.
    #[inline(always)]
    pub unsafe fn set_end(&mut self, end: *mut u8) {
        debug_assert!(self.end <= end && end <= self.limit);
        self.end = end;
    }

    /// Append bytes of any number, reserving room for them.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), Raised> {
        self.reserve(bytes.len())?;
        // SAFETY: reserved on the line above.
        unsafe { self.put_all(bytes) };
        Ok(())
    }
}

/// Copy the first and the last `N` of `length` bytes.
///
/// # Safety
/// `length` bytes, `N` at least, can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy_two<const N: usize>(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's.
    unsafe {
        let first = from.cast::<[u8; N]>().read();
        let last = from.add(length - N).cast::<[u8; N]>().read();
        to.cast::<[u8; N]>().write(first);
        to.add(length - N).cast::<[u8; N]>().write(last);
    }
}
