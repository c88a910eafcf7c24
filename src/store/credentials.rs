//! Who we are to S3: one chain for both clients, looked up anew before it expires and when it is
//! refused.
//!
//! The chain is our own code on the HTTP client and the signatures that are here already.
//! `rusoto_credential` speaks only the first version of the instance's metadata, knows no roles of
//! profiles and no token files of containers, and is maintained no more; `aws-config` would bring a
//! second HTTP and TLS stack of some eighty crates. `credential_process` is not run: what a file in
//! a home names would run with the service's rights.

mod lookup;
mod metadata;
mod profile;
mod remote;
#[cfg(test)]
mod servers;
mod sts;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slog::{Logger, debug, info, warn};

use self::lookup::Lookup;
use super::StoreError;
use crate::config::{self, Secret};
use crate::logging::{Repeated, Say};
use crate::status::{Status, now_ms};

/// An access key. Its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id.
    pub key_id: Secret,
    /// The secret access key.
    pub secret: Secret,
    /// The session token of temporary credentials.
    pub token: Option<Secret>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Credentials and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The credentials.
    pub credentials: Credentials,
    /// Where they come from, for people.
    pub place: String,
    lasting: Lasting,
}

/// How long credentials are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasting {
    /// As long as the process: the place cannot change.
    Always,
    /// Until the file holds others, which is not told.
    UntilChanged,
    /// Until this time, in milliseconds since 1970 UTC.
    Until(i64),
}

/// Why there are none. Says where was looked, never what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Half of a key.
    #[error("{0} is set, but {1} is not")]
    Half(&'static str, &'static str),
    /// No place has any.
    #[error("there are no credentials: {}", .0.join("; "))]
    Nowhere(Vec<String>),
    /// The place that was named has none that can be used.
    #[error("there are no credentials of {place}: {cause}")]
    Unusable {
        /// Which place.
        place: String,
        /// What is wrong with it.
        cause: String,
    },
    /// What the place gave is out of date.
    #[error("the credentials of {place} expired at {at}: renew them, or set this machine's clock")]
    Expired {
        /// Which place.
        place: String,
        /// RFC 3339.
        at: String,
    },
}

/// What an answer of the store says of the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// They are not valid.
    Certain,
    /// They, or what they may do.
    Possible,
}

/// Who is told how the credentials do.
#[derive(Debug, Clone)]
pub struct Observer {
    /// Where a renewal that fails is a trouble.
    pub status: Arc<Status>,
    /// Where the place is named.
    pub log: Logger,
}

/// The trouble of a renewal that fails while the old credentials hold.
const TROUBLE: &str = "credentials";

/// A profile's file that was changed is noticed within this time.
const REREAD_AFTER: Duration = Duration::from_secs(60);

/// Credentials are renewed so long before they expire, or a quarter of their time: the instance's
/// metadata has new ones five minutes ahead, and an outage of that length is gone over.
const AHEAD_MAX: Duration = Duration::from_secs(300);

/// A renewal that failed, or brought the same, is tried again after at most this.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// And at least this.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Credentials that are refused for certain are looked up again no sooner than after this, however
/// many requests are refused.
const CERTAIN_PAUSE: Duration = Duration::from_secs(5);

/// Where it may as well be a permission that lacks, which a new look does not mend.
const POSSIBLE_PAUSE: Duration = Duration::from_secs(60);

/// Of a whole look-up, with all roles that are assumed one after another.
const LOOKUP_MAX: Duration = Duration::from_secs(15);

/// Looks credentials up, and again before they expire: one look at a time, by whoever needs it.
pub struct Chain {
    lookup: Lookup,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    held: Mutex<Option<Held>>,
    /// Held by who looks. What became of the last look, if it failed, and when: who has waited for
    /// it need not look again.
    looking: tokio::sync::Mutex<Option<(Instant, CredentialsError)>>,
    observer: Option<Observer>,
    failing: Mutex<Repeated>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct Held {
    found: Found,
    /// When to look again, in milliseconds since 1970 UTC; `None`: never.
    renew_ms: Option<i64>,
    /// When a refusal last led to a look.
    refused_ms: Option<i64>,
}

/// What may be done with what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Fresh,
    /// Good, and to be renewed.
    Ageing,
    Expired,
}

impl Held {
    fn new(found: Found, now_ms: i64, random: f64) -> Self {
        let renew_ms = match found.lasting {
            Lasting::Always => None,
            Lasting::UntilChanged => Some(now_ms + millis(REREAD_AFTER)),
            Lasting::Until(expires_ms) => Some(renewal(now_ms, expires_ms, random)),
        };
        Self {
            found,
            renew_ms,
            refused_ms: None,
        }
    }

    fn age(&self, now_ms: i64) -> Age {
        match (self.found.lasting, self.renew_ms) {
            (Lasting::Until(expires_ms), _) if now_ms >= expires_ms => Age::Expired,
            (_, Some(renew_ms)) if now_ms >= renew_ms => Age::Ageing,
            _ => Age::Fresh,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When to renew credentials that were looked up now, by `random` in [0, 1): ahead of their end,
/// and not all processes at once.
fn renewal(now_ms: i64, expires_ms: i64, random: f64) -> i64 {
    let left_ms = expires_ms.saturating_sub(now_ms).max(0);
    let ahead_ms = (left_ms / 4).min(millis(AHEAD_MAX));
    let jitter_ms = (ahead_ms as f64 / 4.0 * random.clamp(0.0, 1.0)) as i64;
    (expires_ms - ahead_ms - jitter_ms).max(now_ms + millis(RETRY_MIN))
}

/// When to try again after a renewal that failed.
fn retry(now_ms: i64, lasting: Lasting, random: f64) -> i64 {
    let left_ms = match lasting {
        Lasting::Until(expires_ms) => expires_ms.saturating_sub(now_ms).max(0) / 4,
        _ => i64::MAX,
    };
    let most_ms = left_ms.clamp(millis(RETRY_MIN), millis(RETRY_MAX));
    now_ms + (most_ms as f64 * (0.75 + random.clamp(0.0, 1.0) / 4.0)) as i64
}

impl Chain {
    /// Looks where these settings say, else where AWS's tools look. Looks for nothing yet.
    pub fn new(s3: &config::S3, observer: Option<Observer>) -> Self {
        Self::with(Lookup::new(s3), Arc::new(now_ms), observer)
    }

    fn with(
        lookup: Lookup,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
        observer: Option<Observer>,
    ) -> Self {
        Self {
            lookup,
            clock,
            held: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            observer,
            failing: Mutex::default(),
        }
    }

    /// What is in force now.
    ///
    /// # Errors
    /// [`CredentialsError`]; asked again, it looks again.
    pub async fn current(&self) -> Result<Found, CredentialsError> {
        match self.held() {
            Some((held, Age::Fresh)) => Ok(held.found),
            Some((held, Age::Ageing)) => {
                // Somebody else may look already: what is held is good meanwhile.
                if let Ok(mut looked) = self.looking.try_lock()
                    && !matches!(self.held(), Some((_, Age::Fresh)))
                {
                    match self.look(&mut looked).await {
                        Ok(found) => return Ok(found),
                        Err(error) => self.keep(&held, &error),
                    }
                }
                Ok(self.held().map_or(held.found, |(held, _)| held.found))
            }
            Some((_, Age::Expired)) | None => {
                let since = Instant::now();
                let mut looked = self.looking.lock().await;
                match (self.held(), &*looked) {
                    (Some((held, Age::Fresh | Age::Ageing)), _) => Ok(held.found),
                    (_, Some((at, error))) if *at >= since => Err(error.clone()),
                    _ => self.look(&mut looked).await,
                }
            }
        }
    }

    /// The store has refused what these signed: looks for others. Whether others are in force now,
    /// so that the request is worth being signed again.
    ///
    /// # Errors
    /// [`CredentialsError`]: why there are no others.
    pub(super) async fn renew(
        &self,
        refused: &Credentials,
        blame: Blame,
    ) -> Result<bool, CredentialsError> {
        let mut looked = self.looking.lock().await;
        let Some((held, _)) = self.held() else {
            return Ok(false);
        };
        if held.found.credentials != *refused {
            return Ok(true);
        }
        let pause = millis(match blame {
            Blame::Certain => CERTAIN_PAUSE,
            Blame::Possible => POSSIBLE_PAUSE,
        });
        let now_ms = (self.clock)();
        let is_soon = held.refused_ms.is_some_and(|at| now_ms - at < pause);
        if held.found.lasting == Lasting::Always || is_soon {
            return Ok(false);
        }
        let looked = self.look(&mut looked).await;
        if let Some(held) = &mut *self.lock() {
            held.refused_ms = Some(now_ms);
        }
        Ok(looked?.credentials != *refused)
    }

    /// Where they come from, for people.
    ///
    /// # Errors
    /// [`StoreError::Refused`]
    pub(super) async fn identity(&self) -> Result<String, StoreError> {
        let found = self.current().await;
        found
            .map(|found| found.place)
            .map_err(|error| StoreError::Refused(error.to_string()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> Option<(Held, Age)> {
        let held = self.lock().clone()?;
        let age = held.age((self.clock)());
        Some((held, age))
    }

    async fn look(
        &self,
        looked: &mut Option<(Instant, CredentialsError)>,
    ) -> Result<Found, CredentialsError> {
        let found = match tokio::time::timeout(LOOKUP_MAX, self.lookup.look()).await {
            Ok(found) => found.and_then(|found| unexpired(found, (self.clock)())),
            Err(_) => Err(CredentialsError::Unusable {
                place: "the chain".to_owned(),
                cause: format!("no answer within {LOOKUP_MAX:?}"),
            }),
        };
        match found {
            Ok(found) => {
                let before =
                    self.lock()
                        .replace(Held::new(found.clone(), (self.clock)(), fastrand::f64()));
                *looked = None;
                self.tell(before.map(|held| held.found), &found);
                Ok(found)
            }
            Err(error) => {
                *looked = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn tell(&self, before: Option<Found>, found: &Found) {
        let Some(Observer { status, log }) = &self.observer else {
            return;
        };
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let recovered = failing.ended(Instant::now()).is_some();
        if recovered {
            status.mended(TROUBLE);
        }
        let valid_s = match found.lasting {
            Lasting::Until(expires_ms) => Some((expires_ms - (self.clock)()) / 1000),
            _ => None,
        };
        match before {
            Some(before) if before.place == found.place && !recovered => {
                if before.credentials != found.credentials {
                    debug!(log, "credentials renewed"; "place" => &found.place, "valid_s" => valid_s);
                }
            }
            Some(_) => {
                info!(log, "credentials renewed"; "place" => &found.place, "valid_s" => valid_s);
            }
            None => {
                info!(log, "credentials found"; "place" => &found.place, "valid_s" => valid_s);
            }
        }
    }

    /// A renewal failed: what is held goes on, and is renewed later.
    fn keep(&self, held: &Held, error: &CredentialsError) {
        let now_ms = (self.clock)();
        if let Some(held) = &mut *self.lock() {
            held.renew_ms = Some(retry(now_ms, held.found.lasting, fastrand::f64()));
        }
        let Some(Observer { status, log }) = &self.observer else {
            return;
        };
        let left = match held.found.lasting {
            Lasting::Until(expires_ms) => {
                let left_s = u64::try_from((expires_ms - now_ms) / 1000).unwrap_or(0);
                let left = humantime::format_duration(Duration::from_secs(left_s));
                format!("the old ones hold for {left}")
            }
            _ => "the old ones are used".to_owned(),
        };
        let words = format!("they could not be renewed: {error}; {left}, and it is tried again");
        status.trouble(TROUBLE, &words, false);
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match failing.failed(Instant::now()) {
            Some(Say::Started) => {
                warn!(log, "credentials could not be renewed, the old ones go on"; "error" => %error);
            }
            Some(Say::Still { count, lasting }) => {
                warn!(log, "credentials still cannot be renewed, the old ones go on"; "error" => %error,
                    "failures" => count, "seconds" => lasting.as_secs());
            }
            Some(Say::Ended { .. }) | None => {}
        }
    }
}

fn unexpired(found: Found, now_ms: i64) -> Result<Found, CredentialsError> {
    match found.lasting {
        Lasting::Until(expires_ms) if expires_ms <= now_ms => {
            let at = chrono::DateTime::from_timestamp_millis(expires_ms);
            Err(CredentialsError::Expired {
                place: found.place,
                at: at.map_or_else(String::new, |at| at.to_rfc3339()),
            })
        }
        _ => Ok(found),
    }
}
