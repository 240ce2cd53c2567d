//! Numbers as Python writes them.

use super::Raised;
use super::output::Output;

/// Room that is enough for an integer of 64 bits or a float.
pub const LONGEST_NUMBER: usize = 32;

/// Append an integer.
///
/// # Safety
/// `LONGEST_NUMBER` bytes are reserved.
#[inline(always)]
pub unsafe fn put_integer(out: &mut Output, value: i64) {
    let mut buffer = itoa::Buffer::new();
    // SAFETY: the caller reserved the room.
    unsafe { out.put_few(buffer.format(value).as_bytes()) };
}

/// Append a float as `float.__repr__` writes it, or `NaN`, `Infinity`, `-Infinity`: not legal JSON, but what
/// the peer sends (`allow_nan`).
///
/// # Safety
/// `LONGEST_NUMBER` bytes are reserved.
#[inline(always)]
pub unsafe fn put_float(out: &mut Output, value: f64) {
    if !value.is_finite() {
        // SAFETY: as the caller's.
        unsafe { out.put_all(non_finite(value).as_bytes()) };
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let magnitude = value.abs();
    // SAFETY: as the caller's.
    unsafe {
        if (1e-4..1e16).contains(&magnitude) || magnitude == 0.0 {
            out.put_few(text.as_bytes());
        } else {
            put_exponent_form(out, text);
        }
    }
}

/// What the peer writes for a float that has no digits.
pub fn non_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Outside `1e-4 <= |value| < 1e16` Python always writes an exponent, of two digits at least. The shortest
/// digits are the same whoever computes them; only their arrangement differs.
///
/// # Safety
/// `LONGEST_NUMBER` bytes are reserved.
#[cold]
unsafe fn put_exponent_form(out: &mut Output, text: &str) {
    // SAFETY: 17 digits, a sign, a point and an exponent of five characters at most.
    unsafe {
        if let Some((digits, exponent)) = text.split_once('e') {
            out.put_all(digits.as_bytes());
            out.put(b'e');
            let (sign, exponent) = match exponent.as_bytes() {
                [sign @ (b'-' | b'+'), exponent @ ..] => (*sign, exponent),
                exponent => (b'+', exponent),
            };
            out.put(sign);
            if exponent.len() == 1 {
                out.put(b'0');
            }
            out.put_all(exponent);
        } else {
            // Only 1e-5 <= |value| < 1e-4 comes without an exponent, as 0.0000ddd.
            let (sign, digits) = text.split_at(text.find("0.0000").unwrap_or(0));
            out.put_all(sign.as_bytes());
            let digits = digits.trim_start_matches(['0', '.']);
            let (first, rest) = digits.split_at(1);
            out.put_all(first.as_bytes());
            if !rest.is_empty() {
                out.put(b'.');
                out.put_all(rest.as_bytes());
            }
            out.put_all(b"e-05");
        }
    }
}

/// Append a float, reserving room for it.
pub fn extend_float(out: &mut Output, value: f64) -> Result<(), Raised> {
    out.reserve(LONGEST_NUMBER)?;
    // SAFETY: reserved on the line above.
    unsafe { put_float(out, value) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_does() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e22, "1e+22"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (9.999e-5, "9.999e-05"),
            (1e-5, "1e-05"),
            (-1.234e-5, "-1.234e-05"),
            (1e-7, "1e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut buffer = Vec::new();
            let mut out = Output::new(&mut buffer);
            extend_float(&mut out, value).unwrap();
            out.finish();
            assert_eq!(String::from_utf8(buffer).unwrap(), expected);
        }
    }
}
