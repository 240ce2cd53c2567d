//! Output cut into lines: one event each.

/// A longer line is cut: a function that prints without line ends must not fill the memory.
const MAX_LINE: usize = 256 * 1024;

/// What came since the last line end.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Take output, and hand on each line that is complete, with its line end.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.partial.is_empty() && piece.ends_with(b"\n") && piece.len() <= MAX_LINE {
                line(&String::from_utf8_lossy(piece));
                continue;
            }
            self.partial.extend_from_slice(piece);
            while self.partial.len() > MAX_LINE {
                let rest = self.partial.split_off(cut(&self.partial));
                line(&String::from_utf8_lossy(&std::mem::replace(&mut self.partial, rest)));
            }
            if self.partial.ends_with(b"\n") {
                self.finish(&mut line);
            }
        }
    }

    /// The output ends here: what is left is a line, too.
    pub fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            line(&String::from_utf8_lossy(&std::mem::take(&mut self.partial)));
        }
    }
}

/// Where a line that is too long is cut: not within a character.
fn cut(line: &[u8]) -> usize {
    let starts = |at: &usize| line[*at] & 0b1100_0000 != 0b1000_0000;
    (MAX_LINE - 3..=MAX_LINE).rev().find(starts).unwrap_or(MAX_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| found.push(line.to_owned()));
        }
        lines.finish(|line| found.push(line.to_owned()));
        found
    }

    #[test]
    fn lines_are_put_together_however_the_output_is_cut() {
        let expected = ["one\n", "two\n", "\n", "three"];
        assert_eq!(lines_of(&[b"one\ntwo\n\nthree"]), expected);
        assert_eq!(lines_of(&[b"on", b"e\nt", b"wo", b"\n", b"\nthr", b"", b"ee"]), expected);
        assert!(lines_of(&[b"", b""]).is_empty());
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let found = lines_of(&[&vec![b'x'; MAX_LINE + 5], b"y\n"]);
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 7]);
    }

    #[test]
    fn a_cut_does_not_go_through_a_character() {
        for before in 0..4 {
            let text = format!("{}{}\n", "x".repeat(before), "\u{1f980}".repeat(MAX_LINE / 4 + 10));
            let found = lines_of(&[text.as_bytes()]);
            assert_eq!(found.len(), 2);
            assert!((MAX_LINE - 3..=MAX_LINE).contains(&found[0].len()), "{}", found[0].len());
            assert!(found.concat() == text, "{before}");
        }
        let broken = vec![0xbf; MAX_LINE + 1];
        assert_eq!(lines_of(&[&broken]).len(), 2, "what is no text is cut anywhere");
    }

    #[test]
    fn what_is_no_text_is_made_one() {
        assert_eq!(lines_of(&[b"a\xffb\n"]), ["a\u{fffd}b\n"]);
    }
}
