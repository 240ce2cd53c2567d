//! The strings in the platform's small JSON documents, which hold a few members and are read a few times in a process:
//! no reason for a JSON library. Whoever wants more of a document decodes its bytes.

use std::fmt::Write;

/// The string that a JSON object has under `name`; `None` when it has none, or when the bytes are no JSON object up to
/// there. Members of inner objects do not count.
pub(crate) fn string_member(document: &[u8], name: &str) -> Option<String> {
    let mut scanner = Scanner { rest: document };
    scanner.take(b'{')?;
    loop {
        scanner.skip_blanks();
        let key = scanner.string()?;
        scanner.take(b':')?;
        scanner.skip_blanks();
        if key == name {
            return scanner.string();
        }
        scanner.skip_value()?;
        scanner.take(b',')?;
    }
}

/// `text` as a JSON string, with its quotes.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..='\x1f' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl Scanner<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Blanks, then this byte.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_blanks();
        (self.next()? == byte).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        if self.next()? != b'"' {
            return None;
        }
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(String::from_utf8_lossy(&bytes).into_owned()),
                b'\\' => {
                    let character = self.escape()?;
                    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                byte => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.code_unit()?;
                match char::from_u32(first) {
                    Some(character) => character,
                    None => self.second_half(first).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            byte => char::from(byte),
        })
    }

    fn code_unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    /// The character of a surrogate pair whose first half has been read. Nothing is taken where the second is missing.
    fn second_half(&mut self, first: u32) -> Option<char> {
        let mut ahead = Scanner { rest: self.rest.strip_prefix(b"\\u")? };
        let second = ahead.code_unit()?;
        let character = char::decode_utf16([u16::try_from(first).ok()?, u16::try_from(second).ok()?])
            .next()
            .and_then(Result::ok)?;
        self.rest = ahead.rest;
        Some(character)
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.rest.first()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b',' | b'}' | b']' if depth == 0 => return Some(()),
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_among_others_of_any_kind() {
        let document = br#" { "a" : [1, {"b": "inner ]}"}], "n":-1.5e3,"t":true , "b":"x","c":null} "#;
        assert_eq!(string_member(document, "b").as_deref(), Some("x"));
        assert_eq!(string_member(document, "a"), None, "no string");
        assert_eq!(string_member(document, "c"), None);
        assert_eq!(string_member(document, "missing"), None);
    }

    #[test]
    fn escapes_are_undone() {
        let document = br#"{"\u0061":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00 \ud83d \ude00"}"#;
        let expected = "\"\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f600} \u{fffd} \u{fffd}";
        assert_eq!(string_member(document, "a").as_deref(), Some(expected));
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        let whole = br#"{"x":[{}],"a":"b"}"#;
        for end in 0..whole.len() - 1 {
            assert_eq!(string_member(&whole[..end], "a"), None, "{end}");
        }
        for document in [&b"[\"a\",\"b\"]"[..], b"\"a\"", b"{\"a\" \"b\"}", b"{a:1}", b"{\"a\":\"\\u12\"}"] {
            assert_eq!(string_member(document, "a"), None);
        }
    }

    #[test]
    fn what_was_quoted_is_read_back() {
        for text in ["", "plain", "\"\\\n\0\u{1f}\u{7f}\u{e9}\u{1f600}"] {
            let document = format!("{{\"a\":{}}}", quote(text));
            assert_eq!(string_member(document.as_bytes(), "a").as_deref(), Some(text));
        }
    }
}
