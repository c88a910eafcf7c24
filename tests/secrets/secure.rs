//! A topic whose Kafka is reached by a password and a certificate, and what proves who we are.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::common::Rig;

/// A variable of `tests/servers/servers.py`.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: start it by tests/servers/servers.py"))
}

/// A topic, a user, and a folder of credentials as systemd gives one.
pub struct Secure {
    pub rig: Rig,
    pub user: &'static str,
    pub credentials: tempfile::TempDir,
}

impl Secure {
    /// No other test may have the same user: each sets its password.
    pub fn new(user: &'static str, partitions: i32) -> Self {
        let secure = Self {
            rig: Rig::on(variable("GROUNDTRACK_TEST_SECURE"), user, partitions),
            user,
            credentials: tempfile::tempdir().unwrap(),
        };
        let passphrase = variable("GROUNDTRACK_TEST_SCRAM_PASSPHRASE");
        secure.write(
            "groundtrack_kafka_key_passphrase",
            &format!("{passphrase}\n"),
        );
        secure
    }

    /// Writes a credential; returns where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.credentials.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn directory(&self) -> &str {
        self.credentials.path().to_str().unwrap()
    }

    /// In the broker, and in the file that the configuration names.
    pub fn set_password(&self, password: &str) {
        self.tell_broker(password);
        self.write("password", &format!("{password}\n"));
    }

    /// In the broker alone.
    pub fn tell_broker(&self, password: &str) {
        let jars = format!("{}/*", variable("GROUNDTRACK_TEST_KAFKA_HOME"));
        let config = format!("SCRAM-SHA-512=[iterations=4096,password={password}]");
        let done = Command::new("java")
            .args(["-cp", &jars, "kafka.admin.ConfigCommand", "--alter"])
            .args(["--bootstrap-server", &variable("GROUNDTRACK_TEST_SECURE")])
            .args(["--entity-type", "users", "--entity-name", self.user])
            .args(["--add-config", &config])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", told(&done));
    }

    /// `[kafka]` and `[kafka.options]` that reach the topic.
    pub fn kafka(&self) -> String {
        let certificates = variable("GROUNDTRACK_TEST_SCRAM_CERTS");
        format!(
            "[kafka]\nbrokers = [{:?}]\ntopic = {topic:?}\ngroup = {topic:?}\ninstance_id = \"\"\n\
             [kafka.options]\n\"session.timeout.ms\" = 6000\n\
             \"security.protocol\" = \"sasl_ssl\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
             \"sasl.username\" = {user:?}\n\"sasl.password\" = \"file:{}/password\"\n\
             \"ssl.ca.location\" = \"{certificates}/ca.pem\"\n\
             \"ssl.certificate.location\" = \"{certificates}/client.pem\"\n\
             \"ssl.key.location\" = \"file:{certificates}/client.key\"\n\
             \"ssl.key.password\" = \"credential:kafka_key_passphrase\"\n",
            variable("GROUNDTRACK_TEST_SCRAM"),
            self.directory(),
            topic = self.rig.topic,
            user = self.user,
        )
    }

    /// Writes a configuration.
    pub fn config(&self, name: &str, text: &str) -> PathBuf {
        let path = self.rig.folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// All that a command wrote.
pub fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
