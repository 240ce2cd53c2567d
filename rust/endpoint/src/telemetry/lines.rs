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
            for part in piece.chunks(MAX_LINE) {
                self.partial.extend_from_slice(part);
                if self.partial.ends_with(b"\n") || self.partial.len() >= MAX_LINE {
                    self.finish(&mut line);
                }
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
    fn what_is_no_text_is_made_one() {
        assert_eq!(lines_of(&[b"a\xffb\n"]), ["a\u{fffd}b\n"]);
    }
}
