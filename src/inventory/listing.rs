//! Listings page after page, each request made again for a while where it has no answer.

use std::io;
use std::time::Duration;

use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::keys::Names;
use crate::store::retry::Backoff;
use crate::store::{Listed, ObjectStore, StoreError};

/// With the back-off half a minute besides the requests' own deadlines: a store that restarts is
/// back by then, and a command is not to hang for longer.
const ATTEMPTS_MAX: usize = 7;
/// As of the service.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// See [`ATTEMPTS_MAX`].
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Why a listing is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The store has no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was listed could not be kept.
    #[error(transparent)]
    Kept(#[from] io::Error),
}

/// Makes a request again, a few times, where its answer never came.
///
/// # Errors
/// The last answer.
pub async fn answered<T>(
    request: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    answered_with(Backoff::new(BACKOFF_FIRST, BACKOFF_MAX), request).await
}

async fn answered_with<T>(
    mut backoff: Backoff,
    mut request: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    for _ in 1..ATTEMPTS_MAX {
        match request().await {
            Err(StoreError::Unknown(_) | StoreError::Conflict) => {
                tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
            }
            answer => return answer,
        }
    }
    request().await
}

/// Hands over every object below a prefix, page after page: one page at a time is in memory.
///
/// # Errors
/// See [`ListingError`].
pub async fn each_page(
    store: &dyn ObjectStore,
    prefix: &str,
    mut take: impl FnMut(Vec<Listed>) -> io::Result<()>,
) -> Result<(), ListingError> {
    let mut from: Option<String> = None;
    loop {
        let page = answered(async || store.list_page(prefix, from.as_deref()).await).await?;
        take(page.objects)?;
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// The prefixes that list every folder that a checkpoint names, and those of the configuration:
/// objects may be left there whose checkpoints are gone.
pub fn folders_of<'a>(
    names: &Names,
    checkpoints: impl IntoIterator<Item = &'a Checkpoint>,
) -> Vec<String> {
    let roots = checkpoints
        .into_iter()
        .flat_map(|checkpoint| &checkpoint.roots)
        .flat_map(|root| [root.data.as_str(), root.dead_letters.as_str()]);
    folders(roots.chain([names.data.as_str(), names.dead_letters.as_str()]))
}

/// The prefixes that list these folders, each object once: a folder inside another is left out.
fn folders<'a>(roots: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut prefixes: Vec<String> = roots
        .into_iter()
        .map(|root| format!("{}/", root.trim_end_matches('/')))
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup_by(|inner, outer| inner.starts_with(outer.as_str()));
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_inside_another_is_not_listed_twice() {
        let roots = ["b", "a/dead", "a", "ab", "a"];
        assert_eq!(folders(roots), ["a/", "ab/", "b/"]);
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_waited_for_but_not_for_ever() {
        let backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        let mut asked = 0;
        let answer = answered_with(backoff.clone(), async || {
            asked += 1;
            match asked {
                3 => Ok(asked),
                _ => Err(StoreError::Unknown("cut".to_owned())),
            }
        });
        assert_eq!(answer.await, Ok(3));
        let mut asked = 0;
        let answer = answered_with(backoff.clone(), async || {
            asked += 1;
            Err::<(), _>(StoreError::Unknown("cut".to_owned()))
        });
        assert!(answer.await.is_err());
        assert_eq!(asked, ATTEMPTS_MAX);
        let mut asked = 0;
        let answer = answered_with(backoff, async || {
            asked += 1;
            Err::<(), _>(StoreError::NotFound)
        });
        assert_eq!(answer.await, Err(StoreError::NotFound));
        assert_eq!(asked, 1);
    }
}
