//! Who we are to S3: the configuration, the environment, else the shared profile; one chain for
//! both clients.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::S3Credentials;

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
        "no credentials: {} cannot be read ({cause})", path.display()
    )]
    Unreadable {
        /// The profiles' file.
        path: PathBuf,
        /// The system's word.
        cause: std::io::ErrorKind,
    },
    /// The profile is not in the file, or not whole.
    #[error(
        "no credentials: {} has no profile [{profile}] with aws_access_key_id and aws_secret_access_key", path.display()
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
#[derive(Debug)]
pub struct Chain {
    settings: S3Credentials,
    found: Mutex<Option<(Instant, Credentials)>>,
}

impl Chain {
    /// Looks where these settings say.
    pub fn new(settings: S3Credentials) -> Self {
        Self {
            settings,
            found: Mutex::default(),
        }
    }

    /// One that needs not look.
    #[cfg(test)]
    pub(super) fn of(credentials: Credentials) -> Self {
        Self {
            settings: S3Credentials::Found { profile: None },
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
        let settings = self.settings.clone();
        let look = move || look(&settings, &|name| std::env::var(name).ok());
        let looked = tokio::task::spawn_blocking(look).await;
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

fn look(
    settings: &S3Credentials,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Credentials, CredentialsError> {
    let named = |profile: &Option<String>| {
        let profile = profile.clone().or_else(|| variable("AWS_PROFILE"));
        profile.filter(|name| !name.is_empty())
    };
    match settings {
        S3Credentials::Keys {
            key_id,
            secret,
            token,
        } => Ok(Credentials {
            key_id: key_id.expose().to_owned(),
            secret: secret.expose().to_owned(),
            token: token.as_ref().map(|token| token.expose().to_owned()),
        }),
        S3Credentials::File { path, profile } => in_file(path.clone(), named(profile)),
        S3Credentials::Found { profile } => find(named(profile), variable),
    }
}

/// Looks in the environment, then in the profile.
fn find(
    profile: Option<String>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Credentials, CredentialsError> {
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
    in_file(path, profile)
}

fn in_file(path: PathBuf, profile: Option<String>) -> Result<Credentials, CredentialsError> {
    let profile = profile.unwrap_or_else(|| "default".to_owned());
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
    use crate::config::Secret;
    use std::collections::HashMap;
    use std::io::Write;

    fn find_in(variables: &[(&str, &str)]) -> Result<Credentials, CredentialsError> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let settings = S3Credentials::Found { profile: None };
        look(&settings, &|name| {
            variables.get(name).map(|value| (*value).to_owned())
        })
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
    fn what_the_configuration_says_comes_before_all_else() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(
            file,
            "[default]\naws_access_key_id=a\naws_secret_access_key=b\n\
             [other]\naws_access_key_id=c\naws_secret_access_key=d\n"
        )
        .unwrap();
        let look = |settings: &S3Credentials| {
            let environment = |name: &str| name.starts_with("AWS_").then(|| "e".to_owned());
            look(settings, &environment).unwrap().key_id
        };
        let in_file = |profile: Option<&str>| S3Credentials::File {
            path: file.path().to_owned(),
            profile: profile.map(str::to_owned),
        };
        assert_eq!(look(&in_file(Some("default"))), "a");
        assert_eq!(look(&in_file(Some("other"))), "c");
        let keys = S3Credentials::Keys {
            key_id: Secret::new("k"),
            secret: Secret::new("s"),
            token: None,
        };
        assert_eq!(look(&keys), "k");
        assert_eq!(look(&S3Credentials::Found { profile: None }), "e");
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
        let chain = Chain::new(S3Credentials::Found { profile: None });
        *chain.found.lock().unwrap() = Some((Instant::now(), credentials.clone()));
        for text in [format!("{credentials:?}"), format!("{chain:#?}")] {
            for secret in ["AKIA1", "hush", "quiet"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}
