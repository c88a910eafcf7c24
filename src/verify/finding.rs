//! What a verification finds, one thing at a time.

use std::fmt;

use serde_json::{Value, json};

/// What a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Offsets, or an object, that must be there and are not.
    Missing,
    /// Offsets that are there more than once, or an object that repeats another.
    Doubled,
    /// What does not belong there, or contradicts what the objects say of themselves.
    Foreign,
    /// What could not be read, and so is not proven.
    Unread,
    /// What is not proven because `--since` allows for it to have been removed.
    Unproven,
    /// A loss that the operator passed by his word, as the bucket records it.
    Gap,
    /// Somebody else's object, or another topic's.
    Other,
}

/// What a finding does to the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Nothing: it is told.
    Told,
    /// There is no proof, but no disproof either.
    Unread,
    /// It disproves.
    Disproves,
}

impl Kind {
    /// In the order of their weight.
    pub const ALL: [Kind; 7] = [
        Kind::Missing,
        Kind::Doubled,
        Kind::Foreign,
        Kind::Unread,
        Kind::Unproven,
        Kind::Gap,
        Kind::Other,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Doubled => "doubled",
            Kind::Foreign => "foreign",
            Kind::Unread => "unread",
            Kind::Unproven => "unproven",
            Kind::Gap => "gap",
            Kind::Other => "other",
        }
    }

    /// What it does to the proof.
    pub fn weight(self) -> Weight {
        match self {
            Kind::Missing | Kind::Doubled | Kind::Foreign => Weight::Disproves,
            Kind::Unread => Weight::Unread,
            Kind::Unproven | Kind::Gap | Kind::Other => Weight::Told,
        }
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Of which partition; `None`: of none, or that is not known.
    pub partition: Option<i32>,
    /// Offsets [from, to) that it is about.
    pub offsets: Option<(i64, i64)>,
    /// The object that it is about.
    pub key: Option<String>,
    /// What is wrong, in plain words.
    pub why: String,
}

impl Finding {
    /// Of this kind and for this reason.
    pub fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self {
            kind,
            partition: None,
            offsets: None,
            key: None,
            why: why.into(),
        }
    }

    /// The same, of a partition.
    pub fn of(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same, about offsets [from, to).
    pub fn at(mut self, from: i64, to: i64) -> Self {
        self.offsets = Some((from, to));
        self
    }

    /// The same, about an object.
    pub fn in_object(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// `kind`, `partition`, `from`, `to`, `key` (each may be null) and `why`.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": self.kind.as_str(),
            "partition": self.partition,
            "from": self.offsets.map(|offsets| offsets.0),
            "to": self.offsets.map(|offsets| offsets.1),
            "key": self.key,
            "why": self.why,
        })
    }
}

/// One line, whatever it quotes.
impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.kind.weight() {
            Weight::Disproves => "FAIL",
            Weight::Unread => "?",
            Weight::Told => "note",
        };
        write!(formatter, "{mark:5} {:9}", self.kind.as_str())?;
        if let Some(partition) = self.partition {
            write!(formatter, "partition {partition} ")?;
        }
        if let Some((from, to)) = self.offsets {
            write!(formatter, "[{from}, {to}) ")?;
        }
        if let Some(key) = &self.key {
            write!(formatter, "{} ", one_line(key))?;
        }
        write!(formatter, "- {}", one_line(&self.why))
    }
}

/// What was quoted cannot end its line, nor move the cursor.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
