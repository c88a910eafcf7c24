//! Asks a running process over its socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::protocol::{ANSWER_MAX_BYTES, Denied, Request};
use crate::supervisor::reload::Answer;

/// The answer is made from atomics, at once: who waits longer than this waits for a process that
/// is stopped, or a machine that is out of breath.
const STATUS_WITHIN: Duration = Duration::from_secs(5);

/// A reload is answered when what it restarts has drained and runs again: `limits.drain` is below
/// 90 s, and a generation that does not end is called stuck after 30 s more.
const RELOAD_WITHIN: Duration = Duration::from_secs(125);

/// Between two attempts at a socket where no place is free.
const RETRY: Duration = Duration::from_millis(50);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("groundtrack is not running: nobody answers at {}", display(.0))]
    NotRunning(Vec<PathBuf>),
    /// Somebody listens who cannot be asked.
    #[error("{path}: {error}{}", hint(.error))]
    Refused {
        /// The socket.
        path: String,
        /// The system's answer.
        error: io::Error,
    },
    /// It listens and does not answer.
    #[error(
        "{path}: no answer within {}: the process is stopped, hangs, or has no CPU; its journal \
         may tell",
        humantime::format_duration(*.within)
    )]
    Silent {
        /// The socket.
        path: String,
        /// How long was waited.
        within: Duration,
    },
    /// It ended before it had answered.
    #[error("{path}: the process ended before it had answered")]
    Ended {
        /// The socket.
        path: String,
    },
    /// It answers that it will not.
    #[error("{path}: {why}")]
    Denied {
        /// The socket.
        path: String,
        /// Its words.
        why: String,
    },
    /// It answers what this version does not know.
    #[error("{path}: the answer is not understood, is another version running? ({error})")]
    Unknown {
        /// The socket.
        path: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

fn display(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(" or ")
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": be root, the user it runs as, or in the group of the socket (groundtrack)"
        }
        _ => "",
    }
}

/// What the process says of itself, as the document that it sent.
///
/// # Errors
/// [`AskError`].
pub async fn status(candidates: &[PathBuf]) -> Result<serde_json::Value, AskError> {
    ask(candidates, Request::Status, STATUS_WITHIN).await
}

/// Asks it to load its configuration again, and waits for what has become of that.
///
/// # Errors
/// [`AskError`].
pub async fn reload(candidates: &[PathBuf]) -> Result<Answer, AskError> {
    ask(candidates, Request::Reload, RELOAD_WITHIN).await
}

/// Asks the first of these that somebody listens on.
async fn ask<T: DeserializeOwned>(
    candidates: &[PathBuf],
    request: Request,
    within: Duration,
) -> Result<T, AskError> {
    for candidate in candidates {
        let path = candidate.display().to_string();
        match timeout(within, exchange(candidate, request)).await {
            Err(_) => return Err(AskError::Silent { path, within }),
            Ok(Err(error)) if is_absent(&error) => {}
            Ok(Err(error)) if is_cut(&error) => return Err(AskError::Ended { path }),
            Ok(Err(error)) => return Err(AskError::Refused { path, error }),
            Ok(Ok(answer)) => return read(&answer, path),
        }
    }
    Err(AskError::NotRunning(candidates.to_vec()))
}

/// There is no socket, or that of a dead process.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | ConnectionRefused)
}

/// It ended with the question unread, or in the midst of its answer.
fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), ConnectionReset | BrokenPipe)
}

async fn exchange(path: &Path, request: Request) -> io::Result<Vec<u8>> {
    let mut stream = loop {
        match UnixStream::connect(path).await {
            // All places are taken, those of who waits for one too.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY).await,
            connected => break connected?,
        }
    };
    let line = format!("{}\n", request.as_str());
    stream.write_all(line.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_MAX_BYTES)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

fn read<T: DeserializeOwned>(answer: &[u8], path: String) -> Result<T, AskError> {
    if !answer.ends_with(b"\n") {
        return Err(AskError::Ended { path });
    }
    if let Ok(Denied { error }) = serde_json::from_slice(answer) {
        return Err(AskError::Denied { path, why: error });
    }
    serde_json::from_slice(answer).map_err(|error| AskError::Unknown { path, error })
}
