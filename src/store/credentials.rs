//! Who we are to S3: the environment, else the shared profile; one chain for both clients.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An access key. Its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id.
    pub key_id: String,
    /// The secret access key.
    pub secret: String,
    /// The session token of temporary credentials.
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Why there are none. Says where was looked, never what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Half of a key.
    #[error("{0} is set, but {1} is not")]
    Half(&'static str, &'static str),
    /// The file cannot be read.
    #[error(
        "no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and {} cannot be read ({cause})", path.display()
    )]
    Unreadable {
        /// The profiles' file.
        path: PathBuf,
        /// The system's word.
        cause: std::io::ErrorKind,
    },
    /// The profile is not in the file, or not whole.
    #[error(
        "no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and {} has no profile [{profile}] with aws_access_key_id and aws_secret_access_key", path.display()
    )]
    NoProfile {
        /// The profiles' file.
        path: PathBuf,
        /// The profile looked for.
        profile: String,
    },
    /// There is not even a home.
    #[error(
        "no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and neither AWS_SHARED_CREDENTIALS_FILE nor HOME names a profile"
    )]
    Nowhere,
}

/// A profile's file that was changed is noticed within this time.
const REREAD_AFTER: Duration = Duration::from_secs(60);

/// Looks credentials up, and again from time to time.
#[derive(Debug, Default)]
pub struct Chain {
    found: Mutex<Option<(Instant, Credentials)>>,
}

impl Chain {
    /// One that needs not look.
    #[cfg(test)]
    pub(super) fn of(credentials: Credentials) -> Self {
        Self {
            found: Mutex::new(Some((Instant::now(), credentials))),
        }
    }

    /// What is in force now.
    ///
    /// # Errors
    /// [`CredentialsError`]; asked again, it looks again.
    pub async fn current(&self) -> Result<Credentials, CredentialsError> {
        if let Some((at, credentials)) = &*self.found.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < REREAD_AFTER
        {
            return Ok(credentials.clone());
        }
        let looked = tokio::task::spawn_blocking(|| find(&|name| std::env::var(name).ok())).await;
        let credentials = match looked {
            Ok(result) => result?,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends: nobody will read the answer.
                Err(_) => return Err(CredentialsError::Nowhere),
            },
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), credentials.clone()));
        Ok(credentials)
    }
}

/// Looks in the environment, then in the profile that it names.
///
/// # Errors
/// [`CredentialsError`]
pub fn find(variable: &dyn Fn(&str) -> Option<String>) -> Result<Credentials, CredentialsError> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    match (
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
    ) {
        (Some(key_id), Some(secret)) => {
            return Ok(Credentials {
                key_id,
                secret,
                token: variable("AWS_SESSION_TOKEN"),
            });
        }
        (Some(_), None) => {
            return Err(CredentialsError::Half(
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
            ));
        }
        (None, Some(_)) => {
            return Err(CredentialsError::Half(
                "AWS_SECRET_ACCESS_KEY",
                "AWS_ACCESS_KEY_ID",
            ));
        }
        (None, None) => {}
    }
    let path = match (variable("AWS_SHARED_CREDENTIALS_FILE"), variable("HOME")) {
        (Some(file), _) => PathBuf::from(file),
        (None, Some(home)) => PathBuf::from(home).join(".aws/credentials"),
        (None, None) => return Err(CredentialsError::Nowhere),
    };
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let text = std::fs::read_to_string(&path).map_err(|error| CredentialsError::Unreadable {
        path: path.clone(),
        cause: error.kind(),
    })?;
    in_profile(&text, &profile).ok_or(CredentialsError::NoProfile { path, profile })
}

fn in_profile(text: &str, profile: &str) -> Option<Credentials> {
    let mut here = false;
    let (mut key_id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let name = name.trim();
            here = name.strip_prefix("profile ").map_or(name, str::trim) == profile;
        } else if here
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(Credentials {
        key_id: key_id?,
        secret: secret?,
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::io::Write;

    fn find_in(variables: &[(&str, &str)]) -> Result<Credentials, CredentialsError> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        find(&|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn the_environment_comes_before_the_profile() {
        let found = find_in(&[
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
        ])
        .unwrap();
        assert_eq!(
            (
                found.key_id.as_str(),
                found.secret.as_str(),
                found.token.as_deref()
            ),
            ("id", "hush", Some("token"))
        );
    }

    #[test]
    fn the_named_profile_is_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(
            file,
            "# keys\n[default]\naws_access_key_id=a\naws_secret_access_key = b==\n\n\
             [ other ]\r\naws_access_key_id = c\r\naws_secret_access_key = d\r\n\
             aws_session_token = e\nregion = x\n[half]\naws_access_key_id = f\n"
        )
        .unwrap();
        let path = file.path().to_str().unwrap();
        let file_is = ("AWS_SHARED_CREDENTIALS_FILE", path);
        let found = find_in(&[file_is]).unwrap();
        assert_eq!((found.key_id.as_str(), found.secret.as_str()), ("a", "b=="));
        assert_eq!(found.token, None);
        let found = find_in(&[file_is, ("AWS_PROFILE", "other")]).unwrap();
        assert_eq!((found.key_id.as_str(), found.secret.as_str()), ("c", "d"));
        assert_eq!(found.token.as_deref(), Some("e"));
        for profile in ["half", "missing"] {
            assert!(matches!(
                find_in(&[file_is, ("AWS_PROFILE", profile)]),
                Err(CredentialsError::NoProfile { .. })
            ));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let half = find_in(&[("AWS_ACCESS_KEY_ID", "id"), ("HOME", "/")]).unwrap_err();
        assert!(
            half.to_string().contains("AWS_SECRET_ACCESS_KEY is not"),
            "{half}"
        );
        assert_eq!(find_in(&[]), Err(CredentialsError::Nowhere));
        let none = find_in(&[("HOME", "/nowhere")]).unwrap_err();
        assert!(
            none.to_string().contains("/nowhere/.aws/credentials"),
            "{none}"
        );
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let credentials = Credentials {
            key_id: "AKIA1".into(),
            secret: "hush".into(),
            token: Some("quiet".into()),
        };
        let chain = Chain::default();
        *chain.found.lock().unwrap() = Some((Instant::now(), credentials.clone()));
        for text in [format!("{credentials:?}"), format!("{chain:#?}")] {
            for secret in ["AKIA1", "hush", "quiet"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}
