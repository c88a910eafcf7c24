//! Signals become what is desired: TERM and INT to end, HUP to load the configuration again.
//!
//! signal-hook delivers them on a thread of its own, so that no handler runs inside other code.

use std::io;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and end; the second one ends at once.
    End,
    /// SIGHUP: load the configuration again.
    Reload,
}

/// Two ends and a few reloads; a signal that finds no room asks for nothing that is not already
/// waiting to be done.
const PENDING_MAX: usize = 16;

/// Listens until it is dropped; the signals keep being swallowed after that.
#[derive(Debug)]
pub struct Listener {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Takes the three signals over from their default actions.
///
/// # Errors
/// Where the system refuses the handlers or the thread.
pub fn listen() -> io::Result<(Listener, mpsc::Receiver<Signal>)> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = signals.handle();
    let (sender, receiver) = mpsc::channel(PENDING_MAX);
    let thread = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for number in signals.forever() {
                let wish = match number {
                    SIGHUP => Signal::Reload,
                    _ => Signal::End,
                };
                if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(wish) {
                    return;
                }
            }
        })?;
    let listener = Listener {
        handle,
        thread: Some(thread),
    };
    Ok((listener, receiver))
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // Its panic has been logged by the hook; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;

    #[test]
    fn each_signal_becomes_a_wish() {
        let (_listener, mut wishes) = listen().unwrap();
        raise(SIGHUP).unwrap();
        assert_eq!(wishes.blocking_recv(), Some(Signal::Reload));
        raise(SIGTERM).unwrap();
        assert_eq!(wishes.blocking_recv(), Some(Signal::End));
        raise(SIGINT).unwrap();
        assert_eq!(wishes.blocking_recv(), Some(Signal::End));
    }
}
