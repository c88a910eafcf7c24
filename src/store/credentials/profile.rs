//! The files of profiles that AWS's tools share: what a profile says of who we are. Pure.

use std::collections::HashMap;

use super::{Credentials, Secret};

/// A role of a role of a role is enough for anybody; more is a circle, or a mistake.
const ROLES_MAX: usize = 5;

/// The profiles of a credentials file and a config file.
#[derive(Default)]
pub(super) struct Profiles {
    sections: HashMap<String, HashMap<String, String>>,
}

/// Where a profile begins.
pub(super) enum Origin {
    /// Keys in a file.
    Keys(Credentials),
    /// A token in a file, which makes us this role.
    WebIdentity { token_file: String, role: Role },
    /// `credential_source`
    Environment,
    /// `credential_source`
    Container,
    /// `credential_source`
    Instance,
}

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) duration_s: Option<String>,
}

/// What a profile says: where to begin, and which roles to assume from there, one after another.
pub(super) struct Way {
    pub(super) origin: Origin,
    pub(super) roles: Vec<Role>,
}

impl Profiles {
    /// Reads a file, over what is there already; in a config file profiles are called
    /// `[profile NAME]`.
    pub(super) fn read(&mut self, text: &str) {
        let mut section = None;
        let mut in_nested = false;
        for line in text.lines() {
            let is_indented = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = header(line) {
                section = Some(self.sections.entry(name).or_default());
                in_nested = false;
                continue;
            }
            // Indented lines below a key without a value are the parts of that.
            if is_indented && in_nested {
                continue;
            }
            if let (Some(section), Some((key, value))) = (&mut section, line.split_once('=')) {
                let value = without_comment(value.trim());
                in_nested = value.is_empty();
                if !in_nested {
                    section.insert(key.trim().to_ascii_lowercase(), value.to_owned());
                }
            }
        }
    }

    /// `Ok(None)`: there is no such profile, or it says nothing of who we are.
    ///
    /// # Errors
    /// What is wrong with what it says.
    pub(super) fn way(&self, name: &str) -> Result<Option<Way>, String> {
        let mut roles = Vec::new();
        let mut name = name;
        let mut from: Option<&str> = None;
        loop {
            let Some(section) = self.sections.get(name) else {
                return match from {
                    Some(from) => Err(format!(
                        "[{from}] names the source_profile {name}, which is not there"
                    )),
                    None => Ok(None),
                };
            };
            let section = Section { name, section };
            // A profile may be its own source: then its keys are meant.
            if from != Some(name)
                && let Some(role) = section.role()
            {
                if let Some(token_file) = section.get("web_identity_token_file") {
                    let token_file = token_file.to_owned();
                    let origin = Origin::WebIdentity { token_file, role };
                    return Ok(Some(way(origin, roles)));
                }
                section.refuse("mfa_serial", "asks a person for a code")?;
                roles.push(role);
                if roles.len() > ROLES_MAX {
                    return Err(format!(
                        "[{name}] leads through more than {ROLES_MAX} roles"
                    ));
                }
                if let Some(source) = section.get("credential_source") {
                    return Ok(Some(way(section.source(source)?, roles)));
                }
                from = Some(name);
                name = section.get("source_profile").ok_or_else(|| {
                    format!(
                        "[{name}] has a role_arn, but no source_profile and no credential_source"
                    )
                })?;
                continue;
            }
            return match (section.keys()?, from) {
                (Some(keys), _) => Ok(Some(way(Origin::Keys(keys), roles))),
                (None, Some(from)) => {
                    section.refuse_unknown()?;
                    Err(format!(
                        "[{name}], the source_profile of [{from}], has no keys and no role_arn"
                    ))
                }
                (None, None) => {
                    section.refuse_unknown()?;
                    Ok(None)
                }
            };
        }
    }
}

/// Roles were met from the last to the first.
fn way(origin: Origin, mut roles: Vec<Role>) -> Way {
    roles.reverse();
    Way { origin, roles }
}

struct Section<'a> {
    name: &'a str,
    section: &'a HashMap<String, String>,
}

impl<'a> Section<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.section.get(key).map(String::as_str)
    }

    fn owned(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    fn role(&self) -> Option<Role> {
        Some(Role {
            arn: self.owned("role_arn")?,
            session: self.owned("role_session_name"),
            external_id: self.owned("external_id"),
            duration_s: self.owned("duration_seconds"),
        })
    }

    fn keys(&self) -> Result<Option<Credentials>, String> {
        let (id, secret) = ("aws_access_key_id", "aws_secret_access_key");
        match (self.get(id), self.get(secret)) {
            (Some(key_id), Some(secret)) => Ok(Some(Credentials {
                key_id: Secret::new(key_id),
                secret: Secret::new(secret),
                token: self.get("aws_session_token").map(Secret::new),
            })),
            (Some(_), None) => Err(format!("[{}] has {id}, but no {secret}", self.name)),
            (None, Some(_)) => Err(format!("[{}] has {secret}, but no {id}", self.name)),
            (None, None) => Ok(None),
        }
    }

    fn source(&self, source: &str) -> Result<Origin, String> {
        match source {
            "Environment" => Ok(Origin::Environment),
            "EcsContainer" => Ok(Origin::Container),
            "Ec2InstanceMetadata" => Ok(Origin::Instance),
            _ => Err(format!(
                "[{}] has a credential_source other than Environment, EcsContainer and \
                 Ec2InstanceMetadata",
                self.name
            )),
        }
    }

    /// What a profile may say and a service cannot do.
    fn refuse_unknown(&self) -> Result<(), String> {
        self.refuse(
            "credential_process",
            "would run a command with this service's rights",
        )?;
        for key in ["sso_session", "sso_start_url"] {
            self.refuse(key, "asks a person to log in")?;
        }
        Ok(())
    }

    fn refuse(&self, key: &str, why: &str) -> Result<(), String> {
        match self.get(key) {
            Some(_) => Err(format!(
                "[{}] has {key}, which {why} and is not supported: name keys or a role",
                self.name
            )),
            None => Ok(()),
        }
    }
}

fn header(line: &str) -> Option<String> {
    let name = without_comment(line)
        .strip_prefix('[')?
        .strip_suffix(']')?
        .trim();
    let profile = name
        .strip_prefix("profile")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map_or(name, str::trim);
    Some(profile.trim_matches(['"', '\'']).to_owned())
}

/// A comment behind a value begins with a mark behind a blank.
fn without_comment(value: &str) -> &str {
    let marks = [" #", " ;", "\t#", "\t;"];
    let end = marks.iter().filter_map(|mark| value.find(mark)).min();
    value[..end.unwrap_or(value.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(files: &[&str]) -> Profiles {
        let mut profiles = Profiles::default();
        for text in files {
            profiles.read(text);
        }
        profiles
    }

    fn key_of(profiles: &Profiles, name: &str) -> Option<String> {
        match profiles.way(name).unwrap()?.origin {
            Origin::Keys(keys) => Some(keys.key_id.expose().to_owned()),
            _ => None,
        }
    }

    #[test]
    fn keys_are_read_as_awss_tools_read_them() {
        let profiles = profiles(&[
            "[default]\nregion = x\naws_access_key_id = config\n[profile  b c]\naws_access_key_id=b\n\
             aws_secret_access_key=s\n",
            "# keys\r\n[default]\r\naws_access_key_id=a ; mine\r\naws_secret_access_key = b==\r\n\
             s3 =\r\n  aws_access_key_id = nested\r\nAWS_SESSION_TOKEN=t#t\r\n[ other ]\n\taws_access_key_id=c\n\
             \taws_secret_access_key=d\n",
        ]);
        assert_eq!(key_of(&profiles, "default").as_deref(), Some("a"));
        assert_eq!(key_of(&profiles, "other").as_deref(), Some("c"));
        assert_eq!(key_of(&profiles, "b c").as_deref(), Some("b"));
        let Some(Way {
            origin: Origin::Keys(keys),
            ..
        }) = profiles.way("default").unwrap()
        else {
            panic!("no keys");
        };
        assert_eq!(keys.secret.expose(), "b==");
        assert_eq!(keys.token.unwrap().expose(), "t#t");
        assert!(profiles.way("none").unwrap().is_none());
    }

    #[test]
    fn roles_are_assumed_from_their_source() {
        let profiles = profiles(&["[base]\naws_access_key_id=a\naws_secret_access_key=b\n\
             [middle]\nrole_arn=arn:middle\nsource_profile=base\nexternal_id=e\n\
             [top]\nrole_arn=arn:top\nsource_profile=middle\nrole_session_name=s\nduration_seconds=900\n\
             [self]\nrole_arn=arn:self\nsource_profile=self\naws_access_key_id=c\naws_secret_access_key=d\n\
             [instance]\nrole_arn=arn:i\ncredential_source=Ec2InstanceMetadata\n\
             [web]\nrole_arn=arn:w\nweb_identity_token_file=/t\n\
             [of-web]\nrole_arn=arn:o\nsource_profile=web\n"]);
        let arns = |name: &str| -> Vec<String> {
            let way = profiles.way(name).unwrap().unwrap();
            way.roles.into_iter().map(|role| role.arn).collect()
        };
        assert_eq!(arns("top"), ["arn:middle", "arn:top"]);
        assert_eq!(key_of(&profiles, "top").as_deref(), Some("a"));
        assert_eq!(arns("self"), ["arn:self"]);
        assert_eq!(key_of(&profiles, "self").as_deref(), Some("c"));
        assert_eq!(arns("instance"), ["arn:i"]);
        assert!(arns("web").is_empty());
        assert_eq!(arns("of-web"), ["arn:o"]);
        let middle = &profiles.way("middle").unwrap().unwrap().roles[0];
        assert_eq!(middle.external_id.as_deref(), Some("e"));
        let top = &profiles.way("top").unwrap().unwrap().roles[1];
        assert_eq!(top.session.as_deref(), Some("s"));
        assert_eq!(top.duration_s.as_deref(), Some("900"));
    }

    #[test]
    fn what_a_profile_cannot_mean_is_named_without_what_it_holds() {
        let profiles = profiles(&[
            "[half]\naws_access_key_id=hush\n[other-half]\naws_secret_access_key=hush\n\
             [circle]\nrole_arn=r\nsource_profile=elcric\n[elcric]\nrole_arn=r\nsource_profile=circle\n\
             [alone]\nrole_arn=r\n[lost]\nrole_arn=r\nsource_profile=nobody\n\
             [empty]\nregion=x\n[of-empty]\nrole_arn=r\nsource_profile=empty\n\
             [process]\ncredential_process=/bin/hush\n[sso]\nsso_session=hush\n\
             [mfa]\nrole_arn=r\nmfa_serial=hush\nsource_profile=half\n\
             [odd]\nrole_arn=r\ncredential_source=hush\n",
        ]);
        for (name, says) in [
            ("half", "no aws_secret_access_key"),
            ("other-half", "no aws_access_key_id"),
            ("circle", "more than 5 roles"),
            ("alone", "no source_profile"),
            ("lost", "nobody, which is not there"),
            ("of-empty", "no keys and no role_arn"),
            ("process", "credential_process"),
            ("sso", "sso_session"),
            ("mfa", "mfa_serial"),
            ("odd", "credential_source"),
        ] {
            let wrong = profiles.way(name).err().unwrap_or_default();
            assert!(
                wrong.contains(says) && !wrong.contains("hush"),
                "{name}: {wrong}"
            );
        }
        assert!(profiles.way("empty").unwrap().is_none());
    }
}
