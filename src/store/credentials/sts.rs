//! STS: credentials of a role, for who may assume it.

use std::fmt;

use rusoto_core::Region;
use rusoto_core::signature::SignedRequest;
use rusoto_credential::AwsCredentials;

use super::profile::Role;
use super::remote::{ask, lasting, sts_client};
use super::{Credentials, Lasting, Secret};
use crate::config::NamedFile;

/// Names us in the account's trail where nobody says otherwise.
const SESSION: &str = "groundtrack";

/// The version of the interface; the only one there is.
const VERSION: &str = "2011-06-15";

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// STS of a region, or another server that speaks as it does.
#[derive(Debug, Clone)]
pub(super) struct Sts {
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
    pub(super) ca_file: Option<NamedFile>,
}

/// Where it is.
impl fmt::Display for Sts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())
    }
}

impl Sts {
    fn address(&self) -> String {
        let region = &self.region;
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let own = self
            .endpoint
            .as_deref()
            .map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        own.unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com{suffix}"))
    }

    /// # Errors
    /// What STS answered, or that it did not.
    pub(super) async fn assume(
        &self,
        role: &Role,
        who: &Credentials,
    ) -> Result<(Credentials, Lasting), String> {
        let mut request = self.form(
            "AssumeRole",
            role,
            &[("ExternalId", role.external_id.as_deref())],
        )?;
        request.sign(&AwsCredentials::new(
            who.key_id.expose(),
            who.secret.expose(),
            who.token.as_ref().map(|token| token.expose().to_owned()),
            None,
        ));
        let secrets: Vec<&Secret> = [Some(&who.secret), who.token.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        self.send(request, &secrets).await
    }

    /// # Errors
    /// As above.
    pub(super) async fn assume_with(
        &self,
        role: &Role,
        token: &Secret,
    ) -> Result<(Credentials, Lasting), String> {
        let token_field = [("WebIdentityToken", Some(token.expose()))];
        let mut request = self.form("AssumeRoleWithWebIdentity", role, &token_field)?;
        // The token is the proof: nothing is signed.
        request.complement();
        self.send(request, &[token]).await
    }

    fn form(
        &self,
        action: &str,
        role: &Role,
        more: &[(&str, Option<&str>)],
    ) -> Result<SignedRequest, String> {
        let region = Region::Custom {
            name: self.region.clone(),
            endpoint: self.address(),
        };
        let mut form = reqwest::Url::parse("http://form/").map_err(|error| error.to_string())?;
        let fields = [
            ("Action", Some(action)),
            ("Version", Some(VERSION)),
            ("RoleArn", Some(role.arn.as_str())),
            (
                "RoleSessionName",
                Some(role.session.as_deref().unwrap_or(SESSION)),
            ),
            ("DurationSeconds", role.duration_s.as_deref()),
        ];
        for (name, value) in fields.iter().chain(more) {
            if let Some(value) = value {
                form.query_pairs_mut().append_pair(name, value);
            }
        }
        let mut request = SignedRequest::new("POST", "sts", &region, "/");
        request.set_content_type(FORM.to_owned());
        request.set_payload(form.query().map(|query| query.as_bytes().to_vec()));
        Ok(request)
    }

    async fn send(
        &self,
        request: SignedRequest,
        secrets: &[&Secret],
    ) -> Result<(Credentials, Lasting), String> {
        let client = sts_client(self.ca_file.as_ref())?;
        let mut post = client.post(format!("{}/", self.address()));
        for (name, values) in request.headers() {
            for value in values {
                // These are the client's own.
                if !matches!(name.as_str(), "host" | "content-length") {
                    post = post.header(name.as_str(), value.as_slice());
                }
            }
        }
        if let Some(rusoto_core::signature::SignedRequestPayload::Buffer(body)) = request.payload {
            post = post.body(body.to_vec());
        }
        let body = ask(post)
            .await
            .map_err(|error| format!("{self}: {}", error.words(secrets)))?;
        credentials(&body).map_err(|error| format!("{self}: {error}"))
    }
}

/// Of a successful answer.
fn credentials(body: &[u8]) -> Result<(Credentials, Lasting), String> {
    let mut fields = Fields::default();
    let mut name = String::new();
    for event in xml::EventReader::new(body) {
        use xml::reader::XmlEvent::{Characters, EndElement, StartElement};
        match event.map_err(|_| "the answer is no XML".to_owned())? {
            StartElement { name: element, .. } => name = element.local_name,
            EndElement { .. } => name.clear(),
            Characters(text) => fields.set(&name, text),
            _ => {}
        }
    }
    let (Some(key_id), Some(secret)) = (fields.key_id, fields.secret) else {
        return Err("the answer has no AccessKeyId and SecretAccessKey".to_owned());
    };
    let credentials = Credentials {
        key_id: Secret::new(key_id),
        secret: Secret::new(secret),
        token: fields.token.map(Secret::new),
    };
    Ok((credentials, lasting(fields.expiration.as_deref())?))
}

#[derive(Default)]
struct Fields {
    key_id: Option<String>,
    secret: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

impl Fields {
    fn set(&mut self, name: &str, text: String) {
        match name {
            "AccessKeyId" => self.key_id = Some(text),
            "SecretAccessKey" => self.secret = Some(text),
            "SessionToken" => self.token = Some(text),
            "Expiration" => self.expiration = Some(text),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_is_where_the_region_is() {
        let sts = |region: &str, endpoint: Option<&str>| Sts {
            endpoint: endpoint.map(str::to_owned),
            region: region.to_owned(),
            ca_file: None,
        };
        assert_eq!(
            sts("eu-west-1", None).address(),
            "https://sts.eu-west-1.amazonaws.com"
        );
        assert_eq!(
            sts("cn-north-1", None).address(),
            "https://sts.cn-north-1.amazonaws.com.cn"
        );
        assert_eq!(
            sts("x", Some("http://127.0.0.1:1/")).address(),
            "http://127.0.0.1:1"
        );
    }

    #[test]
    fn an_answer_without_credentials_is_none() {
        for (body, says) in [
            ("hush", "no XML"),
            (
                "<a><SecretAccessKey>hush</SecretAccessKey></a>",
                "no AccessKeyId",
            ),
            (
                "<a><AccessKeyId>a</AccessKeyId><SecretAccessKey>hush",
                "no XML",
            ),
        ] {
            let wrong = credentials(body.as_bytes()).unwrap_err();
            assert!(wrong.contains(says) && !wrong.contains("hush"), "{wrong}");
        }
    }
}
