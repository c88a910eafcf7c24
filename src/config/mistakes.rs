//! A mistake in what is written, in one line: where, which key, which value, what would be right.

use std::fmt;
use std::sync::Arc;

/// The longest value that a message shows, in characters: enough to know it again.
const SHOWN_MAX_CHARS: usize = 100;

/// Where a value was written. Ordered as it is read: file by line, environment, `--set`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In the file.
    File {
        /// As the user named it.
        name: Arc<str>,
        /// From 1; 0: the file as a whole.
        line: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// In the `--set` with this position, from 0.
    Set(usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line: 0 } => write!(formatter, "{}", shown(name)),
            Self::File { name, line } => write!(formatter, "{}:{line}", shown(name)),
            Self::Environment(name) => write!(formatter, "{}", shown(name)),
            Self::Set(_) => formatter.write_str("--set"),
        }
    }
}

/// One mistake. Its value is already without secrets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where it was written.
    pub origin: Origin,
    /// The key, dotted; empty where there is none, as in a file that cannot be read.
    pub key: String,
    /// As it was written, secrets hidden; `None` where a value is not the point.
    pub value: Option<String>,
    /// What would be right.
    pub right: String,
}

/// `file:line: key = value: what would be right`, always one line.
impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.origin)?;
        match (&self.key, &self.value) {
            (key, _) if key.is_empty() => {}
            (key, None) => write!(formatter, "{}: ", shown(key))?,
            (key, Some(value)) => write!(formatter, "{} = {}: ", shown(key), shown(value))?,
        }
        formatter.write_str(&escaped(&self.right))
    }
}

/// All mistakes of a configuration; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// In the order of their origins, each once.
    pub(super) fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort();
        mistakes.dedup();
        Self(mistakes)
    }

    /// The mistakes, in the order of the file, then of the environment and of `--set`.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One line each, without a line break at the end.
impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.0.iter().enumerate() {
            if number > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Hostile text made fit for a terminal and a journal: no control characters, not too long.
fn shown(text: &str) -> String {
    let mut escaped = escaped(text);
    if let Some((end, _)) = escaped.char_indices().nth(SHOWN_MAX_CHARS) {
        escaped.truncate(end);
        escaped.push_str("..");
    }
    escaped
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, character| {
        // The marks that reverse a line's direction hide what is written as well as a control.
        let reverses = matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || reverses {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
        out
    })
}
