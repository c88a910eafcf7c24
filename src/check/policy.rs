//! The least that the service needs to be allowed: a policy for the bucket, and access-control
//! lists for Kafka. Told by the configuration alone; nothing is asked.

use serde_json::{Value, json};

use crate::config::{self, Config, Encryption, Property, Store, StoreLocation};

pub(super) const LIST: &str = "s3:ListBucket";
pub(super) const GET: &str = "s3:GetObject";
pub(super) const PUT: &str = "s3:PutObject";

/// What only `check` looks at.
const LOOKED_AT: [&str; 2] = ["s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"];

/// What an access-control list of Kafka's is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// `kafka.topic`
    Topic,
    /// `kafka.group`
    Group,
}

/// The least policy for the bucket; `None`: there is no bucket.
pub fn iam(store: &Store) -> Option<Value> {
    let place = Place::of(store)?;
    let folders = [&store.data, &store.dead_letters, &store.checkpoints];
    let objects = folders.map(|folder| place.objects(folder));
    let mut statements = vec![
        json!({
            "Sid": "Objects",
            "Effect": "Allow",
            "Action": [GET, PUT],
            "Resource": objects,
        }),
        // Who may not list is answered 403 for a checkpoint that is not there yet, instead of 404.
        // Without a condition on s3:prefix, which a request for one object has none to meet with.
        json!({
            "Sid": "Listings",
            "Effect": "Allow",
            "Action": [LIST],
            "Resource": place.bucket(),
        }),
        json!({
            "Sid": "LookedAtByCheck",
            "Effect": "Allow",
            "Action": LOOKED_AT,
            "Resource": place.bucket(),
        }),
    ];
    if let Some(Encryption::Kms(key)) = &store.s3.server_side_encryption
        && store.s3.endpoint.is_none()
    {
        statements.push(json!({
            "Sid": "Encryption",
            "Effect": "Allow",
            "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
            "Resource": place.key(key.as_deref(), &store.s3.region),
        }));
    }
    Some(json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// The commands that allow it in Kafka, for an administrator's shell.
pub fn acls(config: &Config) -> Vec<String> {
    let mut of_topic = vec!["Read", "DescribeConfigs"];
    if config.source.is_some() {
        of_topic.push("Write");
    }
    vec![
        acl(&config.kafka, &of_topic, Resource::Topic),
        acl(&config.kafka, &["Read"], Resource::Group),
    ]
}

/// The command that allows these operations. (Who may read or write may describe.)
pub(super) fn acl(kafka: &config::Kafka, operations: &[&str], resource: Resource) -> String {
    let operations: String = operations
        .iter()
        .map(|operation| format!(" --operation {operation}"))
        .collect();
    let (option, name) = match resource {
        Resource::Topic => ("topic", &kafka.topic),
        Resource::Group => ("group", &kafka.group),
    };
    format!(
        "{} --add --allow-principal {}{operations} --{option} {}",
        tool(kafka, "kafka-acls.sh"),
        quoted(&principal(kafka)),
        quoted(name)
    )
}

/// The beginning of a command of Kafka's tools.
pub(super) fn tool(kafka: &config::Kafka, name: &str) -> String {
    let is_secured = option(kafka, "security.protocol")
        .is_some_and(|protocol| !protocol.eq_ignore_ascii_case("plaintext"));
    let admin = match is_secured {
        true => " --command-config admin.properties",
        false => "",
    };
    format!(
        "{name} --bootstrap-server {}{admin}",
        kafka.brokers.join(",")
    )
}

/// Who we are to Kafka, as far as the configuration says: a name that stands elsewhere is not
/// shown.
fn principal(kafka: &config::Kafka) -> String {
    let protocol = option(kafka, "security.protocol").unwrap_or_default();
    let protocol = protocol.to_ascii_lowercase();
    if protocol.starts_with("sasl") {
        return match option(kafka, "sasl.username") {
            Some(name) => format!("User:{name}"),
            None => "User:NAME".to_owned(),
        };
    }
    let has_certificate = [
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.keystore.location",
    ]
    .iter()
    .any(|option| kafka.options.contains_key(*option));
    match protocol == "ssl" && has_certificate {
        true => "User:CN=NAME".to_owned(),
        false => "User:ANONYMOUS".to_owned(),
    }
}

/// An option that anybody may see.
fn option<'a>(kafka: &'a config::Kafka, name: &str) -> Option<&'a str> {
    match kafka.options.get(name) {
        Some(Property::Plain(text)) => Some(text),
        _ => None,
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:/=".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Where the objects are, in the words of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    bucket: String,
    /// Before each key; empty or with a slash at its end.
    prefix: String,
    /// `aws`, `aws-cn` or `aws-us-gov`.
    partition: &'static str,
}

impl Place {
    /// `None`: in no bucket.
    pub(super) fn of(store: &Store) -> Option<Self> {
        let StoreLocation::S3 { bucket, prefix } = &store.location else {
            return None;
        };
        Some(Self {
            bucket: bucket.clone(),
            prefix: match prefix.trim_matches('/') {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            partition: match store.s3.region.as_str() {
                region if region.starts_with("cn-") => "aws-cn",
                region if region.starts_with("us-gov-") => "aws-us-gov",
                _ => "aws",
            },
        })
    }

    fn bucket(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    fn objects(&self, folder: &str) -> String {
        format!("{}/{}{folder}/*", self.bucket(), self.prefix)
    }

    /// A key by its id or by its own name; without one whichever the bucket takes.
    fn key(&self, key: Option<&str>, region: &str) -> String {
        match key {
            Some(key) if key.starts_with("arn:") => key.to_owned(),
            Some(key) => format!("arn:{}:kms:{region}:*:key/{key}", self.partition),
            None => format!("arn:{}:kms:{region}:*:key/*", self.partition),
        }
    }

    /// What to add to a policy, so that all of these are granted in a folder.
    pub(super) fn statements(&self, actions: &[&str], folder: &str) -> String {
        let (of_bucket, of_objects): (Vec<&str>, Vec<&str>) =
            actions.iter().partition(|action| **action == LIST);
        let lines: Vec<String> = [
            (of_bucket, self.bucket()),
            (of_objects, self.objects(folder)),
        ]
        .into_iter()
        .filter(|(actions, _)| !actions.is_empty())
        .map(|(actions, resource)| {
            json!({"Effect": "Allow", "Action": actions, "Resource": resource}).to_string()
        })
        .collect();
        lines.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_bucket(prefix: &str) -> Store {
        let mut store = crate::testing::config().store;
        store.location = StoreLocation::S3 {
            bucket: "b".to_owned(),
            prefix: prefix.to_owned(),
        };
        store
    }

    #[test]
    fn the_policy_names_the_three_folders_and_no_right_to_remove() {
        let policy = iam(&in_bucket("pre")).unwrap();
        let resources = &policy["Statement"][0]["Resource"];
        assert_eq!(resources.as_array().unwrap().len(), 3);
        assert_eq!(resources[0], "arn:aws:s3:::b/pre/parquet_files/*");
        assert!(!policy.to_string().contains("Delete"));
        assert_eq!(iam(&crate::testing::config().store), None);
    }

    #[test]
    fn a_key_of_amazons_is_allowed_where_it_encrypts() {
        let mut store = in_bucket("");
        store.s3.region = "cn-north-1".to_owned();
        store.s3.server_side_encryption = Some(Encryption::Kms(Some("k1".to_owned())));
        let policy = iam(&store).unwrap();
        assert_eq!(
            policy["Statement"][3]["Resource"],
            "arn:aws-cn:kms:cn-north-1:*:key/k1"
        );
        store.s3.endpoint = Some("http://127.0.0.1:9100".to_owned());
        assert_eq!(
            iam(&store).unwrap()["Statement"].as_array().unwrap().len(),
            3
        );
    }

    #[test]
    fn who_is_allowed_is_as_the_brokers_name_him() {
        let mut kafka = crate::testing::config().kafka;
        assert_eq!(principal(&kafka), "User:ANONYMOUS");
        let mut set = |name: &str, value: Property| {
            kafka.options.insert(name.to_owned(), value);
            principal(&kafka)
        };
        assert_eq!(set("security.protocol", "ssl".into()), "User:ANONYMOUS");
        assert_eq!(set("ssl.certificate.pem", "x".into()), "User:CN=NAME");
        assert_eq!(set("security.protocol", "SASL_SSL".into()), "User:NAME");
        assert_eq!(set("sasl.username", "o'x".into()), "User:o'x");
        let elsewhere = Property::Secret(config::Secret::new("hush"));
        assert_eq!(set("sasl.username", elsewhere), "User:NAME");
        kafka
            .options
            .insert("sasl.username".to_owned(), "o'x".into());
        let command = acl(&kafka, &["Read", "Write"], Resource::Topic);
        assert_eq!(
            command,
            "kafka-acls.sh --bootstrap-server 127.0.0.1:9 --command-config admin.properties --add \
             --allow-principal 'User:o'\\''x' --operation Read --operation Write --topic \
             project_topic"
        );
    }

    #[test]
    fn only_who_polls_may_write_the_topic() {
        let mut config = crate::testing::config();
        assert!(acls(&config)[0].contains("--operation Write"));
        config.source = None;
        assert!(!acls(&config)[0].contains("--operation Write"));
    }
}
