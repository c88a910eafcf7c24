//! A value that stands elsewhere: `credential:NAME`, `file:PATH` or `env:NAME` instead of the value
//! itself, so that no secret need stand in the configuration.
//!
//! A key that takes a secret gets the content, without the newline that editors put at its end; a
//! key that takes a path gets the path. What is wrong is said with the reference, never with the
//! content.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The longest secret that is read: a chain of certificates in PEM takes a tenth of it. What is
/// longer is another file than the one that was meant.
const SECRET_MAX_BYTES: u64 = 64 << 10;

/// The unit hands the service its folder of credentials under this id, and systemd then names
/// each of them `groundtrack_FILE`.
const FOLDER_ID: &str = "groundtrack_";

/// Where systemd puts what `LoadCredential=` names.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// `credential:NAME`: what systemd loaded under this name, or from the service's folder of
    /// credentials, when it started the service.
    Credential(String),
    /// `file:PATH`: a file, read at the start and at each reload.
    File(PathBuf),
    /// `env:NAME`: a variable of the process's environment.
    Env(String),
}

/// As it is written.
impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(formatter, "credential:{name}"),
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Env(name) => write!(formatter, "env:{name}"),
        }
    }
}

impl Reference {
    /// Reads a reference; `None`: the text is a value of its own.
    ///
    /// # Errors
    /// Says what would be right, without the text: it may be a secret that begins like one.
    pub(super) fn parse(text: &str) -> Option<Result<Self, String>> {
        let is_plain = |name: &str| {
            let valid = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '=');
            !matches!(name, "" | "." | "..") && name.chars().all(valid)
        };
        let wrong = |right: &str| Err(right.to_owned());
        if let Some(name) = text.strip_prefix("credential:") {
            return Some(match is_plain(name) {
                true => Ok(Self::Credential(name.to_owned())),
                false => wrong("must be credential:NAME, a file's name without folders"),
            });
        }
        if let Some(path) = text.strip_prefix("file:") {
            let valid = path.starts_with('/') && !path.chars().any(char::is_control);
            return Some(match valid {
                true => Ok(Self::File(PathBuf::from(path))),
                false => wrong("must be file:PATH with an absolute path"),
            });
        }
        let name = text.strip_prefix("env:")?;
        Some(match is_plain(name) {
            true => Ok(Self::Env(name.to_owned())),
            false => wrong("must be env:NAME, a variable's name"),
        })
    }
}

/// What references refer to.
pub(super) struct Outside<'a> {
    /// The value of an environment variable.
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Outside<'a> {
    pub(super) fn new(variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { variable }
    }

    /// The content.
    ///
    /// # Errors
    /// Says what would be right.
    pub(super) fn content(&self, reference: &Reference) -> Result<String, String> {
        let (place, bytes) = match reference {
            Reference::Credential(name) => {
                let path = self.credential(name)?;
                (path.display().to_string(), read(&path)?)
            }
            Reference::File(path) => (path.display().to_string(), read(path)?),
            Reference::Env(name) => (format!("${name}"), self.set(name)?.into_encoded_bytes()),
        };
        let mut text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            format!("must name UTF-8 text: {place} is none from byte {valid} on")
        })?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        match text.is_empty() {
            true => Err(format!("must name a value: {place} is empty")),
            false => Ok(text),
        }
    }

    /// The path of a file or, for certificates, of a folder that can be read.
    ///
    /// # Errors
    /// Says what would be right.
    pub(super) fn path(&self, reference: &Reference) -> Result<PathBuf, String> {
        let path = match reference {
            Reference::Credential(name) => self.credential(name)?,
            Reference::File(path) => path.clone(),
            Reference::Env(name) => {
                let path = PathBuf::from(self.set(name)?);
                if !path.is_absolute() {
                    return Err(format!("must name an absolute path: ${name} holds none"));
                }
                path
            }
        };
        let metadata = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if metadata.is_file() {
            if metadata.len() == 0 {
                return Err(format!(
                    "must name a file with content: {} is empty",
                    path.display()
                ));
            }
            std::fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
        }
        Ok(path)
    }

    fn set(&self, name: &str) -> Result<OsString, String> {
        (self.variable)(name)
            .ok_or_else(|| format!("must name a variable of the environment: ${name} is not set"))
    }

    /// The file of this name, or the one that came with the folder.
    fn credential(&self, name: &str) -> Result<PathBuf, String> {
        let Some(folder) = (self.variable)(CREDENTIALS_DIRECTORY).map(PathBuf::from) else {
            return Err(format!(
                "must name a credential, but ${CREDENTIALS_DIRECTORY} is not set: under systemd \
                 LoadCredential= in the unit sets it; by hand, as root, set it to \
                 /etc/groundtrack/credentials; elsewhere name a file: or an env:"
            ));
        };
        let candidates = [folder.join(name), folder.join(format!("{FOLDER_ID}{name}"))];
        let found = candidates
            .into_iter()
            .find(|path| !matches!(path.try_exists(), Ok(false)));
        found.ok_or_else(|| {
            format!(
                "must name a credential: neither {name} nor {FOLDER_ID}{name} is in {}; systemd \
                 loads credentials when the service starts, so one that was added since needs a \
                 restart",
                folder.display()
            )
        })
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!(
        "must name a file that can be read: {}: {error}",
        path.display()
    )
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error| unreadable(path, &error);
    // A pipe would be waited for.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("must name a file: {} is none", path.display()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SECRET_MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_MAX_BYTES {
        return Err(format!(
            "must name a file of at most {SECRET_MAX_BYTES} bytes: {} is longer",
            path.display()
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    struct Variables(HashMap<String, OsString>);

    impl Variables {
        fn of(variables: &[(&str, &str)]) -> Self {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), OsString::from(value));
            Self(variables.iter().map(owned).collect())
        }

        fn content(&self, text: &str) -> Result<String, String> {
            let variable = |name: &str| self.0.get(name).cloned();
            Outside::new(&variable).content(&Reference::parse(text).unwrap()?)
        }

        fn path(&self, text: &str) -> Result<PathBuf, String> {
            let variable = |name: &str| self.0.get(name).cloned();
            Outside::new(&variable).path(&Reference::parse(text).unwrap()?)
        }
    }

    #[test]
    fn a_text_without_one_of_the_three_words_is_a_value() {
        for text in [
            "", "hunter2", "/etc/key", "File:/x", "env", "s3://b", " env:X",
        ] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
        for text in ["credential:a.b-c", "file:/run/x y", "env:A_B"] {
            assert_eq!(Reference::parse(text).unwrap().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_reference_that_is_none_is_refused_without_its_text() {
        for text in [
            "credential:",
            "credential:a/hush",
            "credential:..",
            "file:",
            "file:hush",
            "file:/a\nhush",
            "env:",
            "env:A=hush",
            "env:hush hush",
        ] {
            let right = Reference::parse(text).unwrap().unwrap_err();
            assert!(right.starts_with("must be "), "{right}");
            assert!(!right.contains("hush"), "{right}");
        }
    }

    #[test]
    fn a_credential_is_found_by_its_name_and_then_by_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("groundtrack_both", "of the folder");
        write("both", "its own");
        write("groundtrack_one", "of the folder");
        let outside = Variables::of(&[(CREDENTIALS_DIRECTORY, folder.path().to_str().unwrap())]);
        assert_eq!(outside.content("credential:both").unwrap(), "its own");
        assert_eq!(outside.content("credential:one").unwrap(), "of the folder");
        assert_eq!(
            outside.path("credential:one").unwrap(),
            folder.path().join("groundtrack_one")
        );
        let absent = outside.content("credential:none").unwrap_err();
        assert!(
            absent.contains("neither none nor groundtrack_none is in"),
            "{absent}"
        );
        assert!(absent.contains("restart"), "{absent}");
    }

    #[test]
    fn outside_of_systemd_a_credential_says_what_would_give_it() {
        let unset = Variables::of(&[]).content("credential:x").unwrap_err();
        assert!(
            unset.contains("$CREDENTIALS_DIRECTORY is not set"),
            "{unset}"
        );
        assert!(unset.contains("LoadCredential="), "{unset}");
    }

    #[test]
    fn only_the_last_newline_is_no_part_of_a_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reference = format!("file:{}", file.path().display());
        for (written, expected) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
            ("a\nb", "a\nb"),
        ] {
            std::fs::write(file.path(), written).unwrap();
            assert_eq!(Variables::of(&[]).content(&reference).unwrap(), expected);
        }
        let outside = Variables::of(&[("A", "b\n"), ("EMPTY", "")]);
        assert_eq!(outside.content("env:A").unwrap(), "b");
        assert!(
            outside
                .content("env:EMPTY")
                .unwrap_err()
                .contains("$EMPTY is empty")
        );
        assert!(
            outside
                .content("env:B")
                .unwrap_err()
                .contains("$B is not set")
        );
    }

    #[test]
    fn a_file_that_holds_no_secret_is_named_and_its_content_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let reference = format!("file:{}", path.display());
        let outside = Variables::of(&[]);
        let refused = |content: &[u8], says: &str| {
            std::fs::write(&path, content).unwrap();
            let right = outside.content(&reference).unwrap_err();
            assert!(right.contains(says) && right.contains("secret"), "{right}");
            assert!(!right.contains("hush"), "{right}");
        };
        refused(b"", "empty");
        refused(b"\n", "empty");
        refused(b"hush\xff", "none from byte 4 on");
        let long = vec![b'h'; SECRET_MAX_BYTES as usize + 1];
        refused(&long, "at most 65536 bytes");
        std::fs::remove_file(&path).unwrap();
        let absent = outside.content(&reference).unwrap_err();
        assert!(absent.contains("No such file"), "{absent}");
        assert!(
            outside
                .path(&reference)
                .unwrap_err()
                .contains("No such file")
        );
        std::fs::create_dir(&path).unwrap();
        assert!(outside.content(&reference).unwrap_err().contains("is none"));
        // A folder of certificates is a path all the same.
        assert_eq!(outside.path(&reference).unwrap(), path);
    }

    #[test]
    fn a_path_may_stand_in_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let outside = Variables::of(&[("P", file.path().to_str().unwrap()), ("R", "relative")]);
        assert!(outside.path("env:P").unwrap_err().contains("is empty"));
        std::fs::write(file.path(), "x").unwrap();
        assert_eq!(outside.path("env:P").unwrap(), file.path());
        assert!(outside.path("env:R").unwrap_err().contains("absolute"));
    }
}
