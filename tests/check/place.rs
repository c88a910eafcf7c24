//! A folder with a configuration, and `check` in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A variable that `servers.py` sets.
pub fn variable(name: &str) -> String {
    let name = format!("GROUNDTRACK_TEST_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name}: start it by tests/servers/servers.py"))
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    format!("{name}-{}-{:x}", std::process::id(), fastrand::u32(..))
}

/// What is written into a configuration.
pub struct Written {
    pub brokers: String,
    pub topic: String,
    pub options: Vec<(&'static str, String)>,
    pub store: String,
    pub endpoint: String,
    /// More of `[store.s3]`, and what follows.
    pub more: String,
}

impl Written {
    /// On the plain Kafka and MinIO, with a topic and folders of its own.
    pub fn plain(name: &str) -> Self {
        Self {
            brokers: variable("KAFKA"),
            ..Self::without_kafka(name)
        }
    }

    /// On the Kafka with access-control lists, by SASL and TLS.
    pub fn secure(name: &str) -> Self {
        Self {
            brokers: variable("SECURE_SASL_SSL"),
            options: vec![
                ("security.protocol", "sasl_ssl".to_owned()),
                ("sasl.mechanism", "PLAIN".to_owned()),
                ("sasl.username", "groundtrack".to_owned()),
                ("sasl.password", "groundtrack-secret".to_owned()),
                ("ssl.ca.location", variable("SECURE_CA")),
            ],
            ..Self::without_kafka(name)
        }
    }

    fn without_kafka(name: &str) -> Self {
        let topic = unique(name);
        Self {
            brokers: "127.0.0.1:9".to_owned(),
            options: Vec::new(),
            store: format!("s3://{}/{topic}", variable("BUCKET")),
            endpoint: variable("MINIO"),
            more: String::new(),
            topic,
        }
    }

    /// Another value of an option.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.options.retain(|(had, _)| *had != name);
        self.options.push((name, value.to_owned()));
        self
    }

    /// Without a store to ask.
    pub fn at_store(mut self, url: &str) -> Self {
        self.store = url.to_owned();
        self
    }
}

/// A folder with a configuration.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub topic: String,
    /// Added to the environment.
    pub environment: BTreeMap<String, String>,
}

impl Place {
    pub fn new(written: &Written) -> Self {
        let options: String = written
            .options
            .iter()
            .map(|(key, value)| format!("{key:?} = {value:?}\n"))
            .collect();
        let text = format!(
            "[kafka]\nbrokers = [{:?}]\ntopic = {topic:?}\ngroup = {topic:?}\n\
             [kafka.options]\n{options}\
             [files]\nmax_rows = 700\nmax_age = \"500ms\"\n\
             [store]\nurl = {:?}\n\
             [store.s3]\nendpoint = {:?}\npath_style = true\n{}\n\
             [web]\nlisten = \"\"\n[log]\nformat = \"json\"\n",
            written.brokers,
            written.store,
            written.endpoint,
            written.more,
            topic = written.topic,
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("groundtrack.toml"), text).unwrap();
        Self {
            folder,
            topic: written.topic.clone(),
            environment: BTreeMap::new(),
        }
    }

    pub fn config(&self) -> std::path::PathBuf {
        self.path().join("groundtrack.toml")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_groundtrack"));
        command
            .arg(name)
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .envs(&self.environment)
            .current_dir(self.path());
        command
    }

    pub fn run(&self, name: &str, arguments: &[&str]) -> Output {
        self.command(name, arguments).output().unwrap()
    }

    pub fn check(&self) -> Found {
        let output = self.run("check", &["--json"]);
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(
            output.status.code(),
            Some(if document["ok"] == true { 0 } else { 1 })
        );
        Found(document)
    }

    /// What a command of `check --policy` prints.
    pub fn policy(&self, which: &str) -> String {
        let output = self.run("check", &[which]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command as an administrator of Kafka, whose tools are on the path.
    pub fn administrate(&self, command: &str) {
        let tools = [
            ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
            ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
            ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
        ];
        let bin = self.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (name, class) in tools {
            let script = format!(
                "#!/bin/sh\nexec java -cp '{}/*' {class} \"$@\"\n",
                variable("KAFKA_HOME")
            );
            let path = bin.join(name);
            std::fs::write(&path, script).unwrap();
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                    username=\"admin\" password=\"admin-secret\";";
        let ca = std::env::var("GROUNDTRACK_TEST_SECURE_CA").unwrap_or_default();
        let properties = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config={jaas}\n\
             ssl.truststore.type=PEM\nssl.truststore.location={ca}\n"
        );
        std::fs::write(self.path().join("admin.properties"), properties).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(self.path())
            .env("PATH", path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

/// What a check said.
#[derive(Debug)]
pub struct Found(pub Value);

impl Found {
    pub fn item(&self, name: &str) -> &Value {
        let items = self.0["items"].as_array().unwrap();
        let found = items.iter().find(|item| item["item"] == name);
        found.unwrap_or_else(|| panic!("{name}: {self:#?}"))
    }

    pub fn level(&self, name: &str) -> &str {
        self.item(name)["level"].as_str().unwrap()
    }

    /// Text of an item.
    pub fn text(&self, name: &str, field: &str) -> String {
        let text = self.item(name)[field].as_str();
        text.unwrap_or_else(|| panic!("{:#}", self.item(name)))
            .to_owned()
    }

    /// The items that are not `ok`.
    pub fn not_ok(&self) -> Vec<String> {
        let items = self.0["items"].as_array().unwrap().iter();
        let names = items.filter(|item| item["level"] != "ok");
        names
            .map(|item| item["item"].as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    pub fn assert_green(&self) {
        assert!(self.not_ok().is_empty(), "{:#}", self.0);
    }
}
