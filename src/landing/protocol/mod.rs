//! The landing protocol, pure: state and event in, state and actions out. The actors do the I/O,
//! and the same functions run in the model checker.
//!
//! The way of a batch through the files: [`claim`] (read, fence, compare with Kafka, decide where
//! to start), [`passage`] (begun, uploaded, landed), [`upload`] (which object holds what),
//! [`held`] (what is asked of a claimed checkpoint, and what it comes to), [`batch`] (begin,
//! landed, holes, stopped: what is swapped in), [`swap`] (one compare-and-swap until it is
//! resolved). What they read and write: [`checkpoint`], [`footer`], [`keys`]. What they say:
//! [`words`].

pub mod batch;
pub mod checkpoint;
pub mod claim;
pub mod footer;
pub mod held;
pub mod keys;
pub mod passage;
#[cfg(test)]
mod samples;
pub mod swap;
pub mod upload;
pub mod words;

/// The time of a decision, passed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970 UTC.
    pub ms: i64,
    /// The same, RFC 3339.
    pub text: String,
}

impl Now {
    /// From milliseconds since 1970 UTC.
    pub fn at(ms: i64) -> Self {
        let text = chrono::DateTime::from_timestamp_millis(ms)
            .unwrap_or_default()
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        Self { ms, text }
    }
}
