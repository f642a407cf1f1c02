//! Texts: UTF-8 without control characters, and nothing that something would run or render.

use super::{Kind, KindError, looks_like};
use serde::de::IgnoredAny;
use std::io::{BufRead as _, BufReader, Read, Seek};

/// How deep JSON may nest.
const DEPTH_MAX: usize = 128;
/// How many lines decide whether a text is a table.
const LINES: usize = 20;
/// How much of a text's beginning tells whether something would run it: more than the longest sign.
const FIRST: usize = 16;

/// Which text it is, if it is one.
pub(super) fn detect<R: Read + Seek>(
    file: &mut BufReader<R>,
    head: &[u8],
    name: &str,
) -> Result<Kind, KindError> {
    let Some((depth, first)) = scan(file)? else { return Err(KindError::refused(looks_like(head))) };
    let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let first = first.as_bytes();
    if let Some(why) = active(first) {
        return Err(KindError::refused(why));
    }
    file.rewind()?;
    if matches!(first.first(), Some(b'{' | b'[')) && depth <= DEPTH_MAX && is_json(file) {
        return Ok(Kind::Json);
    }
    Ok(match Kind::promised(name) {
        Some(Kind::Csv) => Kind::Csv,
        Some(Kind::Text | Kind::Json) => Kind::Text,
        _ if is_table(&String::from_utf8_lossy(start), head.len() == super::HEAD) => Kind::Csv,
        _ => Kind::Text,
    })
}

/// Why a text is refused that something would run or render.
fn active(first: &[u8]) -> Option<&'static str> {
    match first {
        [b'<', next, ..] if next.is_ascii_alphabetic() || b"!?/".contains(next) => {
            Some("it is markup (HTML, SVG or XML)")
        }
        [b'#', b'!', ..] => Some("it is a script"),
        _ if first.starts_with(b"{\\rtf") => Some("it is RTF"),
        _ if first.starts_with(b"%!PS") => Some("it is PostScript"),
        _ => None,
    }
}

/// What shows nothing: white space of any script, byte order marks, and characters without a width.
///
/// Readers disagree about what may stand in front of markup, so whatever one of them might pass over
/// is passed over.
const fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Reads it all: nothing when it is no text, or how deep its brackets nest, as JSON would count, and
/// the first characters after whatever shows nothing.
fn scan<R: Read>(file: &mut BufReader<R>) -> Result<Option<(usize, String)>, KindError> {
    let mut nesting = Nesting::default();
    let mut first = String::new();
    let mut carried = Vec::new();
    let mut any = false;
    loop {
        let buffer = file.fill_buf()?;
        let read = buffer.len();
        if read == 0 {
            return Ok((any && carried.is_empty()).then_some((nesting.deepest, first)));
        }
        any = true;
        let joined;
        let bytes = if carried.is_empty() {
            buffer
        } else {
            joined = [carried.as_slice(), buffer].concat();
            &joined
        };
        let (text, rest) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, &[][..]),
            Err(error) if error.error_len().is_none() => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), rest)
            }
            Err(_) => return Ok(None),
        };
        if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c')) {
            return Ok(None);
        }
        text.bytes().for_each(|byte| nesting.step(byte));
        if first.len() < FIRST {
            let begun = !first.is_empty();
            let shown = text.chars().skip_while(|c| !begun && is_blank(*c));
            first.extend(shown.take(FIRST - first.len()));
        }
        carried = rest.to_vec();
        file.consume(read);
    }
}

/// Brackets outside of quoted texts.
#[derive(Default)]
struct Nesting {
    depth: usize,
    deepest: usize,
    quoted: bool,
    escaped: bool,
}

impl Nesting {
    const fn step(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            _ if self.quoted => {}
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > self.deepest {
                    self.deepest = self.depth;
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

fn is_json<R: Read + Seek>(file: &mut BufReader<R>) -> bool {
    let marked = file.fill_buf().is_ok_and(|start| start.starts_with(b"\xef\xbb\xbf"));
    if marked {
        file.consume(3);
    }
    serde_json::from_reader::<_, IgnoredAny>(file).is_ok()
}

/// Whether the first lines, at least two, have the same number of separators, at least one.
///
/// A separator within double quotes is none; a line that is cut off by `cut` does not count.
fn is_table(start: &str, cut: bool) -> bool {
    let mut lines: Vec<&str> = start.lines().collect();
    if cut {
        lines.pop();
    }
    let lines = lines.into_iter().filter(|line| !line.trim().is_empty()).take(LINES);
    let lines: Vec<&str> = lines.collect();
    [',', ';', '\t'].into_iter().any(|separator| {
        let counts: Vec<usize> = lines.iter().map(|line| separators(line, separator)).collect();
        counts.len() >= 2 && counts[0] > 0 && counts.iter().all(|count| *count == counts[0])
    })
}

fn separators(line: &str, separator: char) -> usize {
    let mut quoted = false;
    line.chars()
        .filter(|c| {
            quoted ^= *c == '"';
            !quoted && *c == separator
        })
        .count()
}
