//! `[store.s3]`: how S3 is spoken to, and as whom.

use std::path::PathBuf;

use super::mistakes::Mistake;
use super::rules::{absolute, endpoint, non_empty, not_zero};
use super::secrets::Secret;
use super::valid::{Config, Encryption, NamedFile, S3, S3Credentials};
use super::validate::{Checks, Mark};
use super::written::{self, Given, Place};

const KEY_ID: &str = "store.s3.access_key_id";
const SECRET: &str = "store.s3.secret_access_key";

/// The keys that say who requests are signed as.
struct Identity {
    key_id: Option<Given<Secret>>,
    secret: Option<Given<Secret>>,
    token: Option<Given<Secret>>,
    file: Option<Given<String>>,
    profile: Option<Given<String>>,
}

/// A checked key that was given a value.
struct Found<T> {
    value: T,
    place: Place,
}

impl<T> Found<T> {
    fn new(value: Option<T>, mark: &Mark) -> Option<Self> {
        let place = mark.place()?.clone();
        value.map(|value| Self { value, place })
    }

    fn mistake(&self, right: String) -> Mistake {
        self.place.mistake(right)
    }
}

impl Checks<'_> {
    pub(super) fn s3(&mut self, written: written::S3, config: &mut Config) {
        let s3 = &mut config.store.s3;
        self.set(written.endpoint, &mut s3.endpoint, endpoint);
        self.set(written.region, &mut s3.region, |region| {
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if region.is_empty() || !region.chars().all(valid) {
                return Err("must be a region such as us-east-1".to_owned());
            }
            Ok(region)
        });
        self.set(written.path_style, &mut s3.path_style, Ok);
        self.set(written.client, &mut s3.client, |client| Ok(client.0));
        self.set(written.storage_class, &mut s3.storage_class, |class| {
            if !class.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err("must be a storage class such as STANDARD_IA, or empty".to_owned());
            }
            Ok(non_empty(class))
        });
        self.fetch(written.ca_file, Self::path, &mut s3.ca_file, |path| {
            Ok(absolute(path, usize::MAX)?.map(NamedFile::new))
        });
        self.set(written.timeout, &mut s3.timeout, |p| not_zero(p.0));
        self.encryption(written.server_side_encryption, written.kms_key_id, s3);
        let identity = Identity {
            key_id: written.access_key_id,
            secret: written.secret_access_key,
            token: written.session_token,
            file: written.credentials_file,
            profile: written.profile,
        };
        if let Some(credentials) = self.credentials(identity) {
            s3.credentials = credentials;
        }
    }

    fn encryption(
        &mut self,
        server_side_encryption: Option<Given<String>>,
        kms_key_id: Option<Given<String>>,
        s3: &mut S3,
    ) {
        let encryption = self.set(
            server_side_encryption,
            &mut s3.server_side_encryption,
            |text| match text.as_str() {
                "" => Ok(None),
                "AES256" => Ok(Some(Encryption::Aes256)),
                "aws:kms" => Ok(Some(Encryption::Kms(None))),
                _ => Err("must be \"AES256\", \"aws:kms\" or empty".to_owned()),
            },
        );
        let mut key_id = None;
        let key = self.set(kms_key_id, &mut key_id, |id| {
            if id.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err("must be a key's id, ARN or alias".to_owned());
            }
            Ok(non_empty(id))
        });
        match (&mut s3.server_side_encryption, key_id, key.place()) {
            (_, None, _) => {}
            (Some(Encryption::Kms(id)), given, _) => *id = given,
            (_, Some(_), Some(place)) if !matches!(encryption, Mark::Wrong) => {
                self.mistakes.push(place.mistake(
                    "must be left out unless store.s3.server_side_encryption is \"aws:kms\"",
                ));
            }
            _ => {}
        }
    }

    /// `None`: none that could be used.
    fn credentials(&mut self, identity: Identity) -> Option<S3Credentials> {
        let (key_id, is_wrong) = self.secret(identity.key_id);
        let (secret, secret_is_wrong) = self.secret(identity.secret);
        let (token, _) = self.secret(identity.token);
        let mut path: Option<PathBuf> = None;
        let mark = self.fetch(identity.file, Self::path, &mut path, |path| {
            absolute(path, usize::MAX)
        });
        let file = Found::new(path, &mark);
        let mut name = None;
        let mark = self.set(identity.profile, &mut name, profile);
        let profile = Found::new(name, &mark);
        if is_wrong || secret_is_wrong {
            return None;
        }
        let because = |key: &str| format!("must be left out: {key} says who signs");
        match (key_id, secret) {
            (Some(key_id), Some(secret)) => {
                let others = [
                    file.map(|file| file.mistake(because(KEY_ID))),
                    profile.map(|profile| profile.mistake(because(KEY_ID))),
                ];
                self.mistakes.extend(others.into_iter().flatten());
                Some(S3Credentials::Keys {
                    key_id: key_id.value,
                    secret: secret.value,
                    token: token.map(|token| token.value),
                })
            }
            (Some(half), None) => {
                self.mistakes
                    .push(half.mistake(format!("must be given together with {SECRET}")));
                None
            }
            (None, Some(half)) => {
                self.mistakes
                    .push(half.mistake(format!("must be given together with {KEY_ID}")));
                None
            }
            (None, None) => {
                if let Some(token) = token {
                    self.mistakes.push(
                        token.mistake(format!("must be given together with {KEY_ID} and {SECRET}")),
                    );
                }
                let profile = profile.map(|profile| profile.value);
                Some(match file {
                    Some(Found { value: path, .. }) => S3Credentials::File { path, profile },
                    None => S3Credentials::Found { profile },
                })
            }
        }
    }

    /// A secret, and whether it was given and is a mistake already.
    fn secret(&mut self, given: Option<Given<Secret>>) -> (Option<Found<Secret>>, bool) {
        let mut secret = None;
        let fetch = |checks: &mut Self, place: &Place, text: Secret| {
            let fetched = checks.content(place, text.expose().to_owned(), true)?;
            Ok(fetched.0)
        };
        let mark = self.fetch(given, fetch, &mut secret, |text: String| {
            if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err("must be one word, as AWS prints it".to_owned());
            }
            Ok(non_empty(text).map(Secret::new))
        });
        (Found::new(secret, &mark), matches!(mark, Mark::Wrong))
    }
}

fn profile(name: String) -> Result<Option<String>, String> {
    if name.contains([']', '[']) || name.chars().any(char::is_control) {
        return Err("must be a profile's name, or empty".to_owned());
    }
    Ok(non_empty(name))
}
