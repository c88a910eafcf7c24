//! `groundtrack status --watch`: asks once a second, and draws what has changed in place on a
//! terminal; elsewhere it prints one block after another.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::client::{self, AskError};
use super::screen::{self, Size};
use crate::signals::Signal;
use crate::status::snapshot::{Health, Snapshot};

/// As often as a person reads.
const EVERY: Duration = Duration::from_secs(1);

/// The other screen, without a cursor: what was on the terminal comes back in the end.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

/// What is shown, and what it says of the process.
#[derive(Debug)]
pub enum Seen {
    /// Its document.
    Answered(Box<serde_json::Value>),
    /// Why there is none.
    Unanswered(AskError),
}

impl Seen {
    /// Asks once.
    pub async fn ask(candidates: &[PathBuf]) -> Self {
        match client::status(candidates).await {
            Ok(document) => Self::Answered(Box::new(document)),
            Err(error) => Self::Unanswered(error),
        }
    }

    /// Whether all is well; else the reason why it is not even known.
    ///
    /// # Errors
    /// [`AskError`]: there was no answer.
    pub fn into_health(self) -> Result<bool, AskError> {
        match self {
            Self::Answered(document) => {
                let health = serde_json::to_value(Health::Healthy).unwrap_or_default();
                Ok(document["health"] == health)
            }
            Self::Unanswered(error) => Err(error),
        }
    }

    /// For people.
    pub fn text(&self, size: Size) -> String {
        match self {
            Self::Answered(document) => match serde_json::from_value::<Snapshot>(*document.clone())
            {
                Ok(snapshot) => screen::render(&snapshot, size),
                Err(error) => {
                    format!("another version runs, --json shows what it says: {error}\n")
                }
            },
            Self::Unanswered(error) => format!("{error}\n"),
        }
    }
}

/// Of the terminal that stdout is.
pub fn size_of_stdout() -> Size {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
            columns: size.ws_col.into(),
            lines: size.ws_row.into(),
        },
        _ => Size::default(),
    }
}

/// Shows it until a signal to end, and hands back what was seen last; `None`: nothing was yet.
///
/// # Errors
/// Where stdout takes no more.
pub async fn watch(
    candidates: &[PathBuf],
    json: bool,
    mut signals: mpsc::Receiver<Signal>,
) -> io::Result<Option<Seen>> {
    let mut shown = Shown::open(io::stdout().is_terminal() && !json)?;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => {
                if signal == Signal::End {
                    shown.close(seen.as_ref())?;
                    return Ok(seen);
                }
            }
            now = async {
                every.tick().await;
                Seen::ask(candidates).await
            } => {
                shown.show(&now, json)?;
                seen = Some(now);
            }
        }
    }
}

/// Where it is drawn. Dropped, it leaves the terminal as it was.
struct Shown {
    is_terminal: bool,
    is_first: bool,
}

impl Shown {
    fn open(is_terminal: bool) -> io::Result<Self> {
        let shown = Self {
            is_terminal,
            is_first: true,
        };
        if is_terminal {
            put(ENTER)?;
        }
        Ok(shown)
    }

    fn show(&mut self, seen: &Seen, json: bool) -> io::Result<()> {
        let gap = if self.is_first { "" } else { "\n" };
        self.is_first = false;
        match seen {
            Seen::Answered(document) if json => put(&format!("{document}\n")),
            // What is no document is for people alone.
            Seen::Unanswered(error) if json => {
                eprintln!("{error}");
                Ok(())
            }
            _ if self.is_terminal => put(&drawn(&seen.text(size_of_stdout()))),
            _ => put(&format!("{gap}{}", seen.text(Size::default()))),
        }
    }

    /// What was seen last stays on the terminal.
    fn close(&mut self, seen: Option<&Seen>) -> io::Result<()> {
        if !std::mem::take(&mut self.is_terminal) {
            return Ok(());
        }
        put(LEAVE)?;
        seen.map_or(Ok(()), |seen| put(&seen.text(size_of_stdout())))
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.is_terminal {
            // Where it cannot be written there is nobody who sees it.
            let _ = put(LEAVE);
        }
    }
}

/// Drawn over what is there, line by line, so that nothing flickers.
fn drawn(text: &str) -> String {
    let mut drawn = HOME.to_owned();
    for line in text.lines() {
        drawn += line;
        drawn += REST_OF_LINE;
        drawn += "\r\n";
    }
    drawn + REST_OF_SCREEN
}

fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
