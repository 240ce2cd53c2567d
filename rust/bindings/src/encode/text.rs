//! Strings: from the characters as `CPython` stores them (one, two or four bytes each) to escaped UTF-8, in
//! one pass and without the UTF-8 copy that `CPython` would otherwise keep inside every non-ASCII string.

use super::output::Output;
use super::{Raised, SHORT};

/// Characters written between two looks at the room that is left, so that a long string does not ask for six
/// times its size at once.
const BLOCK: usize = 4096;

/// The longest text of one character: `\u001f`.
const LONGEST_ESCAPE: usize = 6;

/// Two quotes, writes of whole words that go beyond what counts, and what the walk needs next.
const SLACK: usize = 24 + SHORT;

/// Bytes looked at together at a string's end.
const WORD: usize = 16;

/// Characters of one width, somewhere inside a str.
#[derive(Clone, Copy)]
pub struct Characters<W> {
    /// The first character.
    pub start: *const W,
    /// How many there are.
    pub length: usize,
    /// Whether the `WORD` bytes before the first character can be read too: so it is in a str that has its
    /// characters right behind its header.
    pub has_head: bool,
}

/// A width in which characters are stored.
pub trait Width: Copy {
    /// Write characters escaped, as UTF-8. Returns the end of what was written.
    ///
    /// # Safety
    /// The characters can be read, and there is room at `to` for `LONGEST_ESCAPE` bytes per character and `SLACK`.
    unsafe fn write(characters: Characters<Self>, to: *mut u8) -> *mut u8;
}

/// Append a string, in quotes, and leave `SHORT` bytes of room. One short piece, as nearly every string is, needs
/// one look at the room.
///
/// # Safety
/// The characters can be read.
#[inline(always)]
pub unsafe fn put_short_string<W: Width>(out: &mut Output, characters: Characters<W>) -> Result<(), Raised> {
    if characters.length > BLOCK {
        // SAFETY: the caller's.
        return unsafe { put_string(out, characters) };
    }
    out.reserve(characters.length * LONGEST_ESCAPE + SLACK)?;
    // SAFETY: the room was reserved on the line above, the quotes being part of the slack.
    unsafe {
        out.put(b'"');
        let end = W::write(characters, out.end());
        out.set_end(end);
        out.put(b'"');
    }
    Ok(())
}

/// Append a string of any length, in quotes, and leave `SHORT` bytes of room.
///
/// # Safety
/// The characters can be read.
#[inline(never)]
pub unsafe fn put_string<W: Width>(out: &mut Output, characters: Characters<W>) -> Result<(), Raised> {
    let Characters { mut start, length: mut left, mut has_head } = characters;
    out.extend(b"\"")?;
    while left > 0 {
        let length = left.min(BLOCK);
        out.reserve(length * LONGEST_ESCAPE + SLACK)?;
        // SAFETY: the room was reserved on the line above, and the pieces make up the caller's characters.
        unsafe {
            let end = W::write(Characters { start, length, has_head }, out.end());
            out.set_end(end);
            start = start.add(length);
        }
        left -= length;
        has_head = true;
    }
    out.reserve(SLACK)?;
    // SAFETY: the room was reserved on the line above.
    unsafe { out.put(b'"') };
    Ok(())
}

/// What stands for an ASCII character: up to six bytes and, in the last place, how many. Only control
/// characters, the quote and the backslash have more than themselves: DEL and U+2028 stay as they are, as
/// with the peer.
static ASCII: [[u8; 8]; 128] = ascii_table();

const fn ascii_table() -> [[u8; 8]; 128] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 8]; 128];
    let mut code = 0;
    while code < 128 {
        #[allow(clippy::cast_possible_truncation)] // below 128
        let character = code as u8;
        let short = match character {
            b'"' | b'\\' => character,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => 0,
        };
        table[code] = if short != 0 {
            [b'\\', short, 0, 0, 0, 0, 0, 2]
        } else if code < 0x20 {
            [b'\\', b'u', b'0', b'0', HEX[code >> 4], HEX[code & 15], 0, 6]
        } else {
            [character, 0, 0, 0, 0, 0, 0, 1]
        };
        code += 1;
    }
    table
}

/// Write one character of any kind.
///
/// # Safety
/// There is room for eight bytes at `to`.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // every cast is of a masked value
unsafe fn write_one(code: u32, to: *mut u8) -> *mut u8 {
    const CONTINUATION: u32 = 0x3f;
    // SAFETY: the caller has room for eight bytes.
    unsafe {
        if code < 0x80 {
            let entry = &ASCII[code as usize];
            to.cast::<[u8; 8]>().write_unaligned(*entry);
            return to.add(entry[7] as usize);
        }
        if code < 0x800 {
            to.cast::<[u8; 2]>()
                .write_unaligned([0xc0 | (code >> 6) as u8, 0x80 | (code & CONTINUATION) as u8]);
            return to.add(2);
        }
        if (0xd800..0xe000).contains(&code) {
            return write_lone_surrogate(code, to);
        }
        if code < 0x1_0000 {
            to.cast::<[u8; 3]>().write_unaligned([
                0xe0 | (code >> 12) as u8,
                0x80 | (code >> 6 & CONTINUATION) as u8,
                0x80 | (code & CONTINUATION) as u8,
            ]);
            return to.add(3);
        }
        to.cast::<[u8; 4]>().write_unaligned([
            0xf0 | (code >> 18) as u8,
            0x80 | (code >> 12 & CONTINUATION) as u8,
            0x80 | (code >> 6 & CONTINUATION) as u8,
            0x80 | (code & CONTINUATION) as u8,
        ]);
        to.add(4)
    }
}

/// A str may hold half a surrogate pair, which UTF-8 cannot: it leaves as the escape that JSON has for it.
///
/// # Safety
/// There is room for six bytes at `to`.
#[cold]
#[allow(clippy::cast_possible_truncation)] // every cast is of a masked value
unsafe fn write_lone_surrogate(code: u32, to: *mut u8) -> *mut u8 {
    let hex = |shift: u32| b"0123456789abcdef"[(code >> shift & 15) as usize];
    // SAFETY: the caller has room for six bytes.
    unsafe {
        to.cast::<[u8; 6]>().write_unaligned([b'\\', b'u', hex(12), hex(8), hex(4), hex(0)]);
        to.add(6)
    }
}

/// Whether all eight bytes are ASCII characters that need no escape.
#[inline(always)]
const fn eight_are_plain(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let quote = word ^ (b'"' as u64 * ONES);
    let backslash = word ^ (b'\\' as u64 * ONES);
    // A subtraction that borrows sets a byte's high bit. A borrow may also spoil the byte above, but only
    // after it has shown up in its own; bytes with the high bit set from the start are not ASCII and count on
    // their own.
    let suspicious =
        word.wrapping_sub(0x20 * ONES) | quote.wrapping_sub(ONES) | backslash.wrapping_sub(ONES) | word;
    suspicious & HIGH == 0
}

/// Which of sixteen bytes are anything but ASCII characters that need no escape: a bit for each, the first byte's
/// the lowest.
///
/// # Safety
/// Sixteen bytes can be read at `from`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(clippy::cast_ptr_alignment)] // the load needs none
unsafe fn special_of_sixteen(from: *const u8) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8, _mm_xor_si128,
    };
    // SAFETY: the caller vouches for the bytes; SSE2 is part of x86_64.
    unsafe {
        let characters = _mm_loadu_si128(from.cast::<__m128i>());
        let backslashes = _mm_cmpeq_epi8(characters, _mm_set1_epi8(b'\\'.cast_signed()));
        // With one bit turned over, the quote is the character that follows the control characters. The comparison
        // is signed: bytes from 0x80 on are negative, so it finds non-ASCII characters as well.
        let turned = _mm_xor_si128(characters, _mm_set1_epi8(b'"'.cast_signed() ^ 0x20));
        let others = _mm_cmplt_epi8(turned, _mm_set1_epi8(0x21));
        _mm_movemask_epi8(_mm_or_si128(others, backslashes)).cast_unsigned()
    }
}

/// As above, for processors without SSE2.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn special_of_sixteen(from: *const u8) -> u32 {
    // SAFETY: the caller vouches for the bytes.
    let bytes = unsafe { from.cast::<[u8; WORD]>().read() };
    let (low, high) = bytes.split_at(8);
    let plain = |half: &[u8]| half.try_into().is_ok_and(|half| eight_are_plain(u64::from_ne_bytes(half)));
    if plain(low) && plain(high) {
        return 0;
    }
    let is_special = |byte: u8| !matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7f);
    (0..WORD).fold(0, |mask, place| mask | u32::from(is_special(bytes[place])) << place)
}

/// Copy sixteen bytes.
///
/// # Safety
/// They can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy_sixteen(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's.
    unsafe { to.cast::<[u8; WORD]>().write(from.cast::<[u8; WORD]>().read()) };
}

/// Copy fewer than sixteen characters if all of them are plain, without a branch on how many there are, which
/// would seldom be guessed right: the word that ends with them is moved down.
///
/// # Safety
/// The `WORD` bytes before `from + length` can be read, and `WORD` bytes written at `to`; `length` is below
/// `WORD`.
#[inline(always)]
unsafe fn copy_plain_tail(from: *const u8, length: usize, to: *mut u8) -> bool {
    debug_assert!(length < WORD);
    if length == 0 {
        return true;
    }
    let before = WORD - length;
    // SAFETY: the caller's.
    unsafe {
        let end = from.add(length).sub(WORD);
        let word = u128::from_le_bytes(end.cast::<[u8; WORD]>().read()) >> (8 * before);
        to.cast::<[u8; WORD]>().write(word.to_le_bytes());
        special_of_sixteen(end) >> before == 0
    }
}

impl Width for u8 {
    #[inline(always)]
    unsafe fn write(characters: Characters<u8>, mut to: *mut u8) -> *mut u8 {
        let Characters { start: mut from, length: mut left, has_head } = characters;
        let tail_has_head = has_head || left >= WORD;
        // SAFETY: `from` moves through the characters as `left` counts down; the caller has room for the longest
        // text of every character and for the words written beyond.
        unsafe {
            while left >= 64 {
                let mut special = 0;
                for offset in [0, 16, 32, 48] {
                    copy_sixteen(from.add(offset), to.add(offset));
                    special |= special_of_sixteen(from.add(offset));
                }
                if special == 0 {
                    (from, to, left) = (from.add(64), to.add(64), left - 64);
                } else {
                    let stop = (left - 63).max(16);
                    while left >= stop {
                        (from, to, left) = write_sixteen(from, to, left);
                    }
                }
            }
            while left >= 16 {
                (from, to, left) = write_sixteen(from, to, left);
            }
            if tail_has_head && copy_plain_tail(from, left, to) {
                return to.add(left);
            }
            for offset in 0..left {
                to = write_one(u32::from(*from.add(offset)), to);
            }
        }
        to
    }
}

/// Write sixteen characters, or fewer, up to and with the first that is not plain. Returns what is left to read,
/// where to write, and how many characters are left.
///
/// # Safety
/// Sixteen characters of the `left` can be read at `from`, and there is room as for `Width::write`.
#[inline(always)]
unsafe fn write_sixteen(from: *const u8, to: *mut u8, left: usize) -> (*const u8, *mut u8, usize) {
    // SAFETY: the caller's.
    unsafe {
        copy_sixteen(from, to);
        let special = special_of_sixteen(from);
        // The usual case apart: going on by a constant need not wait for the count.
        if special == 0 {
            return (from.add(16), to.add(16), left - 16);
        }
        let plain = special.trailing_zeros() as usize;
        let to = write_one(u32::from(*from.add(plain)), to.add(plain));
        (from.add(plain + 1), to, left - plain - 1)
    }
}

/// Write eight characters of more than one byte if all are plain ASCII.
///
/// # Safety
/// Eight characters can be read, and there is room for eight bytes at `to`.
#[inline(always)]
unsafe fn write_plain_eight<W: Copy + Into<u32>>(from: *const W, to: *mut u8) -> bool {
    // SAFETY: the caller's. The compiler makes a few vector instructions of the loop where there are any.
    unsafe {
        let mut narrow = [0; 8];
        let mut all = 0;
        for (place, character) in from.cast::<[W; 8]>().read().into_iter().enumerate() {
            let code = character.into();
            all |= code;
            #[allow(clippy::cast_possible_truncation)] // not used if it was longer
            {
                narrow[place] = code as u8;
            }
        }
        to.cast::<[u8; 8]>().write(narrow);
        all < 0x80 && eight_are_plain(u64::from_ne_bytes(narrow))
    }
}

/// Write characters of more than one byte.
///
/// # Safety
/// As for `Width::write`.
#[inline(always)]
unsafe fn write_wide<W: Copy + Into<u32>>(characters: Characters<W>, mut to: *mut u8) -> *mut u8 {
    let Characters { start: mut from, length: mut left, .. } = characters;
    // SAFETY: `from` moves through the characters as `left` counts down; the caller has room for the longest
    // text of every character and for the words written beyond.
    unsafe {
        while left >= 8 {
            if write_plain_eight(from, to) {
                to = to.add(8);
            } else {
                for offset in 0..8 {
                    to = write_one((*from.add(offset)).into(), to);
                }
            }
            from = from.add(8);
            left -= 8;
        }
        for offset in 0..left {
            to = write_one((*from.add(offset)).into(), to);
        }
    }
    to
}

impl Width for u16 {
    #[inline(never)]
    unsafe fn write(characters: Characters<u16>, to: *mut u8) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { write_wide(characters, to) }
    }
}

impl Width for u32 {
    #[inline(never)]
    unsafe fn write(characters: Characters<u32>, to: *mut u8) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { write_wide(characters, to) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped<W: Width>(characters: &[W]) -> String {
        let without_head = written(characters, 0);
        assert_eq!(written(&[characters, characters].concat(), characters.len()), without_head);
        without_head
    }

    /// Write the characters from `skip` on.
    fn written<W: Width>(characters: &[W], skip: usize) -> String {
        let mut buffer = b"head ".to_vec();
        let mut out = Output::new(&mut buffer);
        let has_head = skip * size_of::<W>() >= WORD;
        let rest = Characters {
            // SAFETY: within the slice.
            start: unsafe { characters.as_ptr().add(skip) },
            length: characters.len() - skip,
            has_head,
        };
        // SAFETY: the slice is alive, and has what comes before.
        unsafe { put_short_string(&mut out, rest) }.unwrap();
        out.finish();
        let text = String::from_utf8(buffer).unwrap();
        text.strip_prefix("head \"").unwrap().strip_suffix('"').unwrap().to_owned()
    }

    fn by_definition(character: char) -> String {
        match character {
            '"' => r#"\""#.to_owned(),
            '\\' => r"\\".to_owned(),
            '\n' => r"\n".to_owned(),
            '\r' => r"\r".to_owned(),
            '\t' => r"\t".to_owned(),
            '\u{8}' => r"\b".to_owned(),
            '\u{c}' => r"\f".to_owned(),
            '\0'..='\u{1f}' => format!("\\u{:04x}", u32::from(character)),
            _ => character.to_string(),
        }
    }

    #[test]
    fn every_one_byte_character_is_escaped_at_every_place_of_a_string() {
        for code in 0..=255_u8 {
            for length in 1..40 {
                for place in 0..length {
                    let mut characters = vec![b'a'; length];
                    characters[place] = code;
                    let expected: String =
                        characters.iter().map(|byte| by_definition(char::from(*byte))).collect();
                    assert_eq!(escaped(&characters), expected, "{code:#x} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn long_strings_are_escaped_at_every_pair_of_places() {
        for length in [63, 64, 65, 79, 80, 81, 127, 128, 129, 200] {
            for place in 0..length {
                for distance in [1, 2, 15, 16, 17, 48, 63, 64] {
                    let mut characters = vec![b'a'; length];
                    characters[place] = b'\n';
                    if let Some(character) = characters.get_mut(place + distance) {
                        *character = 0xe9;
                    }
                    let expected: String =
                        characters.iter().map(|byte| by_definition(char::from(*byte))).collect();
                    assert_eq!(
                        escaped(&characters),
                        expected,
                        "{length} characters, {place} and {distance} on"
                    );
                }
            }
        }
    }

    #[test]
    fn wide_characters_become_utf_8_whatever_stands_beside_them() {
        for character in ['a', '"', '\n', 'é', '\u{7ff}', '\u{800}', '\u{2028}', '漢', '\u{ffff}'] {
            for length in 1..20 {
                for place in 0..length {
                    let mut characters = vec![b'x'.into(); length];
                    characters[place] = u16::try_from(u32::from(character)).unwrap();
                    let expected: String = (0..length)
                        .map(|i| by_definition(if i == place { character } else { 'x' }))
                        .collect();
                    assert_eq!(escaped(&characters), expected);
                    let widest: Vec<u32> = characters.iter().map(|c| u32::from(*c)).collect();
                    assert_eq!(escaped(&widest), expected);
                }
            }
        }
        assert_eq!(escaped(&[0x1_f69a_u32, 0x10_ffff]), "🚚\u{10ffff}");
    }

    #[test]
    fn lone_surrogates_are_escaped() {
        assert_eq!(escaped(&[0xd800_u16, 0xdfff]), r"\ud800\udfff");
        assert_eq!(escaped(&[0xdbff_u32, 0x1_0000]), "\\udbff\u{10000}");
    }

    #[test]
    fn long_strings_are_written_in_blocks_without_a_seam() {
        for length in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            assert_eq!(escaped(&vec![1_u8; length]), "\\u0001".repeat(length));
            assert_eq!(escaped(&vec![0x6f22_u16; length]), "漢".repeat(length));
        }
    }
}
