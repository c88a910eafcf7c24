//! The syntax of JSON, as `serde_json` reads it into a `Value`: what is accepted here is accepted
//! there, save that a number's size is no question of syntax.

use crate::messages::Cause;

/// Open arrays and objects: one more is refused. It is `serde_json`'s limit, which counts the same
/// way, so a record that lands is one that others can read.
pub(super) const DEPTH_MAX: usize = 127;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    /// A string that is its own content.
    Plain,
    /// A string with escapes in it.
    Escaped,
    Array,
    Object,
}

/// Why the text is not JSON, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) cause: Cause,
    pub(super) at: usize,
    pub(super) expected: &'static str,
}

/// A position in a text. Slices that it makes end beside ASCII bytes, so they are text as well.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The one value that the text must hold.
    pub(super) fn document(text: &'a str) -> Result<Kind, Bad> {
        let mut scan = Self::new(text);
        scan.space();
        let kind = scan.value(0)?;
        scan.end()?;
        Ok(kind)
    }

    /// Nothing but white space may follow.
    #[inline]
    pub(super) fn end(&mut self) -> Result<(), Bad> {
        match self.space() {
            None => Ok(()),
            Some(_) => Err(Bad {
                cause: Cause::Trailing,
                at: self.at,
                expected: "nothing after the first value",
            }),
        }
    }

    #[inline(always)]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes white space; returns the byte behind it, which it does not pass.
    #[inline(always)]
    pub(super) fn space(&mut self) -> Option<u8> {
        // None or one is what most writers put.
        let mut byte = self.peek()?;
        if byte == b' ' {
            self.at += 1;
            byte = self.peek()?;
        }
        match byte {
            0..=b' ' => self.more_space(),
            other => Some(other),
        }
    }

    #[cold]
    fn more_space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    #[cold]
    pub(super) fn syntax(&self, expected: &'static str) -> Bad {
        Bad {
            cause: Cause::Syntax,
            at: self.at,
            expected,
        }
    }

    #[cold]
    pub(super) fn too_deep(&self) -> Bad {
        Bad {
            cause: Cause::Depth,
            at: self.at,
            expected: "at most 127 arrays and objects within each other",
        }
    }

    /// Passes a value that begins here, with so many arrays and objects open around it.
    #[inline]
    pub(super) fn value(&mut self, depth: usize) -> Result<Kind, Bad> {
        match self.peek() {
            Some(b'{') => self.nested(depth).map(|()| Kind::Object),
            Some(b'[') => self.nested(depth).map(|()| Kind::Array),
            first => self.scalar(first),
        }
    }

    #[inline]
    fn scalar(&mut self, first: Option<u8>) -> Result<Kind, Bad> {
        match first {
            Some(b'"') => {
                self.at += 1;
                self.string()
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Kind::True),
            Some(b'f') => self.word("false", Kind::False),
            Some(b'n') => self.word("null", Kind::Null),
            _ => Err(self.syntax("a value")),
        }
    }

    fn word(&mut self, word: &'static str, kind: Kind) -> Result<Kind, Bad> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(kind);
        }
        Err(self.syntax(word))
    }

    #[inline]
    fn number(&mut self) -> Result<Kind, Bad> {
        let bytes = self.text.as_bytes();
        self.at = number_end(bytes, self.at).map_err(|at| Bad {
            cause: Cause::Syntax,
            at,
            expected: "a digit",
        })?;
        Ok(Kind::Number)
    }

    /// Passes the rest of a string whose opening quote was passed.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Kind, Bad> {
        let mut kind = Kind::Plain;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(kind);
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape()?;
                }
                Some(_) => return Err(self.syntax("no control character within a string")),
                None => return Err(self.syntax("the end of a string")),
            }
        }
    }

    #[cold]
    fn escape(&mut self) -> Result<(), Bad> {
        match escape(&self.text.as_bytes()[self.at..]) {
            Some((_, length)) => {
                self.at += length;
                Ok(())
            }
            None => Err(self.syntax("an escape that JSON knows, and no half of a surrogate pair")),
        }
    }

    /// Passes an array or object without a stack of its own: a bit for each open one.
    fn nested(&mut self, depth: usize) -> Result<(), Bad> {
        let mut objects: u128 = 0;
        let mut open = 0;
        loop {
            // A value begins here.
            let first = self.peek();
            if let Some(bracket @ (b'{' | b'[')) = first {
                if depth + open >= DEPTH_MAX {
                    return Err(self.too_deep());
                }
                self.at += 1;
                open += 1;
                objects = objects << 1 | u128::from(bracket == b'{');
                let close = if bracket == b'{' { b'}' } else { b']' };
                if self.space() != Some(close) {
                    if bracket == b'{' {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.scalar(first)?;
            }
            // A value has ended, or its closing bracket is here.
            loop {
                let in_object = objects & 1 == 1;
                match (self.space(), in_object) {
                    (Some(b','), _) => {
                        self.at += 1;
                        self.space();
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        open -= 1;
                        objects >>= 1;
                        if open == 0 {
                            return Ok(());
                        }
                    }
                    (_, true) => return Err(self.syntax("a comma or a closing brace")),
                    (_, false) => return Err(self.syntax("a comma or a closing bracket")),
                }
            }
        }
    }

    /// Passes a key, its colon and the space around it.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Kind, Bad> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax("a key"));
        }
        self.at += 1;
        let kind = self.string()?;
        if self.space() != Some(b':') {
            return Err(self.syntax("a colon"));
        }
        self.at += 1;
        self.space();
        Ok(kind)
    }
}

/// Where the number that begins at `at` ends, or where a digit is missing.
#[inline]
pub(super) fn number_end(bytes: &[u8], mut at: usize) -> Result<usize, usize> {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    if !digit(at) {
        return Err(at);
    }
    let leading_zero = bytes[at] == b'0';
    at += 1;
    while !leading_zero && digit(at) {
        at += 1;
    }
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        if !digit(at) {
            return Err(at);
        }
        while digit(at) {
            at += 1;
        }
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        if !digit(at) {
            return Err(at);
        }
        while digit(at) {
            at += 1;
        }
    }
    Ok(at)
}

/// The first quote, backslash or control character from `at` on, or the end. Eight bytes at a
/// time, because most strings are too short for a vector search to pay.
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let chunk = u64::from_le_bytes(*chunk);
        let zero_at = |word: u64| word.wrapping_sub(ONES) & !word;
        let control = chunk.wrapping_sub(ONES * 0x20) & !chunk;
        let quote = zero_at(chunk ^ (ONES * u64::from(b'"')));
        let backslash = zero_at(chunk ^ (ONES * u64::from(b'\\')));
        // A borrow can only mark bytes above the first true one.
        let found = (control | quote | backslash) & HIGH;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            return at;
        }
        at += 1;
    }
    at
}

/// The character that an escape stands for and the escape's length. `None`: no escape that JSON
/// knows, or half of a surrogate pair.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let simple = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(bytes),
        _ => return None,
    };
    Some((simple, 2))
}

fn unicode_escape(bytes: &[u8]) -> Option<(char, usize)> {
    let first = hex(bytes.get(2..6)?)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    if bytes.get(6..8)? != b"\\u" {
        return None;
    }
    let second = hex(bytes.get(8..12)?)?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(code)?, 12))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| {
        Some(sum * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// Appends what an escaped string (without its quotes, already found to be right) stands for.
pub(super) fn unescape(mut text: &str, into: &mut String) {
    while let Some(at) = memchr::memchr(b'\\', text.as_bytes()) {
        into.push_str(&text[..at]);
        let Some((character, length)) = escape(&text.as_bytes()[at..]) else {
            return;
        };
        into.push(character);
        text = &text[at + length..];
    }
    into.push_str(text);
}
