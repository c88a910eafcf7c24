//! The journal's drain against a socket of the tests' own.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;

use slog::{debug, error, info, trace, warn};
use tempfile::TempDir;

use super::*;
use crate::config::LogLevel;
use crate::logging::{LogSetup, with_drain};

struct Socket {
    _folder: TempDir,
    path: PathBuf,
    socket: UnixDatagram,
}

impl Socket {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            _folder: folder,
            path,
            socket,
        }
    }

    fn log(&self) -> LogSetup {
        with_drain(LogLevel::Trace, Journal::at(self.path.clone()))
    }

    /// What has come, each entry by its fields.
    fn entries(&self) -> Vec<BTreeMap<String, String>> {
        let mut entries = Vec::new();
        let mut datagram = vec![0; 1 << 20];
        while let Ok(length) = self.socket.recv(&mut datagram) {
            entries.push(parsed(&datagram[..length]));
        }
        entries
    }
}

/// As journald reads it.
fn parsed(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                bytes = rest;
                (&line[..equals], &line[equals + 1..])
            }
            None => {
                let (length, rest) = rest.split_at(8);
                let length = u64::from_le_bytes(length.try_into().unwrap());
                let (value, rest) = rest.split_at(usize::try_from(length).unwrap());
                assert_eq!(rest[0], b'\n');
                bytes = &rest[1..];
                (line, value)
            }
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let before = fields.insert(text(name), text(value));
        assert_eq!(before, None, "{} is there twice", text(name));
    }
    fields
}

#[test]
fn a_line_is_its_message_with_its_values_and_each_value_a_field() {
    let journal = Socket::new();
    let setup = journal.log();
    let log = setup
        .logger
        .new(slog::o!("group" => "landing", "generation" => 2));
    let log = log.new(slog::o!("actor" => "uploader"));
    let line = line!() + 1;
    info!(log, "file landed"; "key" => "a/b", "rows" => 3, "partition" => 0);
    drop((log, setup.logger, setup.guard));
    let entries = journal.entries();
    assert_eq!(entries.len(), 1);
    let expected = BTreeMap::from(
        [
            ("MESSAGE", "file landed, key: a/b, rows: 3, partition: 0"),
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "groundtrack"),
            ("CODE_FILE", file!()),
            ("CODE_LINE", &line.to_string()),
            ("CODE_MODULE", module_path!()),
            ("GROUP", "landing"),
            ("GENERATION", "2"),
            ("ACTOR", "uploader"),
            ("KEY", "a/b"),
            ("ROWS", "3"),
            ("PARTITION", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    assert_eq!(entries[0], expected);
}

#[test]
fn the_priorities_are_those_of_syslog() {
    let journal = Socket::new();
    let setup = journal.log();
    error!(setup.logger, "a");
    warn!(setup.logger, "b");
    info!(setup.logger, "c");
    debug!(setup.logger, "d");
    trace!(setup.logger, "e");
    drop((setup.logger, setup.guard));
    let entries = journal.entries();
    let priorities: Vec<&str> = entries
        .iter()
        .map(|entry| entry["PRIORITY"].as_str())
        .collect();
    assert_eq!(priorities, ["3", "4", "6", "7", "7"]);
}

#[test]
fn an_event_has_its_message_id_and_where_it_is_no_trouble_goes_out_as_a_notice() {
    let journal = Socket::new();
    let setup = journal.log();
    info!(setup.logger, "it is ready"; events::READY, "error" => "", "partition" => 1);
    info!(setup.logger, "file landed"; events::LANDED);
    warn!(setup.logger, "partition stopped"; events::OVERTAKEN);
    drop((setup.logger, setup.guard));
    let entries = journal.entries();
    assert_eq!(entries[0]["MESSAGE"], "it is ready, partition: 1");
    for (entry, (event, priority)) in entries.iter().zip([
        (events::READY, "5"),
        (events::LANDED, "6"),
        (events::OVERTAKEN, "4"),
    ]) {
        assert_eq!(entry["MESSAGE_ID"], event.message_id());
        assert_eq!(entry["EVENT"], event.name);
        assert_eq!(entry["PRIORITY"], priority);
    }
}

#[test]
fn hostile_text_makes_no_field_and_no_escape_of_its_own() {
    let journal = Socket::new();
    let setup = journal.log();
    let hostile = "gone\nPRIORITY=0\n_SYSTEMD_UNIT=sshd.service\u{1b}[2J";
    warn!(setup.logger, "poll failed"; "error" => hostile);
    drop((setup.logger, setup.guard));
    let entries = journal.entries();
    assert_eq!(entries[0]["PRIORITY"], "4");
    assert_eq!(entries[0]["ERROR"], hostile);
    assert!(!entries[0].contains_key("_SYSTEMD_UNIT"));
    let shown = &entries[0]["MESSAGE"];
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(shown.contains("sshd.service"), "{shown}");
}

#[test]
fn a_long_value_is_whole_in_its_field_and_cut_in_the_message() {
    let journal = Socket::new();
    let setup = journal.log();
    let long = "ä".repeat(10_000);
    warn!(setup.logger, "poll failed"; "error" => &long);
    drop((setup.logger, setup.guard));
    let entries = journal.entries();
    assert_eq!(entries[0]["ERROR"], long);
    assert!(entries[0]["MESSAGE"].chars().count() < SHOWN_CHARS_MAX + 50);
    assert!(entries[0]["MESSAGE"].ends_with("..."));
}

#[test]
fn what_the_line_says_itself_goes_before_what_its_logger_carries() {
    let journal = Socket::new();
    let setup = journal.log();
    let log = setup.logger.new(slog::o!("group" => "landing"));
    info!(log, "group failed"; "group" => "web");
    drop((log, setup.logger, setup.guard));
    assert_eq!(journal.entries()[0]["GROUP"], "web");
}

#[test]
fn lines_that_a_full_journal_does_not_take_are_counted_and_said() {
    let journal = Socket::new();
    let setup = journal.log();
    // Nobody reads: far more than its queue holds. Every line is handed over without the writer
    // of the line being held up for good.
    let written = 5_000;
    for number in 0..written {
        info!(setup.logger, "counted"; "number" => number);
    }
    let ended = std::thread::spawn(move || drop((setup.logger, setup.guard)));
    let mut heard = Vec::new();
    while !ended.is_finished() {
        heard.extend(journal.entries());
        std::thread::yield_now();
    }
    ended.join().unwrap();
    heard.extend(journal.entries());
    let lost: usize = heard
        .iter()
        .filter_map(|entry| entry.get("LINES"))
        .map(|lines| lines.parse::<usize>().unwrap())
        .sum();
    let taken = heard.iter().filter(|entry| entry.contains_key("NUMBER"));
    assert!(lost > 0);
    assert_eq!(taken.count() + lost, written);
}

#[test]
fn lines_written_while_there_is_no_journal_are_said_when_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut writer = Journal::at(path.clone()).0.into_inner();
    let now = Instant::now();
    let mut line = Entry::default();
    line.field("MESSAGE", "unheard");
    for _ in 0..3 {
        writer.write(&line, now);
    }
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    writer.write(&line, now + Duration::from_secs(7));
    let mut datagram = [0; 4096];
    let mut heard = Vec::new();
    while let Ok(length) = socket.recv(&mut datagram) {
        heard.push(parsed(&datagram[..length]));
    }
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0]["MESSAGE"], "unheard");
    assert_eq!(heard[1]["MESSAGE_ID"], events::LINES_LOST.message_id());
    assert_eq!((&*heard[1]["LINES"], &*heard[1]["SECONDS"]), ("3", "7"));
}
