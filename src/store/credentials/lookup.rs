//! Where credentials are looked for, in which order. A place that is not there is passed over; one
//! that is there and wrong is an error, or somebody else's credentials would be used in silence.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::metadata::{INSTANCE_V4, INSTANCE_V6, container_address, of_container, of_instance};
use super::profile::{Origin, Profiles, Role};
use super::sts::Sts;
use super::{Credentials, CredentialsError, Found, Lasting, Secret};
use crate::config::{self, NamedFile, S3Credentials};

/// A file of profiles or a token takes a few kilobytes; a longer one is none.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// An environment variable's value, if it has one.
pub(super) type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What decides where is looked.
pub(super) struct Lookup {
    settings: S3Credentials,
    region: String,
    ca_file: Option<NamedFile>,
    variable: Variable,
}

/// What a place had.
type Looked = Result<Option<Found>, CredentialsError>;

fn unusable(place: impl Into<String>, cause: impl Into<String>) -> CredentialsError {
    CredentialsError::Unusable {
        place: place.into(),
        cause: cause.into(),
    }
}

impl Lookup {
    pub(super) fn new(s3: &config::S3) -> Self {
        Self::with(s3, Arc::new(|name| std::env::var(name).ok()))
    }

    pub(super) fn with(s3: &config::S3, variable: Variable) -> Self {
        Self {
            settings: s3.credentials.clone(),
            region: s3.region.clone(),
            ca_file: s3.ca_file.clone(),
            variable,
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn sts(&self) -> Sts {
        Sts {
            endpoint: self.variable("AWS_ENDPOINT_URL_STS"),
            region: self.region.clone(),
            ca_file: self.ca_file.clone(),
        }
    }

    /// # Errors
    /// [`CredentialsError`]
    pub(super) async fn look(&self) -> Result<Found, CredentialsError> {
        match &self.settings {
            S3Credentials::Keys {
                key_id,
                secret,
                token,
            } => Ok(Found {
                credentials: Credentials {
                    key_id: key_id.clone(),
                    secret: secret.clone(),
                    token: token.clone(),
                },
                place: "the configuration (store.s3.access_key_id)".to_owned(),
                lasting: Lasting::Always,
            }),
            S3Credentials::File { path, profile } => {
                let mut absences = Vec::new();
                let files = [path.clone()];
                let found = self
                    .profile(profile.as_deref(), &files, &mut absences)
                    .await?;
                found.ok_or(CredentialsError::Nowhere(absences))
            }
            S3Credentials::Found { profile } => self.chain(profile.as_deref()).await,
        }
    }

    async fn chain(&self, profile: Option<&str>) -> Result<Found, CredentialsError> {
        let mut absences = Vec::new();
        // A profile that the configuration names is meant, whatever the environment has.
        if profile.is_none()
            && let Some(found) = self.environment(&mut absences)?
        {
            return Ok(found);
        }
        let files = self.profile_files();
        if let Some(found) = self.profile(profile, &files, &mut absences).await? {
            return Ok(found);
        }
        if profile.is_some() {
            return Err(CredentialsError::Nowhere(absences));
        }
        if let Some(found) = self.web_identity(&mut absences).await? {
            return Ok(found);
        }
        if let Some(found) = self.container(&mut absences).await? {
            return Ok(found);
        }
        match self.instance().await {
            Ok(found) => Ok(found),
            Err(why) => {
                absences.push(why);
                Err(CredentialsError::Nowhere(absences))
            }
        }
    }

    fn environment(&self, absences: &mut Vec<String>) -> Looked {
        let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
        match (self.variable(id), self.variable(secret)) {
            (Some(key_id), Some(secret)) => Ok(Some(Found {
                credentials: Credentials {
                    key_id: Secret::new(key_id),
                    secret: Secret::new(secret),
                    token: self.variable("AWS_SESSION_TOKEN").map(Secret::new),
                },
                place: format!("the environment ({id})"),
                lasting: Lasting::Always,
            })),
            (Some(_), None) => Err(CredentialsError::Half(id, secret)),
            (None, Some(_)) => Err(CredentialsError::Half(secret, id)),
            (None, None) => {
                absences.push(format!("{id} and {secret} are not set"));
                Ok(None)
            }
        }
    }

    /// The config file, then the credentials file, which counts where both say something.
    fn profile_files(&self) -> Vec<PathBuf> {
        let home = self.variable("HOME").map(PathBuf::from);
        let file = |variable: &str, name: &str| {
            let told = self.variable(variable).map(PathBuf::from);
            told.or_else(|| home.as_ref().map(|home| home.join(name)))
        };
        [
            file("AWS_CONFIG_FILE", ".aws/config"),
            file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    async fn profile(
        &self,
        configured: Option<&str>,
        files: &[PathBuf],
        absences: &mut Vec<String>,
    ) -> Looked {
        let told = configured
            .map(str::to_owned)
            .or_else(|| self.variable("AWS_PROFILE"));
        let name = told.as_deref().unwrap_or("default");
        let mut profiles = Profiles::default();
        let mut wrong = Vec::new();
        for file in files {
            match read(file).await {
                Ok(text) => profiles.read(&text),
                Err(error) => wrong.push(format!("{}: {error}", file.display())),
            }
        }
        let place = match files.last() {
            Some(file) => format!("the profile [{name}] of {}", file.display()),
            None => format!("the profile [{name}]"),
        };
        let way = profiles
            .way(name)
            .map_err(|cause| unusable(place.clone(), cause))?;
        let Some(way) = way else {
            if files.is_empty() {
                wrong.push("HOME is not set".to_owned());
            }
            let wrong = match wrong.is_empty() {
                true => String::new(),
                false => format!(" ({})", wrong.join(", ")),
            };
            let absence = format!("{place} has no keys and no role{wrong}");
            // One that was named has to be there.
            if told.is_some() {
                return Err(CredentialsError::Nowhere(vec![absence]));
            }
            absences.push(absence);
            return Ok(None);
        };
        let begun = match way.origin {
            Origin::Keys(credentials) => Found {
                credentials,
                place,
                lasting: Lasting::UntilChanged,
            },
            Origin::WebIdentity { token_file, role } => {
                self.with_token(&token_file, &role, &place).await?
            }
            Origin::Environment => {
                let found = self.environment(&mut Vec::new())?;
                found.ok_or_else(|| unusable(place, "the environment has no keys"))?
            }
            Origin::Container => {
                let found = self.container(&mut Vec::new()).await?;
                found.ok_or_else(|| unusable(place, "there is no container's role"))?
            }
            Origin::Instance => {
                let found = self.instance().await;
                found.map_err(|cause| unusable(place, cause))?
            }
        };
        let mut found = begun;
        for role in way.roles {
            let place = format!("the role {}, assumed from {}", role.arn, found.place);
            let assumed = self.sts().assume(&role, &found.credentials).await;
            let (credentials, lasting) = assumed.map_err(|cause| unusable(&place, cause))?;
            found = Found {
                credentials,
                place,
                lasting,
            };
        }
        Ok(Some(found))
    }

    async fn web_identity(&self, absences: &mut Vec<String>) -> Looked {
        let (file, arn) = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN");
        let Some(token_file) = self.variable(file) else {
            absences.push(format!("{file} is not set"));
            return Ok(None);
        };
        let Some(arn) = self.variable(arn) else {
            return Err(CredentialsError::Half(file, arn));
        };
        let role = Role {
            arn,
            session: self.variable("AWS_ROLE_SESSION_NAME"),
            external_id: None,
            duration_s: None,
        };
        self.with_token(&token_file, &role, "the environment")
            .await
            .map(Some)
    }

    async fn with_token(
        &self,
        token_file: &str,
        role: &Role,
        by: &str,
    ) -> Result<Found, CredentialsError> {
        let place = format!(
            "the role {}, by the web identity in {token_file} that {by} names",
            role.arn
        );
        let token = secret_of(token_file)
            .await
            .map_err(|cause| unusable(&place, cause))?;
        let assumed = self.sts().assume_with(role, &token).await;
        let (credentials, lasting) = assumed.map_err(|cause| unusable(&place, cause))?;
        Ok(Found {
            credentials,
            place,
            lasting,
        })
    }

    async fn container(&self, absences: &mut Vec<String>) -> Looked {
        let relative = self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let full = self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        if relative.is_none() && full.is_none() {
            absences.push("AWS_CONTAINER_CREDENTIALS_FULL_URI is not set".to_owned());
            return Ok(None);
        }
        let wrong = |cause| unusable("the container's role", cause);
        let address = container_address(relative.as_deref(), full.as_deref()).map_err(wrong)?;
        let host = address.host_str().unwrap_or_default();
        let place = format!("the container's role, from {host}");
        let wrong = |cause: String| unusable(&place, cause);
        let token = match self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(secret_of(&file).await.map_err(wrong)?),
            None => self
                .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")
                .map(Secret::new),
        };
        let asked = of_container(address, token.as_ref()).await;
        let (credentials, lasting) = asked.map_err(wrong)?;
        Ok(Some(Found {
            credentials,
            place,
            lasting,
        }))
    }

    /// # Errors
    /// Why there is none.
    async fn instance(&self) -> Result<Found, String> {
        let disabled = "AWS_EC2_METADATA_DISABLED";
        if self
            .variable(disabled)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            return Err(format!(
                "{disabled} keeps from asking for an instance's role"
            ));
        }
        let mode = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
        let default = match mode.is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6")) {
            true => INSTANCE_V6,
            false => INSTANCE_V4,
        };
        let told = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let host = told.as_deref().unwrap_or(default);
        let asked = of_instance(host).await;
        let (role, credentials, lasting) =
            asked.map_err(|why| format!("no role of an instance, from {host}: {why}"))?;
        Ok(Found {
            credentials,
            place: format!("the instance's role {role}, from {host}"),
            lasting,
        })
    }
}

/// Files are read off the runtime's thread: they may be on a network.
async fn read(path: &Path) -> Result<String, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let metadata = std::fs::metadata(&path)?;
        // A pipe would be waited for.
        if !metadata.is_file() || metadata.len() > FILE_MAX_BYTES {
            return Err(std::io::Error::other("it is no file of at most 1 MiB"));
        }
        std::fs::read_to_string(&path)
    });
    match read.await {
        Ok(text) => text.map_err(|error| error.to_string()),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody will read the answer.
            Err(_) => Err("the runtime ends".to_owned()),
        },
    }
}

async fn secret_of(path: &str) -> Result<Secret, String> {
    let text = read(Path::new(path)).await;
    let text = text.map_err(|error| format!("{path}: {error}"))?;
    match text.trim() {
        "" => Err(format!("{path} is empty")),
        text => Ok(Secret::new(text)),
    }
}
