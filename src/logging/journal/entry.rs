//! One entry in the journal's native protocol: `NAME=value` lines, and for a value with a line
//! break its length in front of it, so that nothing in a value can begin a field of its own.

use std::borrow::Cow;

/// journald drops a field with a longer name.
const NAME_BYTES_MAX: usize = 64;

/// Names and beginnings of names that mean something to systemd's own tools. A key of ours that
/// would become one of them gets a prefix.
const RESERVED: [&str; 18] = [
    "MESSAGE",
    "MESSAGE_ID",
    "PRIORITY",
    "ERRNO",
    "INVOCATION_ID",
    "USER_INVOCATION_ID",
    "DOCUMENTATION",
    "TID",
    "UNIT",
    "USER_UNIT",
    "NAMESPACE",
    "RESULT",
    "CODE_",
    "SYSLOG_",
    "COREDUMP_",
    "OBJECT_",
    "JOB_",
    "EXIT_",
];

/// Set before a key that would else be no name or another's.
const PREFIX: &str = "GROUNDTRACK_";

/// An entry being written.
#[derive(Debug, Default)]
pub(super) struct Entry {
    bytes: Vec<u8>,
    names: Vec<Cow<'static, str>>,
}

impl Entry {
    /// A field of this name, which is a valid one.
    pub(super) fn field(&mut self, name: &'static str, value: &str) {
        self.add(Cow::Borrowed(name), value);
    }

    /// A field for a key of the log's. Of two with the same name the first stays.
    pub(super) fn key(&mut self, key: &str, value: &str) {
        self.add(Cow::Owned(field_name(key)), value);
    }

    fn add(&mut self, name: Cow<'static, str>, value: &str) {
        if self.names.contains(&name) {
            return;
        }
        self.bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.bytes.push(b'\n');
            let length = value.len() as u64;
            self.bytes.extend_from_slice(&length.to_le_bytes());
        } else {
            self.bytes.push(b'=');
        }
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
        self.names.push(name);
    }

    /// As it is sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The journal's name for a key: upper case, of letters, digits and underscores, beginning with a
/// letter, and none of systemd's own.
pub(in crate::logging) fn field_name(key: &str) -> String {
    let mut name: String = key
        .chars()
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' => character.to_ascii_uppercase(),
            _ => '_',
        })
        .collect();
    if !name.starts_with(|first: char| first.is_ascii_uppercase()) || is_reserved(&name) {
        name.insert_str(0, PREFIX);
    }
    name.truncate(NAME_BYTES_MAX);
    name
}

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| {
        if reserved.ends_with('_') {
            name.starts_with(reserved)
        } else {
            name == *reserved
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_a_line_break_begins_no_field_of_its_own() {
        let mut entry = Entry::default();
        entry.field("MESSAGE", "poll failed");
        entry.key("error", "gone\nPRIORITY=0\n_UID=0");
        let mut expected = b"MESSAGE=poll failed\nERROR\n".to_vec();
        expected.extend_from_slice(&22_u64.to_le_bytes());
        expected.extend_from_slice(b"gone\nPRIORITY=0\n_UID=0\n");
        assert_eq!(entry.bytes(), expected);
    }

    #[test]
    fn the_first_of_two_fields_of_one_name_stays() {
        let mut entry = Entry::default();
        entry.key("group", "landing");
        entry.key("group", "web");
        assert_eq!(entry.bytes(), b"GROUP=landing\n");
    }

    #[test]
    fn every_key_becomes_a_name_that_journald_takes_and_nobody_else_has() {
        assert_eq!(field_name("consumer_group"), "CONSUMER_GROUP");
        assert_eq!(field_name("a-b.c d"), "A_B_C_D");
        for hostile in ["", "_uid", "__cursor", "7up", "ä"] {
            assert!(field_name(hostile).starts_with(PREFIX), "{hostile}");
        }
        for taken in ["message", "priority", "code_line", "syslog_pid", "unit"] {
            assert!(field_name(taken).starts_with(PREFIX), "{taken}");
        }
        assert_eq!(field_name(&"k".repeat(100)).len(), NAME_BYTES_MAX);
    }
}
