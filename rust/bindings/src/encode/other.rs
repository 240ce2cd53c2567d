//! Values and keys of every other type: subclasses, namedtuples, `Decimal`, and what Python modules can help
//! with.
//!
//! The order of the checks is the peer's (simplejson's encoder with awslambdaric's `default`), because a type
//! may pass several: an `IntEnum` is an int, a namedtuple is an object and not an array. Every check may run
//! Python code, so nothing here borrows from a container.

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::number::{extend_float, non_finite};
use super::{Encoder, Raised, Rules};

impl<'py> Encoder<'py, '_> {
    /// Write a value that is none of the plain types, or start to write it.
    #[inline(never)]
    pub(super) fn put_uncommon(&mut self, value: Bound<'py, PyAny>) -> Result<(), Raised> {
        if let Rules::Record = self.rules {
            return self.put_uncommon_in_record(value);
        }
        // The type that DynamoDB tables give for every number: not worth a look for `_asdict`, which it has
        // not.
        if decimal_type(self.py).is_some_and(|decimal| value.get_type().is(decimal)) {
            return self.put_decimal(&value);
        }
        if self.put_scalar_subclass(&value)? {
            return Ok(());
        }
        if let Some(fields) = self.fields_of(&value)? {
            self.push_stand(value)?;
            return match fields.cast_into::<PyDict>() {
                Ok(fields) if fields.is_exact_instance_of::<PyDict>() => self.put_value(&fields),
                Ok(fields) => self.open_dict_subclass(fields),
                Err(error) => Err(Raised::new::<PyTypeError, _>(format!(
                    "_asdict() must return a dict, not {}",
                    type_name(&error.into_inner())
                ))),
            };
        }
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            let iterator = value.try_iter().map_err(|error| Raised::from(self.py, error))?;
            return self.push_iterator(value, iterator.into_any());
        }
        match value.cast_into::<PyDict>() {
            Ok(dict) => self.open_dict_subclass(dict),
            Err(error) => self.put_by_python(error.into_inner()),
        }
    }

    /// Write a value of a class derived from str, int or float by what it is underneath, and bytes as the
    /// text they are in UTF-8; return false for anything else. What a class makes of its own `__str__` and
    /// `__repr__` does not count, what it makes of `__int__` and `__float__` does.
    fn put_scalar_subclass(&mut self, value: &Bound<'py, PyAny>) -> Result<bool, Raised> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            let text = self.text_of(bytes)?;
            self.put_quoted(&text)?;
        } else if let Ok(text) = value.cast::<PyString>() {
            self.put_quoted(text)?;
        } else if value.is_instance_of::<PyInt>() {
            let integer = self.plain_integer(value)?;
            self.put_value(&integer)?;
        } else if let Ok(float) = value.cast::<PyFloat>() {
            let number = self.plain_float(float)?;
            extend_float(&mut self.out, number)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Write a dict key that is not an exact str.
    pub(super) fn put_key(&mut self, key: &Bound<'py, PyAny>) -> Result<(), Raised> {
        if let Rules::Record = self.rules {
            return self.put_key_in_record(key);
        }
        if let Ok(text) = key.cast::<PyString>() {
            return self.put_quoted(text);
        }
        if let Ok(bytes) = key.cast::<PyBytes>() {
            let text = self.text_of(bytes)?;
            return self.put_quoted(&text);
        }
        self.out.extend(b"\"")?;
        if let Ok(float) = key.cast::<PyFloat>() {
            let number = self.plain_float(float)?;
            extend_float(&mut self.out, number)?;
        } else if let Ok(truth) = key.cast::<PyBool>() {
            self.out.extend(if truth.is_true() { b"true" } else { b"false" })?;
        } else if key.is_none() {
            self.out.extend(b"null")?;
        } else if key.is_instance_of::<PyInt>() {
            let integer = self.plain_integer(key)?;
            self.put_value(&integer)?;
        } else {
            return Err(Raised::new::<PyTypeError, _>(format!(
                "keys must be str, int, float, bool or None, not {}",
                type_name(key)
            )));
        }
        self.out.extend(b"\"")
    }

    pub(super) fn put_quoted(&mut self, text: &Bound<'py, PyString>) -> Result<(), Raised> {
        // SAFETY: a str or a subclass, and alive.
        unsafe { self.put_string(text.as_ptr()) }
    }

    /// Bytes inside a result are text to the peer; `UnicodeDecodeError` if they are not UTF-8.
    fn text_of(&self, bytes: &Bound<'py, PyBytes>) -> Result<Bound<'py, PyString>, Raised> {
        PyString::from_encoded_object(bytes, Some(c"utf-8"), None)
            .map_err(|error| Raised::from(self.py, error))
    }

    /// The exact int that `int(value)` makes of a subclass.
    fn plain_integer(&self, value: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Raised> {
        // SAFETY: `value` is alive; the result is a new reference or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_opt(self.py, ffi::PyNumber_Long(value.as_ptr())) }.ok_or(Raised)
    }

    /// The number that `float(value)` makes of a subclass, unless it is none in the first place.
    fn plain_float(&self, value: &Bound<'py, PyFloat>) -> Result<f64, Raised> {
        // SAFETY: checked to be a float or of a subclass.
        let number = unsafe { ffi::PyFloat_AS_DOUBLE(value.as_ptr()) };
        if !number.is_finite() || value.is_exact_instance_of::<PyFloat>() {
            return Ok(number);
        }
        // SAFETY: `value` is alive; the result is a new reference or null with an exception set.
        let plain = unsafe { Bound::from_owned_ptr_or_opt(self.py, ffi::PyNumber_Float(value.as_ptr())) };
        // SAFETY: `float()` returns a float.
        Ok(unsafe { ffi::PyFloat_AS_DOUBLE(plain.ok_or(Raised)?.as_ptr()) })
    }

    /// What `value._asdict()` returns, if there is such a method. A method that cannot be called without
    /// arguments (that of a namedtuple class, say) is no such method: the peer swallows its `TypeError`.
    fn fields_of(&self, value: &Bound<'py, PyAny>) -> Result<Option<Bound<'py, PyAny>>, Raised> {
        let method = match value.getattr(intern!(self.py, "_asdict")) {
            Ok(method) if method.is_callable() => method,
            Ok(_) => return Ok(None),
            Err(error) if error.is_instance_of::<PyAttributeError>(self.py) => return Ok(None),
            Err(error) => return Err(Raised::from(self.py, error)),
        };
        match method.call0() {
            Ok(fields) => Ok(Some(fields)),
            Err(error) if error.is_instance_of::<PyTypeError>(self.py) => Ok(None),
            Err(error) => Err(Raised::from(self.py, error)),
        }
    }

    /// Start to write a dict subclass, by what its `items()` says (`OrderedDict` has an order of its own).
    pub(super) fn open_dict_subclass(&mut self, dict: Bound<'py, PyDict>) -> Result<(), Raised> {
        if dict.len() == 0 {
            return self.out.extend(b"{}");
        }
        // SAFETY: `dict` is alive; the result is a new list or null with an exception set.
        let items = unsafe { Bound::from_owned_ptr_or_opt(self.py, ffi::PyMapping_Items(dict.as_ptr())) };
        self.push_items(dict.into_any(), items.ok_or(Raised)?)
    }

    /// Write a `Decimal` as a bare number with all its digits: `1.10`, `1E+2`, `-0`.
    fn put_decimal(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Raised> {
        let text = value.str().map_err(|error| Raised::from(self.py, error))?;
        let digits = text.to_str().map_err(|error| Raised::from(self.py, error))?;
        // A number starts with a digit after its sign, infinity with an I, and what else there is is some
        // kind of NaN.
        match digits.trim_start_matches('-').as_bytes().first() {
            Some(b'0'..=b'9' | b'I') => self.out.extend(digits.as_bytes()),
            _ => self.out.extend(non_finite(f64::NAN).as_bytes()),
        }
    }

    /// Write a value of a type that only Python code knows: a subclass of `Decimal`, or what the caller's `default`,
    /// or else `caloric._json_fallback`, finds a form for. Fails with `TypeError` in the peer's words where there is
    /// none.
    fn put_by_python(&mut self, value: Bound<'py, PyAny>) -> Result<(), Raised> {
        let py = self.py;
        if let Some(decimal) = decimal_type(py)
            && value.is_instance(decimal).map_err(|error| Raised::from(py, error))?
        {
            let is_nan = value.call_method0(intern!(py, "is_nan")).and_then(|answer| answer.is_truthy());
            if is_nan.map_err(|error| Raised::from(py, error))? {
                return self.out.extend(non_finite(f64::NAN).as_bytes());
            }
            let text = value.str().map_err(|error| Raised::from(py, error))?;
            return self.put_text(text.into_any());
        }
        if let Rules::Result { default: Some(default) } = self.rules {
            let replacement = default.call1((&value,)).map_err(|error| Raised::from(py, error))?;
            self.push_stand(value)?;
            return self.put_value(&replacement);
        }
        let (json, replacement) = py
            .import(intern!(py, "caloric._json_fallback"))
            .and_then(|module| module.call_method1(intern!(py, "encode_other"), (&value,)))
            .and_then(|answer| answer.extract::<(Option<Bound<'py, PyBytes>>, Bound<'py, PyAny>)>())
            .map_err(|error| Raised::from(py, error))?;
        if let Some(json) = json {
            return self.out.extend(json.as_bytes());
        }
        self.push_stand(value)?;
        self.put_value(&replacement)
    }
}

/// `decimal.Decimal`, if anything has imported it yet: nobody has an instance before that.
fn decimal_type(py: Python<'_>) -> Option<&Bound<'_, PyType>> {
    static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if let Some(decimal) = DECIMAL.get(py) {
        return Some(decimal.bind(py));
    }
    let modules = py.import(intern!(py, "sys")).and_then(|sys| sys.getattr(intern!(py, "modules"))).ok()?;
    let decimal = modules.get_item(intern!(py, "decimal")).ok()?.getattr(intern!(py, "Decimal")).ok()?;
    let decimal = decimal.cast_into::<PyType>().ok()?.unbind();
    Some(DECIMAL.get_or_init(py, || decimal).bind(py))
}

/// The name of a value's type without its module, as the peer's messages have it.
fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}
