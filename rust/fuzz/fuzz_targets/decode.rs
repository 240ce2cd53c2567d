//! An event is decoded to the value that the standard library's `json` makes of it, or refused by both.
#![no_main]

use caloric_fuzz::with_reference;
use libfuzzer_sys::fuzz_target;
use pyo3::exceptions::{PyRecursionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fuzz_target!(|body: &[u8]| {
    with_reference(|reference| {
        let py = reference.py();
        let loads = reference.getattr("loads")?;
        let expected: String =
            reference.getattr("verdict")?.call1((loads, PyBytes::new(py, body)))?.extract()?;
        let actual = match _rust::decode::decode(py, body) {
            Ok(value) => value.repr()?.extract()?,
            Err(error) => {
                let expected =
                    error.is_instance_of::<PyValueError>(py) || error.is_instance_of::<PyRecursionError>(py);
                assert!(expected, "{error}");
                "refused".to_owned()
            }
        };
        assert_eq!(actual, expected);
        Ok(())
    });
});
