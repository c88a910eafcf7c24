//! What a changed key does at a reload: one table, from which the behaviour and
//! `docs/reload.md` come.

use std::fmt::Write;
use std::path::Path;

use super::group::GroupName;
use crate::config::{Config, Encryption, S3Credentials, Secret, Source, Web};

use GroupName::{Control, Ingest, Landing, Web as Page};

/// What a reload does with a key whose value has changed.
#[derive(Debug, Clone, Copy)]
pub enum Effect {
    /// It holds as soon as the reload is answered; nothing is restarted.
    AtOnce,
    /// These groups are drained and started again with it; the others go on untouched.
    Restarts(&'static [GroupName]),
    /// Only a restart of the process takes it. Until then the value of before holds, which this
    /// puts back.
    NeedsRestart(fn(&Config, &mut Config)),
}

/// One key of the configuration, with all that lies below it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Dotted, as in the file.
    pub key: &'static str,
    /// What a changed value does.
    pub effect: Effect,
    differs: fn(&Config, &Config) -> bool,
}

/// A row whose value is a field of [`Config`].
macro_rules! row {
    ($key:literal, $effect:expr, $($field:ident).+) => {
        Row { key: $key, effect: $effect, differs: |old, new| old.$($field).+ != new.$($field).+ }
    };
    ($key:literal, $effect:expr, $differs:expr) => {
        Row { key: $key, effect: $effect, differs: $differs }
    };
}

const INGEST: Effect = Effect::Restarts(&[Ingest]);
const LANDING: Effect = Effect::Restarts(&[Landing]);
const BOTH: Effect = Effect::Restarts(&[Ingest, Landing]);
const PAGE: Effect = Effect::Restarts(&[Page]);
/// Shown on the page, too, or used to read the topic for it.
const SHOWN: Effect = Effect::Restarts(&[Landing, Page]);
const BOTH_SHOWN: Effect = Effect::Restarts(&[Ingest, Landing, Page]);

/// Every key, in the order of the file.
pub const TABLE: &[Row] = &[
    row!("source", INGEST, |old, new| old.source.is_some()
        != new.source.is_some()),
    row!("source.url", INGEST, |old, new| source(old, new, |s| &s
        .url)),
    row!("source.interval", INGEST, |old, new| source(
        old,
        new,
        |s| &s.interval
    )),
    row!("source.timeout", INGEST, |old, new| source(old, new, |s| {
        &s.timeout
    })),
    row!("source.stale_after", INGEST, |old, new| source(
        old,
        new,
        |s| &s.stale_after
    )),
    row!("kafka.brokers", BOTH_SHOWN, kafka.brokers),
    row!("kafka.topic", BOTH_SHOWN, kafka.topic),
    row!("kafka.group", SHOWN, kafka.group),
    row!("kafka.instance_id", LANDING, kafka.instance_id),
    row!("kafka.start", LANDING, kafka.start),
    row!("kafka.options", BOTH_SHOWN, kafka.options),
    row!("table.extra", SHOWN, table.extra),
    row!("table.columns", SHOWN, table.columns),
    row!("files.max_rows", LANDING, files.max_rows),
    row!("files.max_bytes", LANDING, files.max_bytes),
    // `/healthz` counts in it.
    row!("files.max_age", SHOWN, files.max_age),
    row!("files.compression", LANDING, files.compression),
    row!("files.row_group_rows", LANDING, files.row_group_rows),
    row!("files.partition_by", SHOWN, files.partition_by),
    row!("files.partition_time", SHOWN, files.partition_time),
    row!("store.url", SHOWN, store.location),
    row!("store.data", SHOWN, store.data),
    row!("store.checkpoints", LANDING, store.checkpoints),
    row!("store.dead_letters", LANDING, store.dead_letters),
    row!("store.s3.endpoint", LANDING, store.s3.endpoint),
    row!("store.s3.region", LANDING, store.s3.region),
    row!("store.s3.path_style", LANDING, store.s3.path_style),
    row!("store.s3.client", LANDING, store.s3.client),
    row!(
        "store.s3.server_side_encryption",
        LANDING,
        |old, new| encryption(old) != encryption(new)
    ),
    row!("store.s3.kms_key_id", LANDING, |old, new| key_id(old)
        != key_id(new)),
    row!("store.s3.storage_class", LANDING, store.s3.storage_class),
    row!("store.s3.ca_file", LANDING, store.s3.ca_file),
    row!("store.s3.timeout", LANDING, store.s3.timeout),
    row!("store.s3.credentials_file", LANDING, |old, new| {
        file(old) != file(new)
    }),
    row!("store.s3.profile", LANDING, |old, new| profile(old)
        != profile(new)),
    row!("store.s3.access_key_id", LANDING, |old, new| {
        keys(old).map(|keys| keys.0) != keys(new).map(|keys| keys.0)
    }),
    row!("store.s3.secret_access_key", LANDING, |old, new| {
        keys(old).map(|keys| keys.1) != keys(new).map(|keys| keys.1)
    }),
    row!("store.s3.session_token", LANDING, |old, new| {
        keys(old).and_then(|keys| keys.2) != keys(new).and_then(|keys| keys.2)
    }),
    // The publisher holds what is not yet delivered within the process's memory.
    row!("limits.memory", BOTH_SHOWN, limits.memory_bytes),
    // How long the publisher flushes, and a rebalance waits.
    row!("limits.drain", BOTH, limits.drain),
    row!("supervision.backoff", Effect::AtOnce, supervision.backoff),
    // The poller's too, and the time after which an offset counts as unreadable.
    row!("supervision.backoff_max", BOTH, supervision.backoff_max),
    row!("supervision.restarts", Effect::AtOnce, supervision.restarts),
    row!("supervision.window", Effect::AtOnce, supervision.window),
    row!(
        "supervision.heartbeat",
        Effect::AtOnce,
        supervision.heartbeat
    ),
    row!("skip", LANDING, skip),
    row!("web.listen", PAGE, |old, new| listen(old) != listen(new)),
    row!("web.hosts", PAGE, |old, new| web(old, new, |w| &w.hosts)),
    row!("status.socket", Effect::Restarts(&[Control]), status.socket),
    row!("log.level", Effect::AtOnce, log.level),
    // The thread that writes holds where it writes to.
    row!(
        "log.format",
        Effect::NeedsRestart(|old, new| new.log.format = old.log.format),
        log.format
    ),
];

/// Differs in both, where both have the table; that one has it is another row.
fn source<T: PartialEq>(old: &Config, new: &Config, value: fn(&Source) -> &T) -> bool {
    let both = old.source.as_ref().zip(new.source.as_ref());
    both.is_some_and(|(old, new)| value(old) != value(new))
}

fn web<T: PartialEq>(old: &Config, new: &Config, value: fn(&Web) -> &T) -> bool {
    let both = old.web.as_ref().zip(new.web.as_ref());
    both.is_some_and(|(old, new)| value(old) != value(new))
}

fn listen(config: &Config) -> Option<std::net::SocketAddr> {
    config.web.as_ref().map(|web| web.listen)
}

fn encryption(config: &Config) -> u8 {
    match config.store.s3.server_side_encryption {
        None => 0,
        Some(Encryption::Aes256) => 1,
        Some(Encryption::Kms(_)) => 2,
    }
}

fn key_id(config: &Config) -> Option<&str> {
    match &config.store.s3.server_side_encryption {
        Some(Encryption::Kms(id)) => id.as_deref(),
        _ => None,
    }
}

fn file(config: &Config) -> Option<&Path> {
    match &config.store.s3.credentials {
        S3Credentials::File { path, .. } => Some(path),
        _ => None,
    }
}

fn profile(config: &Config) -> Option<&str> {
    match &config.store.s3.credentials {
        S3Credentials::Found { profile } | S3Credentials::File { profile, .. } => {
            profile.as_deref()
        }
        S3Credentials::Keys { .. } => None,
    }
}

fn keys(config: &Config) -> Option<(&Secret, &Secret, Option<&Secret>)> {
    match &config.store.s3.credentials {
        S3Credentials::Keys {
            key_id,
            secret,
            token,
        } => Some((key_id, secret, token.as_ref())),
        _ => None,
    }
}

/// The rows whose values differ between two configurations, in the order of the table.
pub fn changed(old: &Config, new: &Config) -> Vec<&'static Row> {
    TABLE.iter().filter(|row| (row.differs)(old, new)).collect()
}

/// `docs/reload.md`.
pub fn document() -> String {
    let mut text = String::from(DOCUMENT_HEAD);
    for row in TABLE {
        let effect = match row.effect {
            Effect::AtOnce => "takes effect at once".to_owned(),
            Effect::Restarts(groups) => {
                let names: Vec<String> = groups
                    .iter()
                    .map(|group| format!("`{}`", group.as_str()))
                    .collect();
                format!("restarts {}", names.join(", "))
            }
            Effect::NeedsRestart(_) => "needs a restart of the process".to_owned(),
        };
        // A string takes whatever is written to it.
        let _ = writeln!(text, "| `{}` | {effect} |", row.key);
    }
    text
}

const DOCUMENT_HEAD: &str = "\
# What a reload does

`groundtrack reload` and SIGHUP read the configuration file again; the environment and `--set` \
stay as they were at the start. An invalid file is refused as a whole, with all its mistakes, and \
the old configuration stays in force. Of a valid one each key whose value has changed does what \
its row says. A group that is restarted drains first: what it holds lands, and no record is lost \
or doubled. The groups are `ingest` (poller and publisher), `landing` (subscriber to checkpoint), \
`web` (the page) and `control` (the local socket).

What needs a restart of the process is named in the answer; until then the value of before holds, \
and `groundtrack status` names it too. A value that stands elsewhere is read again: of a `file:` \
or a path the content counts, so a renewed certificate restarts what its key restarts. An `env:` is \
the process's own environment, which only a restart changes; a `credential:` is what systemd \
loaded at the start, and the answer names the keys whose new content takes a restart.

| key | a changed value |
|---|---|
";

#[cfg(test)]
pub(super) mod tests;
