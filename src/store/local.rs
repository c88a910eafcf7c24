//! Objects as files below one folder, as durable and as strict as S3.
//!
//! A new file is written without a name and linked into place, which fails if the name exists (a
//! rename would replace it). Replacing and removing happen under a lock on the file's folder, so
//! that compare-and-swap holds between processes too; nothing is written or synced under it, for
//! who is stopped there stops everybody.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Condition, ETag, Listed, Object, ObjectStore, Page, StoreError, check_key, no_part};

/// Names of files that are not finished, where a name is needed: beside the data folders, never
/// inside. It is there only while something is written.
const TEMPORARY_FOLDER: &str = ".groundtrack-unfinished";

/// The lock is held for a read and a rename; who waits longer finds another process stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Short beside a sync, long beside a system call.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// What a killed process left unfinished is removed after this long: far longer than any write.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The temporary folder is removed by whoever finds it empty; more races than this in a row
/// do not happen.
const TEMPORARY_ATTEMPTS: usize = 100;

/// Each page walks the folders anew, and holds so many keys: of a hundred bytes or two each.
const PAGE_KEYS: usize = 10_000;

/// The folder that `file://` names. It is made with the first object.
#[derive(Debug, Clone)]
pub struct LocalStore {
    folder: Arc<Folder>,
    page_keys: usize,
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    /// Cleared where the file system has no files without a name.
    nameless_files: AtomicBool,
    temporary_number: AtomicU64,
}

/// The version of a content: checkpoints never repeat one.
pub(super) fn etag_of(body: &[u8]) -> ETag {
    ETag(format!("\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(body)))
}

impl LocalStore {
    /// Objects below `root`, an absolute path. Touches nothing yet.
    pub fn new(root: PathBuf) -> Self {
        Self {
            folder: Arc::new(Folder {
                root,
                nameless_files: AtomicBool::new(true),
                temporary_number: AtomicU64::new(0),
            }),
            page_keys: PAGE_KEYS,
        }
    }

    /// Listings come in pages of so many keys; for tests.
    #[doc(hidden)]
    pub fn with_page_keys(mut self, keys: u16) -> Self {
        self.page_keys = keys.into();
        self
    }

    /// As on a file system that has no files without a name.
    #[doc(hidden)]
    pub fn with_named_temporaries(self) -> Self {
        self.folder.nameless_files.store(false, Ordering::Relaxed);
        self
    }

    /// Does the work on a thread that may block.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = self.folder.clone();
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StoreError::Unknown("the runtime ends".to_owned())),
            },
        }
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        check_key(key)?;
        let key = key.to_owned();
        self.off_thread(move |folder| folder.put(&key, &body, condition))
            .await
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        check_key(key)?;
        let key = key.to_owned();
        self.off_thread(move |folder| {
            let body = read(&folder.root.join(key))?;
            Ok(Object {
                etag: etag_of(&body),
                body: Bytes::from(body),
            })
        })
        .await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        check_key(key)?;
        let key = key.to_owned();
        self.off_thread(move |folder| read_range(&folder.root.join(key), &range))
            .await
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        let object = self.get(key).await?;
        Ok((object.body.len() as u64, object.etag))
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        let (prefix, from) = (prefix.to_owned(), from.map(str::to_owned));
        let page_keys = self.page_keys;
        self.off_thread(move |folder| folder.list_page(&prefix, from.as_deref(), page_keys))
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let key = key.to_owned();
        self.off_thread(move |folder| folder.delete(&key)).await
    }

    fn location(&self) -> String {
        format!("file://{}", self.folder.root.display())
    }
}

impl Folder {
    fn put(
        &self,
        key: &str,
        body: &[u8],
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        let target = self.target(key)?;
        let parent = parent(&target);
        if let Some(Condition::Matches(_)) = condition
            && !target.exists()
        {
            return Err(StoreError::NotFound);
        }
        Self::make_folders(parent).map_err(nothing_written)?;
        match condition {
            Some(Condition::Absent) => self.create(&target, body)?,
            Some(Condition::Matches(etag)) => self.replace(&target, body, Some(&etag))?,
            None => self.replace(&target, body, None)?,
        }
        Ok(etag_of(body))
    }

    /// Writes a file whose name does not exist yet.
    fn create(&self, target: &Path, body: &[u8]) -> Result<(), StoreError> {
        let linked = match self.nameless(parent(target), body) {
            Some(file) => file.and_then(|file| link_nameless(&file, target)),
            None => {
                let temporary = self.temporary(body).map_err(nothing_written)?;
                let linked = link_named(&temporary, target);
                self.forget_temporary(&temporary);
                linked
            }
        };
        match linked {
            // Also where the name exists: who made it may have been killed before the sync.
            Ok(()) => sync_folder(parent(target)),
            Err(Errno::EXIST) => {
                sync_folder(parent(target))?;
                Err(StoreError::Precondition)
            }
            Err(error) => Err(nothing_written(error.into())),
        }
    }

    /// Puts a finished file in the place of what is there, if that is still `replaced`.
    fn replace(
        &self,
        target: &Path,
        body: &[u8],
        replaced: Option<&ETag>,
    ) -> Result<(), StoreError> {
        let temporary = self.temporary(body).map_err(nothing_written)?;
        let renamed = rename_over(&temporary, target, replaced);
        self.forget_temporary(&temporary);
        renamed?;
        sync_folder(parent(target))
    }

    /// A finished file without a name; `None`: this file system has none.
    fn nameless(&self, folder: &Path, body: &[u8]) -> Option<Result<File, Errno>> {
        if !self.nameless_files.load(Ordering::Relaxed) {
            return None;
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::open(folder, flags, Mode::from_raw_mode(0o644)) {
            Ok(file) => File::from(file),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                self.nameless_files.store(false, Ordering::Relaxed);
                return None;
            }
            Err(error) => return Some(Err(error)),
        };
        if !Path::new(&own_descriptor(&file)).exists() {
            // No /proc: nothing to link it by.
            self.nameless_files.store(false, Ordering::Relaxed);
            return None;
        }
        Some(
            write_synced(file, body)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        )
    }

    /// A finished file under a temporary name.
    fn temporary(&self, body: &[u8]) -> io::Result<PathBuf> {
        let folder = self.root.join(TEMPORARY_FOLDER);
        let number = self.temporary_number.fetch_add(1, Ordering::Relaxed);
        // The random part keeps apart machines that share the folder.
        let name = format!("{}-{number}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = folder.join(name);
        for _ in 0..TEMPORARY_ATTEMPTS {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => remove_abandoned(&folder),
                Ok(()) => {}
            }
            match File::create_new(&path) {
                // Another writer found the folder empty and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    return match write_synced(file, body) {
                        Ok(_) => Ok(path),
                        Err(error) => {
                            self.forget_temporary(&path);
                            Err(error)
                        }
                    };
                }
            }
        }
        Err(io::Error::other(
            "the temporary folder is removed again and again",
        ))
    }

    /// Removes the temporary name, if it is still there, and the folder, if it is empty.
    fn forget_temporary(&self, path: &Path) {
        // What cannot be removed now is removed as abandoned later.
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir(parent(path));
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let target = self.target(key)?;
        let parent = parent(&target);
        if !parent.is_dir() {
            return Ok(());
        }
        let _lock = lock(parent)?;
        match fs::remove_file(&target) {
            Ok(()) => sync_folder(parent),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(nothing_written(error)),
        }
    }

    fn list_page(
        &self,
        prefix: &str,
        from: Option<&str>,
        page_keys: usize,
    ) -> Result<Page, StoreError> {
        if prefix.split('/').any(|part| matches!(part, "." | "..")) || prefix.starts_with('/') {
            return Err(StoreError::Refused(format!(
                "the prefix {prefix:?} is no path below the folder"
            )));
        }
        let start = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut walk = Walk {
            root: &self.root,
            prefix,
            from,
            page_keys,
            listed: Vec::new(),
            above: Vec::new(),
        };
        walk.folder(start)?;
        let last = walk.listed.last().map(|last| last.key.clone());
        Ok(Page {
            next: last.filter(|_| walk.listed.len() >= page_keys),
            objects: walk.listed,
        })
    }

    fn target(&self, key: &str) -> Result<PathBuf, StoreError> {
        if key.split('/').next() == Some(TEMPORARY_FOLDER) {
            return Err(StoreError::Refused(format!(
                "{TEMPORARY_FOLDER} is kept for unfinished files"
            )));
        }
        Ok(self.root.join(key))
    }

    /// Makes what is missing of a folder's path, and makes it last.
    fn make_folders(folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let existing = folder.ancestors().find(|above| above.is_dir());
        fs::create_dir_all(folder)?;
        for above in folder.ancestors().skip(1) {
            File::open(above)?.sync_all()?;
            if Some(above) == existing {
                break;
            }
        }
        Ok(())
    }
}

/// A page of a listing under way. Keys come in the order of their bytes, so that the last one
/// tells where the next page begins and nothing has to be kept in between.
struct Walk<'a> {
    root: &'a Path,
    prefix: &'a str,
    /// The last key of the page before.
    from: Option<&'a str>,
    page_keys: usize,
    listed: Vec<Listed>,
    /// Device and number of the folders above: a link that leads back would be walked for ever.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// Adds what a folder holds, until the page is full.
    fn folder(&mut self, folder: &str) -> Result<(), StoreError> {
        let path = self.root.join(folder);
        let identity = match fs::metadata(&path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(unreadable(&error)),
        };
        if self.above.contains(&identity) {
            return Ok(());
        }
        self.above.push(identity);
        let mut done: Option<String> = None;
        loop {
            let entries = self.entries(folder, &path, done.as_deref())?;
            let is_all = entries.len() < self.page_keys;
            done = entries.last().cloned();
            for entry in entries {
                if self.listed.len() >= self.page_keys {
                    break;
                }
                match entry.strip_suffix('/') {
                    Some(below) => self.folder(below)?,
                    None => self.file(entry)?,
                }
            }
            if is_all || self.listed.len() >= self.page_keys {
                break;
            }
        }
        self.above.pop();
        Ok(())
    }

    /// The first entries of a folder behind `done`, a page of them at most: keys, and folders with
    /// a slash at their end, which then sort as the keys below them do.
    fn entries(
        &self,
        folder: &str,
        path: &Path,
        done: Option<&str>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let mut first = BTreeSet::new();
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(first),
            Err(error) => return Err(unreadable(&error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&error))?;
            // A name that is no text is no key of anybody's.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if folder.is_empty() && name == TEMPORARY_FOLDER {
                continue;
            }
            let mut key = match folder {
                "" => name,
                folder => format!("{folder}/{name}"),
            };
            let kind = entry.file_type().and_then(|kind| match kind.is_symlink() {
                true => fs::metadata(entry.path()).map(|metadata| metadata.file_type()),
                false => Ok(kind),
            });
            let is_wanted = match kind {
                Ok(kind) if kind.is_dir() => {
                    let holds = could_hold(&key, self.prefix);
                    key.push('/');
                    holds
                        && self
                            .from
                            .is_none_or(|from| *key > *from || from.starts_with(&key))
                }
                Ok(_) => key.starts_with(self.prefix) && self.from.is_none_or(|from| *key > *from),
                Err(error) if is_absent(&error) => false,
                Err(error) => return Err(unreadable(&error)),
            };
            if is_wanted && done.is_none_or(|done| *key > *done) {
                first.insert(key);
                if first.len() > self.page_keys {
                    first.pop_last();
                }
            }
        }
        Ok(first)
    }

    fn file(&mut self, key: String) -> Result<(), StoreError> {
        match fs::metadata(self.root.join(&key)) {
            Ok(metadata) => self.listed.push(Listed {
                key,
                size_bytes: metadata.len(),
                modified_ms: milliseconds(metadata.modified().unwrap_or(UNIX_EPOCH)),
            }),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(unreadable(&error)),
        }
        Ok(())
    }
}

/// Whether keys below a folder may begin with the prefix.
fn could_hold(folder: &str, prefix: &str) -> bool {
    let folder = format!("{folder}/");
    folder.starts_with(prefix) || prefix.starts_with(&folder)
}

fn parent(target: &Path) -> &Path {
    target.parent().unwrap_or(Path::new("/"))
}

fn own_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn link_nameless(file: &File, target: &Path) -> Result<(), Errno> {
    rustix::fs::linkat(
        CWD,
        own_descriptor(file),
        CWD,
        target,
        AtFlags::SYMLINK_FOLLOW,
    )
}

fn link_named(temporary: &Path, target: &Path) -> Result<(), Errno> {
    match rustix::fs::linkat(CWD, temporary, CWD, target, AtFlags::empty()) {
        // A file system without hard links.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
            rustix::fs::renameat_with(CWD, temporary, CWD, target, RenameFlags::NOREPLACE)
        }
        result => result,
    }
}

/// Renames a finished file over the target, if that is still `replaced`.
fn rename_over(temporary: &Path, target: &Path, replaced: Option<&ETag>) -> Result<(), StoreError> {
    let _lock = lock(parent(target))?;
    if let Some(etag) = replaced
        && etag_of(&read(target)?) != *etag
    {
        return Err(StoreError::Precondition);
    }
    fs::rename(temporary, target).map_err(nothing_written)
}

fn write_synced(mut file: File, body: &[u8]) -> io::Result<File> {
    file.write_all(body)?;
    file.sync_all()?;
    Ok(file)
}

/// The entry of a file lasts only when its folder is synced.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StoreError::Unknown(format!("sync of {}: {error}", folder.display())))
}

/// Holds the folder's lock until it is dropped.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let file = File::open(folder).map_err(nothing_written)?;
    let since = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if since.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Conflict),
            Err(error) => return Err(nothing_written(error.into())),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut body)) {
        Ok(_) => Ok(body),
        Err(error) if is_absent(&error) => Err(StoreError::NotFound),
        Err(error) => Err(unreadable(&error)),
    }
}

fn read_range(path: &Path, range: &Range<u64>) -> Result<Bytes, StoreError> {
    let read = File::open(path).and_then(|file| {
        let end = range.end.min(file.metadata()?.len());
        let mut body = vec![0; end.saturating_sub(range.start) as usize];
        file.read_exact_at(&mut body, range.start)?;
        Ok(body)
    });
    match read {
        Ok(body) if body.is_empty() => Err(no_part(range)),
        Ok(body) => Ok(Bytes::from(body)),
        Err(error) if is_absent(&error) => Err(StoreError::NotFound),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Whether there is no file of this name: a folder is none, and below a file there is none.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

fn nothing_written(error: io::Error) -> StoreError {
    StoreError::Refused(error.to_string())
}

fn unreadable(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => StoreError::Refused(error.to_string()),
        _ => StoreError::Unknown(error.to_string()),
    }
}

fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|file| file.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if age.is_some_and(|age| age > ABANDONED_AFTER) {
            // Another writer may have removed it.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("not/made/yet");
        conformance::all(Arc::new(LocalStore::new(root)), "l").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_keeps_the_contract_page_after_page() {
        let folder = tempfile::tempdir().unwrap();
        for page_keys in [7, 100] {
            let store = LocalStore::new(folder.path().to_owned()).with_page_keys(page_keys);
            conformance::all(Arc::new(store), "l").await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_system_without_nameless_files_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().to_owned()).with_named_temporaries();
        conformance::all(Arc::new(store), "l").await;
        let left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != "l")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn no_key_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().join("in"));
        for key in [
            "../out",
            "a/../../out",
            "/tmp/out",
            ".groundtrack-unfinished/x",
        ] {
            let put = store.put(key, Bytes::new(), None).await;
            assert!(matches!(put, Err(StoreError::Refused(_))), "{key}");
        }
        assert!(store.list("../").await.is_err());
        assert!(!folder.path().join("out").exists());
    }

    #[tokio::test]
    async fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().to_owned());
        store.put("a", Bytes::new(), None).await.unwrap();
        // The folder of the key is a file.
        for condition in [None, Some(Condition::Absent)] {
            let put = store.put("a/b", Bytes::from_static(b"x"), condition).await;
            assert!(matches!(put, Err(StoreError::Refused(_))), "{put:?}");
        }
        let keys = store.list("").await.unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// A process that is stopped in a write must not hold up the checkpoints of the others.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_replacement_is_written_before_the_lock_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path().to_owned());
        let etag = store.put("a", Bytes::new(), None).await.unwrap();
        let held = lock(folder.path()).unwrap();
        let put = tokio::spawn({
            let store = store.clone();
            async move {
                let matches = Some(Condition::Matches(etag));
                store.put("a", Bytes::from_static(b"x"), matches).await
            }
        });
        let is_written = || {
            let mut files = fs::read_dir(folder.path().join(TEMPORARY_FOLDER)).into_iter();
            let mut files = files.by_ref().flatten().flatten();
            files.any(|file| file.metadata().is_ok_and(|file| file.len() == 1))
        };
        let deadline = Instant::now() + LOCK_TIMEOUT;
        while !is_written() {
            assert!(Instant::now() < deadline, "nothing is written under a lock");
            tokio::time::sleep(LOCK_RETRY).await;
        }
        drop(held);
        put.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn links_are_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("x"), b"1").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("data")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        let store = LocalStore::new(folder.path().to_owned());
        let keys: Vec<_> = store
            .list("")
            .await
            .unwrap()
            .into_iter()
            .map(|o| o.key)
            .collect();
        assert_eq!(keys, ["data/x"]);
    }
}
