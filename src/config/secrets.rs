//! What must not reach a log, an error or a status: passwords, key material, a URL's userinfo.

use std::fmt;

use serde::Deserialize;

use super::references::Reference;

/// Stands in for what is hidden.
pub(super) const HIDDEN: &str = "(hidden)";

/// A secret: whatever prints it prints `(hidden)`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

/// Whether a key's value is a secret, by its name. Also hides some that are none, as a token's
/// endpoint: of the two errors that is the harmless one.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if key.ends_with("credentials_file") {
        return false;
    }
    // The options as a whole, where they are written as one value.
    key.ends_with("kafka.options")
        || [
            "pass",
            "pwd",
            "secret",
            "token",
            "credential",
            "private",
            "key.pem",
            "key_pem",
            "ssl_key",
            "access_key",
            "oauthbearer.config",
            "oauthbearer.extensions",
        ]
        .iter()
        .any(|part| key.contains(part))
}

/// A value as it may be shown under this key: of a secret no more than where it stands.
pub(crate) fn presentable(key: &str, value: &str) -> String {
    let text = value.trim_matches(['"', '\'']);
    if is_secret(key) && !matches!(Reference::parse(text), Some(Ok(_))) {
        HIDDEN.to_owned()
    } else {
        without_userinfo(value)
    }
}

/// The text with what stands between `://` and `@` of each URL hidden.
pub(super) fn without_userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let authority = after
            .find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace())
            .unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(at) => {
                shown.push_str(HIDDEN);
                &after[at..]
            }
            None => after,
        };
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_userinfo_of_a_url_is_hidden() {
        for (text, expected) in [
            ("http://user:pw@host/x@y", "http://(hidden)@host/x@y"),
            ("http://a@b@c/", "http://(hidden)@c/"),
            ("http://host/x", "http://host/x"),
            ("[\"http://u:p@h\"]", "[\"http://(hidden)@h\"]"),
            ("no url", "no url"),
        ] {
            assert_eq!(without_userinfo(text), expected);
        }
    }

    #[test]
    fn a_secret_is_shown_as_where_it_stands_or_not_at_all() {
        for (value, shown) in [
            ("\"file:/run/key\"", "\"file:/run/key\""),
            ("env:KEY", "env:KEY"),
            ("'credential:key'", "'credential:key'"),
            ("\"file:hush\"", HIDDEN),
            ("\"env:hush hush\"", HIDDEN),
            ("\"hush\"", HIDDEN),
        ] {
            assert_eq!(presentable("sasl.password", value), shown);
        }
        let secret = Secret::new("hush");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "(hidden) (hidden) Some((hidden))"
        );
    }

    #[test]
    fn passwords_secrets_and_key_material_are_secrets() {
        for key in [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.keystore.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "SASL.PASSWORD",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["sasl.username", "topic", "ssl.ca.location", "kms_key_id"] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
