//! The journal's drain: each line as an entry of native fields, so that `journalctl` filters by
//! them, with the priorities of syslog.
//!
//! A line of its own for each record: `MESSAGE` is the message and its values, as a terminal shows
//! them and with control characters escaped; the same values are fields, as they came. The journal
//! is never waited for long (see [`socket`]): what it does not take is counted, and said when it
//! takes lines again.

mod entry;
mod socket;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use slog::{Drain, KV, Key, Level, Never, OwnedKVList, Record, Serializer};

use self::entry::Entry;
#[cfg(test)]
pub(super) use self::entry::field_name;
use self::socket::Socket;
use super::clean::escaped;
use super::events::{self, Event};

/// As `journalctl -t` finds it and shows it before each line, whatever the process is called.
const IDENTIFIER: &str = "groundtrack";

/// What a line shows of one value: a screenful. Its field has the whole.
const SHOWN_CHARS_MAX: usize = 2000;

/// A journal that takes some lines and not others is said to so often.
const SAY_LOST_EVERY: Duration = Duration::from_secs(10);

/// Sends records to the journal. Used by the log's own thread alone.
#[derive(Debug)]
pub(super) struct Journal(RefCell<Writer>);

impl Journal {
    /// To the system's journal.
    pub(super) fn new() -> Self {
        Self::at(PathBuf::from(socket::PATH))
    }

    fn at(path: PathBuf) -> Self {
        Self(RefCell::new(Writer {
            socket: Socket::new(path),
            lost: None,
            said_at: None,
        }))
    }
}

impl Drain for Journal {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let entry = entry_of(record, values);
        self.0.borrow_mut().write(&entry, Instant::now());
        Ok(())
    }
}

#[derive(Debug)]
struct Writer {
    socket: Socket,
    lost: Option<Lost>,
    /// When lost lines were last told of.
    said_at: Option<Instant>,
}

/// Lines that the journal did not take and that have not been told of.
#[derive(Debug)]
struct Lost {
    lines: u64,
    since: Instant,
    error: String,
}

impl Writer {
    fn write(&mut self, entry: &Entry, now: Instant) {
        match self.socket.send(entry.bytes()) {
            Ok(()) => self.say_lost(now),
            Err(error) => self.lose(&error, now),
        }
    }

    fn lose(&mut self, error: &io::Error, now: Instant) {
        let lost = self.lost.get_or_insert_with(|| Lost {
            lines: 0,
            since: now,
            error: String::new(),
        });
        lost.lines += 1;
        lost.error = error.to_string();
    }

    fn say_lost(&mut self, now: Instant) {
        let is_due = self
            .said_at
            .is_none_or(|said_at| now.saturating_duration_since(said_at) >= SAY_LOST_EVERY);
        let Some(lost) = self.lost.as_ref().filter(|_| is_due) else {
            return;
        };
        if self.socket.send(lost.entry(now).bytes()).is_ok() {
            self.lost = None;
            self.said_at = Some(now);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.said_at = None;
        self.socket.forgive();
        self.say_lost(Instant::now());
    }
}

impl Lost {
    fn entry(&self, now: Instant) -> Entry {
        let event = &events::LINES_LOST;
        let seconds = now.saturating_duration_since(self.since).as_secs();
        let (lines, error) = (self.lines, &self.error);
        let mut entry = Entry::default();
        entry.field(
            "MESSAGE",
            &format!(
                "lines of this log are lost, the journal did not take them, lines: {lines}, \
                 seconds: {seconds}, error: {error}"
            ),
        );
        entry.field("MESSAGE_ID", &event.message_id());
        entry.field("PRIORITY", priority(Level::Warning, Some(event)));
        entry.field("SYSLOG_IDENTIFIER", IDENTIFIER);
        entry.key(events::KEY, event.name);
        entry.field("LINES", &lines.to_string());
        entry.field("SECONDS", &seconds.to_string());
        entry.field("ERROR", error);
        entry
    }
}

fn entry_of(record: &Record<'_>, values: &OwnedKVList) -> Entry {
    let mut own = Values::default();
    // Neither of them fails: the serializer below takes everything.
    let _ = record.kv().serialize(record, &mut own);
    let mut context = Values::default();
    let _ = values.serialize(record, &mut context);

    let event = own.0.iter().find(|(key, _)| *key == events::KEY);
    let event = event.and_then(|(_, name)| Event::named(name));
    let mut entry = Entry::default();
    entry.field("MESSAGE", &message(record.msg(), &own));
    if let Some(event) = event {
        entry.field("MESSAGE_ID", &event.message_id());
    }
    entry.field("PRIORITY", priority(record.level(), event));
    entry.field("SYSLOG_IDENTIFIER", IDENTIFIER);
    entry.field("CODE_FILE", record.file());
    entry.field("CODE_LINE", &record.line().to_string());
    entry.field("CODE_MODULE", record.module());
    // What the line says itself goes before what its logger carries.
    for (key, value) in own.0.iter().chain(&context.0) {
        entry.key(key, value);
    }
    entry
}

/// The message and the line's own values, as on a terminal; on one line and without escapes, else
/// `journalctl` shows no text at all.
fn message(words: &fmt::Arguments<'_>, own: &Values) -> String {
    let mut text = words.to_string();
    let is_shown = |(key, value): &&(Key, String)| *key != events::KEY && !value.is_empty();
    let shown = own.0.iter().filter(is_shown);
    for (key, value) in shown.rev() {
        let (shown, rest) = match value.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => (&value[..end], "..."),
            None => (value.as_str(), ""),
        };
        // Writing to a string cannot fail.
        let _ = write!(text, ", {key}: {shown}{rest}");
    }
    escaped(text.as_bytes())
}

fn priority(level: Level, event: Option<&Event>) -> &'static str {
    match level {
        Level::Info if event.is_some_and(|event| event.is_notice) => "5",
        Level::Critical => "2",
        Level::Error => "3",
        Level::Warning => "4",
        Level::Info => "6",
        Level::Debug | Level::Trace => "7",
    }
}

/// Keys and values as text, the last written first, as slog hands them out.
#[derive(Debug, Default)]
struct Values(Vec<(Key, String)>);

impl Serializer for Values {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push((key, value.to_string()));
        Ok(())
    }

    fn emit_none(&mut self, _: Key) -> slog::Result {
        Ok(())
    }

    fn emit_unit(&mut self, _: Key) -> slog::Result {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
