//! What Python's `json` reads of our JSON is what it reads of its own.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use caloric_fuzz::with_reference;
use libfuzzer_sys::fuzz_target;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// What the buffer holds before.
    before: &'a [u8],
    /// Room in it: writing must not count on any.
    room: u8,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Leaf(Leaf),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Vec<(Leaf, Value)>),
    /// So many lists around a value, modulo 128: Python's own reader takes no more than a thousand levels in all.
    Deep(u8, Box<Value>),
}

#[derive(Arbitrary, Debug, Clone)]
enum Leaf {
    None,
    Bool(bool),
    Small(i16),
    Integer(i64),
    /// Little-endian, of any size.
    Big(Vec<u8>),
    Float(f64),
    Text(String),
    /// One byte each: Latin-1.
    Narrow(Vec<u8>),
    /// Code points, surrogates among them.
    Wide(Vec<u16>),
    /// A character up to 5000 times, then another.
    Long(char, u16, char),
}

impl<'a> Arbitrary<'a> for Value {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        value(input, 6)
    }
}

/// A value that is nested `depth` levels at most, but for `Deep`.
fn value(input: &mut Unstructured<'_>, depth: u8) -> arbitrary::Result<Value> {
    let kind = if depth == 0 || input.is_empty() { 0 } else { input.int_in_range(0..=7)? };
    let many = |input: &mut Unstructured<'_>| -> arbitrary::Result<Vec<Value>> {
        let count = input.int_in_range(0..=12)?;
        (0..count).map(|_| value(input, depth - 1)).collect()
    };
    Ok(match kind {
        4 => Value::List(many(input)?),
        5 => Value::Tuple(many(input)?),
        6 => {
            let values = many(input)?;
            Value::Dict(
                values
                    .into_iter()
                    .map(|value| Ok((Leaf::arbitrary(input)?, value)))
                    .collect::<arbitrary::Result<_>>()?,
            )
        }
        7 => Value::Deep(input.arbitrary()?, Box::new(value(input, depth - 1)?)),
        _ => Value::Leaf(input.arbitrary()?),
    })
}

impl Leaf {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self {
            Self::None => py.None().into_bound(py),
            Self::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
            Self::Small(value) => value.into_pyobject(py)?.into_any(),
            Self::Integer(value) => value.into_pyobject(py)?.into_any(),
            Self::Big(bytes) => {
                // 4300 digits are the most that Python turns into text.
                let bytes = PyBytes::new(py, &bytes[..bytes.len().min(1700)]);
                let arguments = PyDict::new(py);
                arguments.set_item("signed", true)?;
                py.get_type::<pyo3::types::PyInt>().call_method(
                    "from_bytes",
                    (bytes, "little"),
                    Some(&arguments),
                )?
            }
            Self::Float(value) => value.into_pyobject(py)?.into_any(),
            Self::Text(text) => text.into_pyobject(py)?.into_any(),
            Self::Narrow(bytes) => PyBytes::new(py, bytes).call_method1("decode", ("latin-1",))?,
            Self::Wide(units) => {
                let bytes: Vec<u8> = units.iter().flat_map(|unit| u32::from(*unit).to_le_bytes()).collect();
                PyBytes::new(py, &bytes).call_method1("decode", ("utf-32-le", "surrogatepass"))?
            }
            Self::Long(first, count, last) => {
                let text: String =
                    std::iter::repeat_n(*first, usize::from(*count % 5000)).chain([*last]).collect();
                text.into_pyobject(py)?.into_any()
            }
        })
    }
}

impl Value {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let all =
            |values: &[Self]| values.iter().map(|value| value.to_python(py)).collect::<PyResult<Vec<_>>>();
        Ok(match self {
            Self::Leaf(leaf) => leaf.to_python(py)?,
            Self::List(values) => PyList::new(py, all(values)?)?.into_any(),
            Self::Tuple(values) => PyTuple::new(py, all(values)?)?.into_any(),
            Self::Dict(items) => {
                let dict = PyDict::new(py);
                for (key, value) in items {
                    dict.set_item(key.to_python(py)?, value.to_python(py)?)?;
                }
                dict.into_any()
            }
            Self::Deep(count, value) => {
                let mut value = value.to_python(py)?;
                for _ in 0..*count % 128 {
                    value = PyList::new(py, [value])?.into_any();
                }
                value
            }
        })
    }
}

fuzz_target!(|input: Input| {
    with_reference(|reference| {
        let py = reference.py();
        let value = input.value.to_python(py)?;
        let mut out = input.before.to_vec();
        out.reserve_exact(usize::from(input.room));
        _rust::encode::encode(py, &value, &mut out)?;
        let document = out.strip_prefix(input.before).expect("what was there stays");
        let document = PyBytes::new(py, document);
        let actual: String = reference.getattr("read_back")?.call1((document,))?.extract()?;
        let expected: String = reference.getattr("round_trip")?.call1((value,))?.extract()?;
        assert_eq!(actual, expected);
        Ok(())
    });
});
