//! The journal's socket. An entry that a datagram cannot hold goes as a sealed file in memory. A
//! journal that takes nothing is waited for, but for a small part of the time only.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Where journald listens; systemd keeps the socket while journald is restarted.
pub(super) const PATH: &str = "/run/systemd/journal/socket";

/// As large as systemd's own clients make it: what journald has not read yet counts in it. The
/// kernel gives what `net.core.wmem_max` allows.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// The longest wait for a full journal: a restart of journald under load is over by then.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A wait is earned by the sixtyfold of its time: whatever the journal does, the log takes a
/// sixtieth of the time from those who write it.
const EARNED_PER: u32 = 60;

/// The socket, connected when it is first needed and again when its other end was replaced.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    connected: Option<UnixDatagram>,
    patience: Patience,
}

impl Socket {
    /// The socket at `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            connected: None,
            patience: Patience::new(Instant::now()),
        }
    }

    /// Sends an entry, or says why it is lost.
    pub(super) fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        let was_connected = self.connected.is_some();
        match self.try_send(entry) {
            // Its other end was closed and another may listen at the path.
            Err(_) if was_connected && self.connected.is_none() => self.try_send(entry),
            other => other,
        }
    }

    /// Allows the longest wait once more, for what is sent last.
    pub(super) fn forgive(&mut self) {
        self.patience = Patience::new(Instant::now());
    }

    fn try_send(&mut self, entry: &[u8]) -> io::Result<()> {
        let socket = match self.connected.take() {
            Some(socket) => socket,
            None => connect(&self.path)?,
        };
        loop {
            let Err(error) = send_once(&socket, entry) else {
                self.connected = Some(socket);
                return Ok(());
            };
            if error.kind() == ErrorKind::Interrupted {
                continue;
            }
            if error.kind() != ErrorKind::WouldBlock {
                return Err(error);
            }
            if !self.patience.wait(socket.as_fd()) {
                self.connected = Some(socket);
                return Err(error);
            }
        }
    }
}

fn connect(path: &PathBuf) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    // A smaller one holds fewer lines while journald is busy.
    let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES);
    Ok(socket)
}

fn send_once(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    let Err(error) = socket.send(entry) else {
        return Ok(());
    };
    let is_too_large = [Errno::MSGSIZE, Errno::NOBUFS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    if is_too_large {
        send_file(socket, entry)
    } else {
        Err(error)
    }
}

/// journald takes a file in memory only if nobody can change it any more.
fn send_file(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"groundtrack-journal", flags)?);
    file.write_all(entry)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(socket, &[], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// How long a full journal may still be waited for.
#[derive(Debug)]
struct Patience {
    left: Duration,
    at: Instant,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self {
            left: WAIT_MAX,
            at: now,
        }
    }

    /// What may be waited at `now`.
    fn left(&mut self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.at) / EARNED_PER;
        self.left = (self.left + earned).min(WAIT_MAX);
        self.at = now;
        self.left
    }

    /// Takes from it what was waited until `now`.
    fn spend(&mut self, now: Instant) {
        let spent = now.saturating_duration_since(self.at);
        self.left = self.left.saturating_sub(spent);
        self.at = now;
    }

    /// Waits until the socket may have room; `false`: it has not, and no more is waited.
    fn wait(&mut self, socket: BorrowedFd<'_>) -> bool {
        let left = self.left(Instant::now());
        if left < Duration::from_millis(1) {
            return false;
        }
        let Ok(timeout) = Timespec::try_from(left) else {
            return false;
        };
        let mut polled = [PollFd::new(&socket, PollFlags::OUT)];
        let ready = poll(&mut polled, Some(&timeout));
        self.spend(Instant::now());
        matches!(ready, Ok(1..) | Err(Errno::INTR))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_full_journal_is_waited_for_a_sixtieth_of_the_time() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        assert_eq!(patience.left(start), WAIT_MAX);
        patience.spend(start + seconds(2));
        assert_eq!(patience.left(start + seconds(2)), Duration::ZERO);
        assert_eq!(patience.left(start + seconds(32)), WAIT_MAX / 2);
        assert_eq!(patience.left(start + seconds(3600)), WAIT_MAX);
    }

    #[test]
    fn an_entry_larger_than_a_datagram_comes_as_a_file_that_nobody_can_change() {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        // More than any wmem_max makes of the buffer asked for.
        let entry = vec![b'x'; 40 << 20];
        Socket::new(path).send(&entry).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&journal, &mut [], &mut control, RecvFlags::empty()).unwrap();
        assert_eq!(received.bytes, 0);
        let Some(RecvAncillaryMessage::ScmRights(mut files)) = control.drain().next() else {
            panic!("no file came");
        };
        let mut file = File::from(files.next().unwrap());
        file.rewind().unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        assert_eq!(text, entry);
        assert!(file.write_all(b"y").is_err());
        assert!(file.set_len(1).is_err());
    }

    #[test]
    fn a_journal_that_was_replaced_at_its_path_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut socket = Socket::new(path.clone());
        assert!(socket.send(b"A=1\n").is_err());
        for _ in 0..2 {
            let journal = UnixDatagram::bind(&path).unwrap();
            socket.send(b"A=1\n").unwrap();
            assert_eq!(journal.recv(&mut [0; 16]).unwrap(), 4);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
