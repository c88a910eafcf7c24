//! What a bucket says of itself: that it is there, its clock, and what it does with old versions.

use std::time::{Duration, Instant};

use super::super::item::{Cut, Limit};
use super::super::{Finding, Item, Problem};
use crate::config;
use crate::store::StoreError;
use crate::store::s3::S3Store;
use crate::store::s3::settings::Told;

mod lifecycle;

use lifecycle::Rule;

const CLOCK: &str = "store clock";
const VERSIONS: &str = "versions";

/// `Date` has whole seconds, and an answer takes some time: less says nothing.
const SKEW_TOLD: Duration = Duration::from_secs(30);
/// S3 refuses a request that is signed more than 15 minutes off.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// Whether the bucket keeps what is replaced or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Versions {
    /// It never did.
    Never,
    /// It does, or has done so before it was suspended.
    Kept {
        /// It no longer makes new ones.
        is_suspended: bool,
    },
    /// Why that is not known.
    Unknown(String),
}

/// Whether there is such a bucket, by the first answer of all.
pub(super) fn seen(
    settings: &config::Store,
    location: &str,
    told: &Result<Result<Told, StoreError>, Cut>,
    limit: &Limit,
) -> Result<String, Problem> {
    let endpoint = settings.s3.endpoint.as_deref().unwrap_or("Amazon's S3");
    let away = "start the store, correct store.s3.endpoint, or let this machine reach it";
    let told = match told {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => {
            let answer = format!("{location}: {error}");
            return Err(Problem::new(answer, super::mend(error)));
        }
        Err(cut) => return Err(cut.problem(limit, &format!("{location} at {endpoint}"), away)),
    };
    match &told.document {
        Err(StoreError::Refused(words)) if !super::is_denied(words) => {
            let error = StoreError::Refused(words.clone());
            let answer = format!("{location}: {error}");
            Err(Problem::new(answer, super::mend(&error)))
        }
        Err(error @ StoreError::Unknown(_)) => {
            let answer = format!("{location}: {error}");
            Err(Problem::new(answer, super::mend(error)))
        }
        _ => Ok(location.to_owned()),
    }
}

/// This machine's clock against the store's.
pub(super) fn clock(since: Instant, told: &Told) -> Item {
    Item::new(CLOCK, since, judge_clock(told.our_ms, told.server_ms))
}

fn judge_clock(our_ms: i64, server_ms: Option<i64>) -> Finding {
    let Some(server_ms) = server_ms else {
        return Finding::Well("the store's answers have no date to compare with".to_owned());
    };
    // `Date` is cut to whole seconds: half a second later on average.
    let ahead_ms = our_ms - (server_ms + 500);
    let skew = Duration::from_secs(ahead_ms.unsigned_abs() / 1000);
    if skew < SKEW_TOLD {
        return Finding::Well(format!(
            "this machine's clock agrees with it ({} s)",
            skew.as_secs()
        ));
    }
    let which = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let problem = Problem::new(
        format!(
            "this machine's clock is {} {which} the store's",
            humantime::format_duration(skew)
        ),
        "set the clock: a store refuses what is signed 15 minutes off, and folders by date follow it",
    );
    let problem = problem.by("timedatectl set-ntp true");
    match skew > SKEW_MAX {
        true => Finding::Wrong(problem),
        false => Finding::Noted(problem),
    }
}

/// What the answer for `versioning` says.
pub(super) fn versioning(told: &Told) -> Versions {
    match &told.document {
        Ok(document) if document.contains("<Status>Enabled</Status>") => Versions::Kept {
            is_suspended: false,
        },
        Ok(document) if document.contains("<Status>Suspended</Status>") => {
            Versions::Kept { is_suspended: true }
        }
        Ok(document) if document.contains("VersioningConfiguration") => Versions::Never,
        Ok(_) => Versions::Unknown("the answer is no VersioningConfiguration".to_owned()),
        Err(error) => Versions::Unknown(error.to_string()),
    }
}

/// Whether what the checkpoints' swaps leave behind is removed, and nothing else of theirs.
pub(super) async fn lifecycle(
    about: &S3Store,
    versions: &Versions,
    settings: &config::Store,
    limit: &Limit,
) -> Item {
    let since = Instant::now();
    let rules = match limit.wait(about.setting("lifecycle")).await {
        Ok(Ok(told)) => match told.document {
            Ok(document) => lifecycle::rules(&document),
            Err(StoreError::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        },
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    let prefix = match &settings.location {
        config::StoreLocation::S3 { prefix, .. } if !prefix.is_empty() => {
            format!("{prefix}/{}/", settings.checkpoints)
        }
        _ => format!("{}/", settings.checkpoints),
    };
    Item::new(VERSIONS, since, judge_versions(versions, &rules, &prefix))
}

fn judge_versions(versions: &Versions, rules: &Result<Vec<Rule>, String>, prefix: &str) -> Finding {
    let covering = |rules: &[Rule]| -> Vec<Rule> {
        let covers = |rule: &&Rule| rule.covers(prefix);
        rules.iter().filter(covers).cloned().collect()
    };
    let covering = rules.as_ref().map(|rules| covering(rules));
    if let Ok(rules) = &covering
        && let Some(rule) = rules.iter().find(|rule| rule.expires_current)
    {
        return Finding::Wrong(Problem::new(
            format!(
                "the lifecycle rule {:?} removes checkpoints: a partition without records for so \
                 long loses its own, and stops",
                rule.id
            ),
            format!("keep {prefix} out of what it expires, by a prefix of the data's own"),
        ));
    }
    let (is_suspended, covering) = match (versions, covering) {
        (Versions::Never, Ok(_)) => {
            return Finding::Well("the bucket keeps no versions".to_owned());
        }
        (Versions::Never, Err(why)) => {
            return Finding::Noted(Problem::new(
                format!(
                    "whether a lifecycle rule removes checkpoints could not be looked at: {why}"
                ),
                "allow s3:GetLifecycleConfiguration, or look yourself",
            ));
        }
        (Versions::Unknown(why), _) => {
            return Finding::Noted(Problem::new(
                format!("whether the bucket keeps versions could not be looked at: {why}"),
                "allow s3:GetBucketVersioning, or look yourself: each file landed replaces a \
                 checkpoint twice",
            ));
        }
        (Versions::Kept { is_suspended }, covering) => (*is_suspended, covering),
    };
    let rule = format!(
        r#"{{"ID":"groundtrack-checkpoints","Status":"Enabled","Filter":{{"Prefix":"{prefix}"}},"NoncurrentVersionExpiration":{{"NoncurrentDays":7}}}}"#
    );
    match covering {
        Ok(rules) => match rules.iter().find_map(|rule| rule.noncurrent_days) {
            Some(days) => Finding::Well(format!(
                "old versions of checkpoints are removed after {days} days"
            )),
            None if is_suspended => Finding::Noted(
                Problem::new(
                    "the bucket has kept versions, and nothing removes those of the checkpoints",
                    "if there are many, add a lifecycle rule",
                )
                .by(rule),
            ),
            None => Finding::Noted(
                Problem::new(
                    format!(
                        "the bucket keeps every version of a checkpoint, two for each file landed, \
                         and no lifecycle rule removes them below {prefix}"
                    ),
                    "add a lifecycle rule",
                )
                .by(rule),
            ),
        },
        Err(why) => Finding::Noted(
            Problem::new(
                format!(
                    "the bucket keeps versions, two for each file landed; whether a lifecycle rule \
                     removes them could not be looked at: {why}"
                ),
                "allow s3:GetLifecycleConfiguration, and see that there is such a rule",
            )
            .by(rule),
        ),
    }
}

#[cfg(test)]
mod tests;
