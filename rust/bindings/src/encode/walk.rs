//! The way through lists, tuples and dicts.
//!
//! It keeps its own stack instead of recursing, so native stack use is constant whatever the nesting, and a
//! container that contains itself is found by looking along that stack. A container gets there only when
//! another one is found inside: one with nothing but simple values cannot contain itself, and no Python code
//! runs while it is written.

use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyTupleMethods};

use super::{Encoder, Raised, SHORT};

/// How deep containers may be nested. The peer accepts 9997 levels on Python 3.13, 1496 on 3.12 and 994
/// before.
const MAX_DEPTH: usize = 10_000;

/// A container of which an inner container is being written. It is kept alive: Python code may drop it from
/// where it was found.
pub struct Open<'py> {
    container: Bound<'py, PyAny>,
    walk: Walk,
    /// What `Walk::Items` and `Walk::Iterator` go through.
    source: Option<Bound<'py, PyAny>>,
    place: Place,
}

/// How to go on with a container.
#[derive(Clone, Copy)]
pub enum Walk {
    List,
    Tuple,
    Dict,
    /// The items of a dict subclass, in a list from its own `items()`.
    Items,
    /// A list or tuple subclass, through its own `__iter__`.
    Iterator,
    /// An object that something else is written for (`_asdict()`): only here so that it is found if met
    /// again.
    Stand,
}

/// How far a container has been written.
#[derive(Clone, Copy, Default)]
pub struct Place {
    /// The index of the next item, or for a dict what `PyDict_Next` makes of it.
    next: isize,
    /// Items of a dict when the walk began, and how many of them are not yet written: tells whether it has
    /// changed.
    size: isize,
    left: isize,
}

impl Place {
    /// Where the walk through a dict of this size begins.
    fn in_dict(size: isize) -> Self {
        Self { next: 0, size, left: size }
    }
}

/// What comes next.
enum Step {
    /// Write this exact list, tuple or dict, borrowed from the innermost open container.
    Into(*mut ffi::PyObject),
    /// Go on with the innermost open container.
    On,
}

/// Whether this is an exact list, tuple or dict.
///
/// # Safety
/// `value` is alive.
#[inline(always)]
unsafe fn is_plain_container(value: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's.
    let kind = unsafe { ffi::Py_TYPE(value) };
    kind == &raw mut ffi::PyDict_Type
        || kind == &raw mut ffi::PyList_Type
        || kind == &raw mut ffi::PyTuple_Type
}

impl<'py> Encoder<'py, '_> {
    /// Write `value` and everything in it.
    pub(super) fn walk(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Raised> {
        // SAFETY: `value` is alive as long as the caller's reference.
        let mut step = unsafe { self.put_item(value.as_ptr()) }?;
        loop {
            step = match step {
                // SAFETY: borrowed from the caller or from a container that is open, and no Python code ran
                // since.
                Step::Into(container) => unsafe { self.enter(container) }?,
                Step::On => {
                    let Some(open) = self.open.last_mut() else {
                        return Ok(());
                    };
                    let (container, place) = (open.container.as_ptr(), open.place);
                    match open.walk {
                        // SAFETY: each of these walks was opened for an exact object of its type, kept alive
                        // by the stack, which the walks take off it only when they no longer use it.
                        Walk::List => unsafe { self.walk_list(container, place.next, true) },
                        // SAFETY: as above.
                        Walk::Tuple => unsafe { self.walk_tuple(container, place.next, true) },
                        // SAFETY: as above.
                        Walk::Dict => unsafe {
                            if dict_size(container) != place.size {
                                return Err(dict_changed("dictionary changed size during iteration"));
                            }
                            self.walk_dict(container, place, true)
                        },
                        Walk::Items => self.walk_items(),
                        Walk::Iterator => self.walk_iterator(),
                        Walk::Stand => {
                            self.open.pop();
                            Ok(Step::On)
                        }
                    }?
                }
            };
        }
    }

    /// Write a value of any type, up to the first bracket of a container.
    pub(super) fn put_value(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Raised> {
        // SAFETY: `value` is alive as long as the caller's reference.
        match unsafe { self.put_item(value.as_ptr()) }? {
            Step::On => Ok(()),
            Step::Into(pointer) => {
                // SAFETY: `value` is alive, and of the type that is looked for.
                let (bracket, walk, place) = unsafe {
                    if ffi::PyDict_Check(pointer) != 0 {
                        (b"{", Walk::Dict, Place::in_dict(dict_size(pointer)))
                    } else if ffi::PyList_Check(pointer) != 0 {
                        (b"[", Walk::List, Place::default())
                    } else {
                        (b"[", Walk::Tuple, Place::default())
                    }
                };
                self.out.extend(bracket)?;
                self.push(value.clone(), walk, None, place)
            }
        }
    }

    /// Write a value unless it is an exact list, tuple or dict, which is handed back.
    ///
    /// # Safety
    /// `value` is alive even if Python code runs.
    unsafe fn put_item(&mut self, value: *mut ffi::PyObject) -> Result<Step, Raised> {
        self.out.reserve(SHORT)?;
        // SAFETY: the caller's, and the room was reserved on the line above.
        unsafe {
            if self.put_simple(value)? {
                return Ok(Step::On);
            }
            if is_plain_container(value) {
                return Ok(Step::Into(value));
            }
            let value = Bound::from_borrowed_ptr(self.py, value);
            self.put_uncommon(value)?;
        }
        Ok(Step::On)
    }

    /// Begin to write an exact list, tuple or dict.
    ///
    /// # Safety
    /// It is one of these, and alive until Python code runs.
    #[inline(always)]
    unsafe fn enter(&mut self, container: *mut ffi::PyObject) -> Result<Step, Raised> {
        self.out.reserve(SHORT)?;
        // SAFETY: the caller's; the room was reserved on the line above.
        unsafe {
            let kind = ffi::Py_TYPE(container);
            if kind == &raw mut ffi::PyDict_Type {
                self.out.put(b'{');
                self.walk_dict(container, Place::in_dict(dict_size(container)), false)
            } else if kind == &raw mut ffi::PyList_Type {
                self.out.put(b'[');
                self.walk_list(container, 0, false)
            } else {
                self.out.put(b'[');
                self.walk_tuple(container, 0, false)
            }
        }
    }

    /// Put a container on the stack, unless it is there already.
    #[inline(always)]
    fn push(
        &mut self,
        container: Bound<'py, PyAny>,
        walk: Walk,
        source: Option<Bound<'py, PyAny>>,
        place: Place,
    ) -> Result<(), Raised> {
        if self.open.iter().any(|open| open.container.is(&container)) {
            return Err(Raised::new::<PyValueError, _>("Circular reference detected"));
        }
        if self.open.len() == self.open.capacity() {
            self.deepen()?;
        }
        self.open.push(Open { container, walk, source, place });
        Ok(())
    }

    /// Make room on the stack.
    #[cold]
    fn deepen(&mut self) -> Result<(), Raised> {
        let depth = self.open.len();
        if depth >= MAX_DEPTH {
            return Err(Raised::new::<PyRecursionError, _>(format!(
                "maximum nesting depth of {MAX_DEPTH} exceeded while encoding a JSON object"
            )));
        }
        self.open.reserve_exact(depth.max(16).min(MAX_DEPTH - depth));
        Ok(())
    }

    /// Put an object on the stack that something else is written for.
    pub(super) fn push_stand(&mut self, object: Bound<'py, PyAny>) -> Result<(), Raised> {
        self.push(object, Walk::Stand, None, Place::default())
    }

    /// Begin to write a dict subclass, by a list of its items.
    pub(super) fn push_items(
        &mut self,
        dict: Bound<'py, PyAny>,
        items: Bound<'py, PyAny>,
    ) -> Result<(), Raised> {
        self.out.extend(b"{")?;
        self.push(dict, Walk::Items, Some(items), Place::default())
    }

    /// Begin to write a list or tuple subclass, by its own iterator.
    pub(super) fn push_iterator(
        &mut self,
        sequence: Bound<'py, PyAny>,
        iterator: Bound<'py, PyAny>,
    ) -> Result<(), Raised> {
        self.out.extend(b"[")?;
        self.push(sequence, Walk::Iterator, Some(iterator), Place::default())
    }

    /// Note how far the current container is, because one inside comes first.
    ///
    /// # Safety
    /// `container` is alive, and either on top of the stack (`is_open`) or not on it.
    #[inline(always)]
    unsafe fn suspend(
        &mut self,
        container: *mut ffi::PyObject,
        walk: Walk,
        place: Place,
        is_open: bool,
    ) -> Result<(), Raised> {
        if is_open {
            let top = self.open.len() - 1;
            self.open[top].place = place;
            Ok(())
        } else {
            // SAFETY: the caller's.
            self.push(unsafe { Bound::from_borrowed_ptr(self.py, container) }, walk, None, place)
        }
    }

    /// Write a value that is not simple, or hand it back, while the container it is in is open.
    ///
    /// # Safety
    /// `value` is alive.
    #[inline(always)]
    unsafe fn put_inner(&mut self, value: *mut ffi::PyObject) -> Result<Step, Raised> {
        // SAFETY: the caller's; what may run Python code gets a reference of its own.
        unsafe {
            if is_plain_container(value) {
                return Ok(Step::Into(value));
            }
            let value = Bound::from_borrowed_ptr(self.py, value);
            self.put_uncommon(value)?;
        }
        Ok(Step::On)
    }

    /// Write the end of the current container.
    #[inline(always)]
    fn close(&mut self, bracket: u8, is_open: bool) -> Result<Step, Raised> {
        self.out.reserve(SHORT)?;
        // SAFETY: reserved on the line above.
        unsafe { self.out.put(bracket) };
        if is_open {
            self.open.pop();
        }
        Ok(Step::On)
    }

    /// Write the items of a list from `next` on, up to one that is not a simple value.
    ///
    /// # Safety
    /// An exact list, alive until Python code runs, or on top of the stack (`is_open`).
    #[inline(always)]
    unsafe fn walk_list(
        &mut self,
        list: *mut ffi::PyObject,
        mut next: isize,
        is_open: bool,
    ) -> Result<Step, Raised> {
        // SAFETY: an item is borrowed only while no Python code runs. The length is read anew for every item,
        // since after Python code it may be another.
        unsafe {
            while next < ffi::PyList_GET_SIZE(list) {
                let item = ffi::PyList_GET_ITEM(list, next);
                self.out.reserve(SHORT)?;
                if next > 0 {
                    self.out.put(b',');
                }
                next += 1;
                if !self.put_simple(item)? {
                    self.suspend(list, Walk::List, Place { next, ..Place::default() }, is_open)?;
                    return self.put_inner(item);
                }
            }
        }
        self.close(b']', is_open)
    }

    /// The same for a tuple.
    ///
    /// # Safety
    /// An exact tuple, alive until Python code runs, or on top of the stack (`is_open`).
    unsafe fn walk_tuple(
        &mut self,
        tuple: *mut ffi::PyObject,
        mut next: isize,
        is_open: bool,
    ) -> Result<Step, Raised> {
        // SAFETY: the items live as long as the tuple.
        unsafe {
            while next < ffi::PyTuple_GET_SIZE(tuple) {
                let item = ffi::PyTuple_GET_ITEM(tuple, next);
                self.out.reserve(SHORT)?;
                if next > 0 {
                    self.out.put(b',');
                }
                next += 1;
                if !self.put_simple(item)? {
                    self.suspend(tuple, Walk::Tuple, Place { next, ..Place::default() }, is_open)?;
                    return self.put_inner(item);
                }
            }
        }
        self.close(b']', is_open)
    }

    /// The same for a dict.
    ///
    /// # Safety
    /// An exact dict, alive until Python code runs, or on top of the stack (`is_open`), and of the size that
    /// `place` says.
    #[inline(always)]
    unsafe fn walk_dict(
        &mut self,
        dict: *mut ffi::PyObject,
        mut place: Place,
        is_open: bool,
    ) -> Result<Step, Raised> {
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: keys and values are borrowed only while no Python code runs, and `PyDict_Next` copes with
        // any position in any dict.
        unsafe {
            while ffi::PyDict_Next(dict, &raw mut place.next, &raw mut key, &raw mut value) != 0 {
                if place.left == 0 {
                    return Err(dict_changed("dictionary keys changed during iteration"));
                }
                self.out.reserve(SHORT)?;
                if place.left < place.size {
                    self.out.put(b',');
                }
                place.left -= 1;
                if ffi::Py_TYPE(key) == &raw mut ffi::PyUnicode_Type {
                    self.put_string(key)?;
                } else {
                    // Any other key may run Python code.
                    let key = Bound::from_borrowed_ptr(self.py, key);
                    let value = Bound::from_borrowed_ptr(self.py, value);
                    self.suspend(dict, Walk::Dict, place, is_open)?;
                    self.put_pair(&key, &value)?;
                    return Ok(Step::On);
                }
                self.out.put(b':');
                if !self.put_simple(value)? {
                    self.suspend(dict, Walk::Dict, place, is_open)?;
                    return self.put_inner(value);
                }
            }
        }
        self.close(b'}', is_open)
    }

    /// What the innermost open container goes through, and how often it was asked for.
    fn next_of_source(&mut self) -> Option<(Bound<'py, PyAny>, isize)> {
        let open = self.open.last_mut()?;
        let index = open.place.next;
        open.place.next += 1;
        Some((open.source.clone()?, index))
    }

    /// Write the next item of a dict subclass.
    fn walk_items(&mut self) -> Result<Step, Raised> {
        let next = self.next_of_source();
        // SAFETY: an exact list that nobody else has, from `PyMapping_Items`; the item gets a reference of
        // its own.
        let item = next.and_then(|(items, index)| unsafe {
            let items = items.as_ptr();
            let item = (index < ffi::PyList_GET_SIZE(items)).then(|| ffi::PyList_GET_ITEM(items, index))?;
            Some((Bound::from_borrowed_ptr(self.py, item), index))
        });
        let Some((item, index)) = item else {
            return self.close(b'}', true);
        };
        let Some([key, value]) = item.cast::<PyTuple>().ok().map(PyTupleMethods::as_slice) else {
            return Err(Raised::new::<PyValueError, _>("items must return 2-tuples"));
        };
        if index > 0 {
            self.out.extend(b",")?;
        }
        self.put_pair(key, value)?;
        Ok(Step::On)
    }

    /// Write the next item of a list or tuple subclass.
    fn walk_iterator(&mut self) -> Result<Step, Raised> {
        let Some((iterator, index)) = self.next_of_source() else {
            return self.close(b']', true);
        };
        // SAFETY: an iterator, checked where the walk was opened; null without an exception is its end.
        let item = unsafe { Bound::from_owned_ptr_or_opt(self.py, ffi::PyIter_Next(iterator.as_ptr())) };
        let Some(item) = item else {
            // SAFETY: asks whether an exception is set.
            return if unsafe { ffi::PyErr_Occurred() }.is_null() {
                self.close(b']', true)
            } else {
                Err(Raised)
            };
        };
        if index > 0 {
            self.out.extend(b",")?;
        }
        self.put_value(&item)?;
        Ok(Step::On)
    }

    /// Write a key and a value of any type.
    fn put_pair(&mut self, key: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> Result<(), Raised> {
        self.put_key(key)?;
        self.out.extend(b":")?;
        self.put_value(value)
    }
}

/// How many items a dict has, without a call: it is asked twice for every dict.
///
/// # Safety
/// A dict or of a subclass, and alive.
#[inline(always)]
unsafe fn dict_size(dict: *mut ffi::PyObject) -> isize {
    // SAFETY: the caller's.
    unsafe { (*dict.cast::<ffi::PyDictObject>()).ma_used }
}

#[cold]
fn dict_changed(message: &'static str) -> Raised {
    Raised::new::<PyRuntimeError, _>(message)
}
