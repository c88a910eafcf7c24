//! The socket's file: made where there is none, put in the place of a dead process's, never taken
//! from a live one, and removed at the end.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Owner and group may connect; the folder decides who reaches it.
const MODE: u32 = 0o660;

/// Of a folder that we have to make.
const FOLDER_MODE: u32 = 0o750;

/// Connections that wait to be accepted: the server takes them within microseconds unless all of
/// its places are taken.
const BACKLOG: u32 = 16;

/// A socket that is listened on. Dropped, it takes its file away.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and number of its file: another process's must not be removed.
    file: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("the folder cannot be made: {0}")]
    Folder(io::Error),
    #[error("another process is making its socket there at this moment")]
    Busy,
    #[error(
        "another process answers on it: one with this configuration, or with this socket in its \
         own, runs already"
    )]
    Taken,
    #[error("there is a file that is no socket, which is left alone: remove it, or name another")]
    NoSocket,
    #[error("{0}")]
    Refused(#[from] io::Error),
}

impl Socket {
    /// Listens on `path`.
    pub(super) async fn bind(path: &Path) -> Result<Self, SocketError> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !folder.exists() {
            fs::DirBuilder::new()
                .mode(FOLDER_MODE)
                .create(folder)
                .map_err(SocketError::Folder)?;
        }
        // Two that start at once must not both take the same dead socket for theirs to replace.
        let lock = File::open(folder)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => SocketError::Busy,
            errno => SocketError::Refused(errno.into()),
        })?;
        clear(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        // Before it listens nobody can connect, whatever the umask has let through.
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        let file = identity(path)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file,
        })
    }

    /// Whether its file is still there for a client to find.
    pub(super) fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|file| file == self.file)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_in_place() {
            // What cannot be removed is replaced by the next process, as a dead one's.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket of a dead process.
async fn clear(path: &Path) -> Result<(), SocketError> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(there) => there,
    };
    if !there.file_type().is_socket() {
        return Err(SocketError::NoSocket);
    }
    let asked = UnixStream::connect(path).await;
    match asked.map_err(|error| (error.kind(), error)) {
        Err((io::ErrorKind::ConnectionRefused, _)) => {
            fs::remove_file(path).map_err(SocketError::from)
        }
        // More wait there to be accepted than there is room for.
        Ok(_) | Err((io::ErrorKind::WouldBlock, _)) => Err(SocketError::Taken),
        Err((_, error)) => Err(error.into()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/groundtrack.sock");
        (folder, path)
    }

    fn make_folder(path: &Path) {
        fs::create_dir(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_gone_at_the_end() {
        let (_folder, path) = place();
        let socket = Socket::bind(&path).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), MODE);
        assert_eq!(mode(path.parent().unwrap()) & 0o007, 0);
        assert!(socket.is_in_place());
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_process_is_replaced() {
        let (_folder, path) = place();
        make_folder(&path);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = Socket::bind(&path).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn the_socket_of_a_live_process_is_not_stolen() {
        let (_folder, path) = place();
        let first = Socket::bind(&path).await.unwrap();
        // Even where nobody accepts any more, and no further connection finds room.
        loop {
            let refused = Socket::bind(&path).await.unwrap_err();
            assert!(matches!(refused, SocketError::Taken), "{refused}");
            assert!(first.is_in_place());
            match UnixStream::connect(&path).await {
                Ok(open) => std::mem::forget(open),
                Err(_) => break,
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let (_folder, path) = place();
        make_folder(&path);
        fs::write(&path, "precious").unwrap();
        let refused = Socket::bind(&path).await.unwrap_err();
        assert!(matches!(refused, SocketError::NoSocket), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_end_of_one_does_not_remove_the_socket_of_its_successor() {
        let (_folder, path) = place();
        let first = Socket::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let second = Socket::bind(&path).await.unwrap();
        assert!(!first.is_in_place());
        drop(first);
        assert!(second.is_in_place());
    }
}
