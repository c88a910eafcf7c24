//! Small servers on loopback in the place of STS, the metadata's servers, and S3.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::store::faulty_bucket::{answer, effect, header, read_request};
use crate::store::memory::MemoryStore;

/// What a server was asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Method, path and headers.
    pub(super) head: String,
    pub(super) body: String,
}

impl Request {
    pub(super) fn starts_with(&self, text: &str) -> bool {
        self.head.starts_with(text)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// Answers each request with a status and a text, or not at all.
type Answers = dyn Fn(&Request) -> Option<(u16, String)> + Send + Sync;

pub(super) struct Server {
    pub(super) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) async fn start(
        answers: impl Fn(&Request) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        tokio::spawn(serve(listener, Arc::new(answers), requests.clone()));
        Self { address, requests }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests began like this.
    pub(super) fn count(&self, start: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .filter(|request| request.starts_with(start))
            .count()
    }
}

async fn serve(listener: TcpListener, answers: Arc<Answers>, requests: Arc<Mutex<Vec<Request>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (answers, requests) = (answers.clone(), requests.clone());
        tokio::spawn(async move {
            let Some((head, body)) = read_request(&mut stream).await else {
                return;
            };
            let body = String::from_utf8_lossy(&body).into_owned();
            let request = Request { head, body };
            let answered = answers(&request);
            requests.lock().unwrap().push(request);
            let Some((status, text)) = answered else {
                return std::future::pending().await;
            };
            let _ = stream.write_all(&answer(status, "", text.as_bytes())).await;
            let _ = stream.shutdown().await;
        });
    }
}

/// What an instance with the role `role` is told: `document` at the end of the way.
pub(super) fn instance(request: &Request, document: impl Fn() -> String) -> Option<(u16, String)> {
    const ROLES: &str = "GET /latest/meta-data/iam/security-credentials/";
    let has_session = request.header("x-aws-ec2-metadata-token") == Some("session");
    Some(if request.starts_with("PUT /latest/api/token ") {
        match request.header("x-aws-ec2-metadata-token-ttl-seconds") {
            Some(_) => (200, "session".to_owned()),
            None => (400, String::new()),
        }
    } else if !has_session {
        (401, String::new())
    } else if request.starts_with(&format!("{ROLES} ")) {
        (200, "role\n".to_owned())
    } else if request.starts_with(&format!("{ROLES}role ")) {
        (200, document())
    } else {
        (404, String::new())
    })
}

/// Credentials as the metadata's servers write them.
pub(super) fn document(key: &str, expires_ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(expires_ms).unwrap();
    serde_json::json!({
        "Code": "Success", "AccessKeyId": key, "SecretAccessKey": format!("secret of {key}"),
        "Token": format!("token of {key}"), "Expiration": at.to_rfc3339(),
    })
    .to_string()
}

/// As STS writes them.
pub(super) fn assumed(key: &str, expires_ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(expires_ms).unwrap();
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <AssumedRoleUser><Arn>arn</Arn></AssumedRoleUser><Credentials>\n  <AccessKeyId>{key}</AccessKeyId>\n\
         <SecretAccessKey>secret of {key}</SecretAccessKey><SessionToken>token/of+{key}=</SessionToken>\
         <Expiration>{}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
        at.to_rfc3339()
    )
}

/// A bucket `b` that takes only what is signed by the key in force.
pub(in crate::store) struct Bucket {
    pub(super) address: String,
    pub(super) objects: Arc<MemoryStore>,
    pub(super) key: Arc<Mutex<String>>,
    /// What others are told: status and code.
    pub(super) refusal: Arc<Mutex<(u16, &'static str)>>,
}

impl Bucket {
    pub(super) async fn start(key: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bucket = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            objects: Arc::new(MemoryStore::new()),
            key: Arc::new(Mutex::new(key.to_owned())),
            refusal: Arc::new(Mutex::new((403, "InvalidAccessKeyId"))),
        };
        let (objects, key, refusal) = (
            bucket.objects.clone(),
            bucket.key.clone(),
            bucket.refusal.clone(),
        );
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some((head, body)) = read_request(&mut stream).await else {
                    continue;
                };
                let signed = header(&head, "authorization").unwrap_or_default();
                let is_valid = signed.contains(&format!("Credential={}/", key.lock().unwrap()));
                let answered = match is_valid {
                    true => effect(&head, body, &objects).await,
                    false => {
                        let (status, code) = *refusal.lock().unwrap();
                        let body =
                            format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
                        answer(status, "", body.as_bytes())
                    }
                };
                let _ = stream.write_all(&answered).await;
                let _ = stream.shutdown().await;
            }
        });
        bucket
    }
}
