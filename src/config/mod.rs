//! Configuration: what is written (every key optional, unknown ones refused) becomes what is
//! valid ([`Config`]), or the list of all its [`Mistakes`].
//!
//! In the order of the data: `tree` lays file, environment and `--set` over each other, each
//! value with where it stands; `written` reads the known keys out of that by their types
//! (`units`); `validate` checks what they mean, alone (`rules`) and against each other (`columns`,
//! `s3`, `kafka_options`), on top of the defaults (`defaults`). A value that stands elsewhere is
//! fetched there (`references`); what must not be shown is of a type of its own (`secrets`).

mod columns;
mod defaults;
mod kafka_options;
mod mistakes;
mod overrides;
mod references;
mod rules;
mod s3;
mod secrets;
#[cfg(test)]
mod tests;
mod tree;
mod units;
pub mod valid;
mod validate;
mod written;

use std::io::Read;
use std::path::{Path, PathBuf};

use references::Outside;

pub use defaults::{
    LONGEST_POLL_WAIT, MAX_POLL_INTERVAL_DEFAULT, MEMORY_MIN_BYTES, SESSION_TIMEOUT_DEFAULT,
    SYSTEMD_STOP_TIMEOUT,
};
pub use mistakes::{Mistake, Mistakes, Origin};
pub use references::Reference;
pub(crate) use rules::SOCKET_PATH_MAX;
pub use secrets::Secret;
pub(crate) use secrets::presentable;
pub use units::{parse_duration, parse_size};
pub use valid::*;
#[cfg(test)]
pub(crate) use written::known_keys;

/// The longest file that is read. A thousand columns take a tenth of it; what is longer is not a
/// configuration.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The name that `{name}` stands for where no file is read.
const NAME_WITHOUT_FILE: &str = "groundtrack";

/// Where a configuration comes from, weakest first: the defaults, the file, the environment,
/// `--set`.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file; `None`: none is read.
    pub path: Option<PathBuf>,
    /// `--set`: each `section.key=value`, in the order given; a later one wins.
    pub sets: Vec<String>,
    /// Names and values of the environment. Only `GROUNDTRACK_SECTION__KEY` counts: names without
    /// the two underscores are no configuration.
    pub environment: Vec<(String, String)>,
}

/// The environment and `--set` may hold passwords, so only their numbers are shown.
impl std::fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sources")
            .field("path", &self.path)
            .field("sets", &self.sets.len())
            .field("environment", &self.environment.len())
            .finish()
    }
}

/// The same, read: all that the configuration is made from, save what it refers to.
struct Inputs<'a> {
    /// How mistakes name the file.
    file_name: &'a str,
    text: &'a str,
    sets: &'a [String],
    environment: &'a [(String, String)],
    /// What `{hostname}` stands for.
    hostname: &'a str,
    /// What `{name}` stands for.
    name: &'a str,
    /// What references refer to.
    outside: Outside<'a>,
}

impl Sources {
    /// This file and these overrides, with the environment of the process.
    pub fn of_process(path: Option<PathBuf>, sets: Vec<String>) -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .filter(|(name, _)| name.starts_with(overrides::ENVIRONMENT_PREFIX))
            .collect();
        Self {
            path,
            sets,
            environment,
        }
    }
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// All mistakes of all sources at once, in the order of the file, then of the environment and
    /// of `--set`; a file that cannot be read is one.
    pub fn load(sources: &Sources) -> Result<Self, Mistakes> {
        let (file_name, text) = match &sources.path {
            Some(path) => (path.display().to_string(), read_file(path)?),
            None => (String::new(), String::new()),
        };
        let stem = sources.path.as_deref().and_then(Path::file_stem);
        Self::from_inputs(&Inputs {
            file_name: &file_name,
            text: &text,
            sets: &sources.sets,
            environment: &sources.environment,
            hostname: &hostname(),
            name: &stem.map_or(NAME_WITHOUT_FILE.into(), |stem| stem.to_string_lossy()),
            outside: Outside::new(&|name| std::env::var_os(name)),
        })
    }

    /// `status.socket` as far as it can be read: a running process is asked over it about a file
    /// that has mistakes elsewhere, or that only that process may read.
    pub fn socket(sources: &Sources) -> Option<PathBuf> {
        let text = sources.path.as_deref().map(read_file);
        let text = text.and_then(Result::ok).unwrap_or_default();
        let (config, _) = Self::as_far_as_valid(&Inputs {
            file_name: "",
            text: &text,
            sets: &sources.sets,
            environment: &sources.environment,
            hostname: "",
            name: "",
            // Nothing of it is used, so nothing is read.
            outside: Outside::new(&|_| None),
        });
        config.status.socket
    }

    /// What [`Config::load`] makes of what it read.
    fn from_inputs(inputs: &Inputs<'_>) -> Result<Self, Mistakes> {
        let (config, mistakes) = Self::as_far_as_valid(inputs);
        if mistakes.is_empty() {
            Ok(config)
        } else {
            Err(Mistakes::new(mistakes))
        }
    }

    /// With the default in the place of each mistake.
    fn as_far_as_valid(inputs: &Inputs<'_>) -> (Self, Vec<Mistake>) {
        let (tree, mut mistakes) = tree::build(inputs);
        let (written, misread) = written::Written::read(tree);
        mistakes.extend(misread);
        let (config, wrong) = validate::validate(written, inputs);
        mistakes.extend(wrong);
        (config, mistakes)
    }
}

fn read_file(path: &Path) -> Result<String, Mistakes> {
    let refused = |why: String| {
        Mistakes::new(vec![Mistake {
            origin: Origin::File {
                name: path.display().to_string().into(),
                line: 0,
            },
            key: String::new(),
            value: None,
            right: why,
        }])
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| refused(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(refused(format!(
            "must be at most {FILE_MAX_BYTES} bytes long"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = tree::line_of(error.as_bytes(), valid);
        refused(format!("must be UTF-8 text: line {line} is not"))
    })
}

/// The kernel's name of this host; `localhost` where it cannot be read.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
