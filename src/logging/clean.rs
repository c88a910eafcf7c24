//! Text from outside on a terminal: control characters are written as escapes, so that no answer
//! of a server moves the cursor, changes colours or begins a line of its own.

use std::io::{self, Write};

use slog::{OwnedKVList, Record};
use slog_term::{Decorator, RecordDecorator};

/// A decorator whose messages, keys and values hold no control characters.
#[derive(Debug)]
pub(super) struct Clean<D>(pub(super) D);

impl<D: Decorator> Decorator for Clean<D> {
    fn with_record<F>(&self, record: &Record<'_>, values: &OwnedKVList, f: F) -> io::Result<()>
    where
        F: FnOnce(&mut dyn RecordDecorator) -> io::Result<()>,
    {
        self.0.with_record(record, values, |inner| {
            f(&mut CleanRecord {
                inner,
                is_text: false,
            })
        })
    }
}

struct CleanRecord<'a> {
    inner: &'a mut dyn RecordDecorator,
    /// Within a message, a key or a value; the line's own end is outside of them.
    is_text: bool,
}

impl Write for CleanRecord<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_text {
            return self.inner.write(bytes);
        }
        self.inner.write_all(escaped(bytes).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The text with its control characters as escapes.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

macro_rules! sections {
    ($($name:ident: $is_text:literal),* $(,)?) => {
        $(fn $name(&mut self) -> io::Result<()> {
            self.is_text = $is_text;
            self.inner.$name()
        })*
    };
}

impl RecordDecorator for CleanRecord<'_> {
    sections! {
        reset: false,
        start_whitespace: false,
        start_msg: true,
        start_timestamp: false,
        start_level: false,
        start_comma: false,
        start_key: true,
        start_value: true,
        start_location: false,
        start_separator: false,
    }
}
