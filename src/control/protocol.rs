//! What is said over the socket: one line that names a command, one JSON document in answer, and
//! the connection ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest line that is read, its end included: no command is half as long.
pub(super) const REQUEST_MAX_BYTES: usize = 64;

/// A client that has a question has it ready.
pub(super) const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// An answer is some hundred kilobytes at most; a client that takes longer than this to read it
/// holds a connection for nothing.
pub(super) const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// The longest answer that a client reads: thirty thousand partitions are far below.
pub(super) const ANSWER_MAX_BYTES: u64 = 32 << 20;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// What the process says of itself.
    Status,
    /// Load the configuration again.
    Reload,
}

impl Request {
    const ALL: [Self; 2] = [Self::Status, Self::Reload];

    /// As it is written, without the end of its line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Reload => "reload",
        }
    }

    /// Reads a whole line.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self::ALL
            .into_iter()
            .find(|request| request.as_str().as_bytes() == line)
    }
}

/// The answer where there is no other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Denied {
    /// Why.
    pub(super) error: String,
}

impl Denied {
    pub(super) fn new(why: &str) -> Self {
        Self {
            error: why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_that_names_it() {
        assert_eq!(Request::parse(b"status\n"), Some(Request::Status));
        assert_eq!(Request::parse(b"reload\r\n"), Some(Request::Reload));
        for other in [
            &b"status"[..],
            b"",
            b"\n",
            b"Status\n",
            b" status\n",
            b"status \n",
            b"stop\n",
            b"GET / HTTP/1.1\r\n",
            b"\xff\xfe\n",
        ] {
            assert_eq!(Request::parse(other), None, "{other:?}");
        }
    }
}
