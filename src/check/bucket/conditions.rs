//! Whether a server honours the conditions of a put.

use std::time::Instant;

use bytes::Bytes;

use super::super::item::{Cut, Limit};
use super::super::{Finding, Item, Problem};
use super::rights::{Failure, Tried, left_of};
use super::settings::Versions;
use super::{CONDITIONS, problem};
use crate::config;
use crate::store::conditions::{ConditionsError, honours_conditions};
use crate::store::{Condition, ObjectStore, StoreError};

/// An answer that never came may still take effect: so often it is looked for and removed.
const TIDYINGS_MAX: usize = 3;

/// What is written: says what it is, should it ever be found.
pub(super) const PROBE: &[u8] = b"written by groundtrack check, to be removed\n";

const WHY: &str = "without them two writers could land a record twice";

/// By what the folders answered, and, where that leaves no trace, by an object.
pub(super) async fn ask(
    settings: &config::Store,
    store: &dyn ObjectStore,
    tried: &[Tried<'_>],
    versions: &Versions,
    name: &str,
    limit: &Limit,
) -> Item {
    let since = Instant::now();
    if let Some(finding) = of_the_folders(tried) {
        return Item::new(CONDITIONS, since, finding);
    }
    // Amazon's own S3 has honoured If-None-Match since August 2024.
    if settings.s3.endpoint.is_none() {
        let answer =
            "If-Match is honoured, If-None-Match is by every bucket of Amazon's".to_owned();
        return Item::new(CONDITIONS, since, Finding::Well(answer));
    }
    let why_not = match versions {
        Versions::Never => None,
        Versions::Kept { .. } => Some("the bucket would keep a version of it"),
        Versions::Unknown(_) => Some("the bucket may keep a version of it"),
    };
    if let Some(why) = why_not {
        return Item::new(CONDITIONS, since, untried(why));
    }
    let key = format!("{}/{name}", settings.checkpoints);
    let removable = limit.wait(store.delete(&key)).await;
    let finding = match removable {
        Err(cut) => cut
            .problem(limit, "removing an object", "ask again later")
            .into(),
        Ok(Err(StoreError::Refused(_))) => untried("these credentials may not remove it again"),
        Ok(Err(error)) => problem(&format!("removing {key}"), &error).into(),
        Ok(Ok(())) => by_an_object(store, &key, limit).await,
    };
    Item::new(CONDITIONS, since, finding)
}

/// What is known without writing: `None`: `If-Match` is honoured.
fn of_the_folders(tried: &[Tried<'_>]) -> Option<Finding> {
    let (mut is_untold, mut is_stopped) = (false, false);
    for tried in tried {
        let Err(put) = &tried.put else { continue };
        let Some(failure) = &put.failure else {
            let answer = ConditionsError::CreatesOnIfMatch.to_string();
            return Some(distrusted(answer, put.left.clone()));
        };
        if let Some(left) = &put.left {
            return Some(Problem::new(left, "remove it by hand").into());
        }
        match failure {
            Failure::Cut(Cut::Stopped) => is_stopped = true,
            _ => is_untold = true,
        }
    }
    match (is_stopped, is_untold) {
        (true, _) => Some(Problem::interrupted().into()),
        (_, true) => Some(Problem::not_asked("folders").into()),
        _ => None,
    }
}

fn untried(why: &str) -> Finding {
    Finding::Well(format!(
        "If-Match is honoured; If-None-Match takes an object to try, and {why}: the service tries \
         it on its own checkpoint before it lands anything"
    ))
}

fn distrusted(answer: String, left: Option<String>) -> Finding {
    let mend = format!("use a server or a release that honours conditions on PUT: {WHY}");
    and_left(Problem::new(answer, mend), left).into()
}

/// Creates an object, tries to replace it, and removes it whatever happened.
pub(super) async fn by_an_object(store: &dyn ObjectStore, key: &str, limit: &Limit) -> Finding {
    let body = Bytes::from_static(PROBE);
    let trying = async {
        store
            .put(key, body.clone(), Some(Condition::Absent))
            .await?;
        honours_conditions(store, key, body.clone()).await
    };
    let tried = limit.wait(trying).await;
    let left = left_of(store, key, limit).await;
    match (tried, left) {
        (Ok(Ok(())), None) => Finding::Well("If-None-Match and If-Match are honoured".to_owned()),
        (Ok(Ok(())), Some(left)) => Problem::new(left, "remove it by hand").into(),
        (Ok(Err(ConditionsError::Store(error))), left) => {
            let found = problem(&format!("a conditional put of {key}"), &error);
            and_left(found, left).into()
        }
        (Ok(Err(ignored)), left) => distrusted(ignored.to_string(), left),
        (Err(cut), left) => {
            let late = cut.problem(limit, "a conditional put", "ask again later");
            and_left(late, left).into()
        }
    }
}

/// A problem, and what may be left of what was tried.
pub(super) fn and_left(problem: Problem, left: Option<String>) -> Problem {
    match left {
        None => problem,
        Some(left) => Problem {
            answer: format!("{}; {left}", problem.answer),
            ..problem
        },
    }
}

/// Removes an object and makes sure of it. One that is not there is left alone: in a bucket that
/// keeps versions even that would leave a mark.
///
/// # Errors
/// Why it may still be there.
pub(super) async fn tidy(store: &dyn ObjectStore, key: &str) -> Result<(), String> {
    let mut why = String::new();
    for _ in 0..TIDYINGS_MAX {
        match store.head(key).await {
            Err(StoreError::NotFound) => return Ok(()),
            Err(error) => why = error.to_string(),
            Ok(_) => match store.delete(key).await {
                Ok(()) => "it is still there".clone_into(&mut why),
                Err(error) => why = error.to_string(),
            },
        }
    }
    match store.head(key).await {
        Err(StoreError::NotFound) => Ok(()),
        _ => Err(why),
    }
}
