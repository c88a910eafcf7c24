//! Every place that shows something, at level trace and with all of librdkafka's debug contexts,
//! is searched for every secret.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::common::{Member, PATIENCE, until};
use crate::relay::Relay;
use crate::secure::{Secure, told, variable};

const PASSWORD: &str = "correct-horse-battery";
const WRONG_PASSWORD: &str = "incorrect-horse-battery";
const WRONG_KEY: &str = "wrong-secret-access-key";

/// What was shown, and where.
struct Shown {
    secrets: Vec<(String, &'static str)>,
    places: Vec<(String, String)>,
}

impl Shown {
    fn new(user: &str) -> Self {
        let mut shown = Self {
            secrets: Vec::new(),
            places: Vec::new(),
        };
        shown.secret(PASSWORD, "the password");
        shown.secret(&base64(PASSWORD.as_bytes()), "the password in base64");
        let plain = format!("\0{user}\0{PASSWORD}");
        shown.secret(&base64(plain.as_bytes()), "the token of SASL PLAIN");
        shown.secret(WRONG_PASSWORD, "a wrong password");
        shown.secret(WRONG_KEY, "a wrong key");
        shown.secret(
            &variable("GROUNDTRACK_TEST_SCRAM_PASSPHRASE"),
            "the passphrase",
        );
        shown.secret(&variable("AWS_SECRET_ACCESS_KEY"), "the key of S3");
        let key = Path::new(&variable("GROUNDTRACK_TEST_SCRAM_CERTS")).join("client.key");
        for line in std::fs::read_to_string(key).unwrap().lines() {
            if !line.starts_with("---") && line.len() > 16 {
                shown.secret(line, "the private key");
            }
        }
        shown
    }

    fn secret(&mut self, text: &str, what: &'static str) {
        self.secrets.push((text.to_owned(), what));
    }

    fn place(&mut self, place: &str, text: impl Into<String>) {
        let text = text.into();
        assert!(!text.is_empty(), "{place} shows nothing at all");
        self.places.push((place.to_owned(), text));
    }

    fn search(&self) {
        for (place, text) in &self.places {
            for (secret, what) in &self.secrets {
                if let Some(at) = text.find(secret) {
                    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
                    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
                    panic!("{what} is in {place}: {}", &text[start..end]);
                }
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (position, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            match position <= chunk.len() {
                true => text.push(char::from(LETTERS[(bits >> shift & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

#[test]
fn base64_is_base64() {
    for (text, expected) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foob", "Zm9vYg=="),
    ] {
        assert_eq!(base64(text.as_bytes()), expected);
    }
}

/// Client, format of the log, and how the private key is given.
struct Case {
    user: &'static str,
    client: &'static str,
    format: &'static str,
    key_is_inline: bool,
}

struct Scene {
    secure: Secure,
    relay: Relay,
    case: Case,
    port: u16,
}

impl Scene {
    fn new(case: Case) -> Self {
        let secure = Secure::new(case.user, 2);
        secure.set_password(PASSWORD);
        secure.rig.producer().fill(2, 100);
        let keys = format!(
            "[base]\naws_access_key_id = {}\naws_secret_access_key = {}\n\
             [role]\nrole_arn = arn:minio:iam:::role/any\nsource_profile = base\n",
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY"),
        );
        secure.write("aws", &keys);
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            secure,
            relay: Relay::to(&variable("GROUNDTRACK_TEST_MINIO")),
            case,
            port: free.local_addr().unwrap().port(),
        }
    }

    fn text(&self) -> String {
        let certificates = variable("GROUNDTRACK_TEST_SCRAM_CERTS");
        let mut kafka = self.secure.kafka();
        if self.case.key_is_inline {
            let path = format!("\"ssl.key.location\" = \"file:{certificates}/client.key\"");
            let inline = format!("\"ssl.key.pem\" = \"file:{certificates}/client.key\"");
            assert!(kafka.contains(&path));
            kafka = kafka.replace(&path, &inline);
            kafka = kafka.replace(
                "ssl.certificate.location\" = \"",
                "ssl.certificate.pem\" = \"file:",
            );
        }
        format!(
            "{kafka}\"debug\" = \"all\"\n[files]\nmax_age = \"500ms\"\n\
             [store]\nurl = \"s3://{bucket}/{topic}\"\n\
             [store.s3]\nendpoint = {endpoint:?}\npath_style = true\nclient = {client:?}\n\
             credentials_file = \"credential:aws\"\nprofile = \"role\"\n\
             [web]\nlisten = \"127.0.0.1:{port}\"\n[status]\nsocket = {socket:?}\n\
             [log]\nlevel = \"trace\"\nformat = {format:?}\n",
            bucket = variable("GROUNDTRACK_TEST_BUCKET"),
            topic = self.secure.rig.topic,
            endpoint = variable("GROUNDTRACK_TEST_MINIO"),
            client = self.case.client,
            port = self.port,
            socket = self.secure.rig.folder.path().join("socket"),
            format = self.case.format,
        )
    }

    fn environment(&self) -> [(&str, &str); 4] {
        [
            ("CREDENTIALS_DIRECTORY", self.secure.directory()),
            ("AWS_ENDPOINT_URL_STS", &self.relay.address),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("RUST_BACKTRACE", "full"),
        ]
    }

    fn run(&self, config: &Path, faults: &str) -> Member {
        let mut environment = self.environment().to_vec();
        environment.push(("GROUNDTRACK_FAULTS", faults));
        Member::start_in(config, &[], &environment)
    }

    /// All that a command writes.
    fn command(&self, arguments: &[&str], config: &Path, more: &[(&str, &str)]) -> String {
        let done = Command::new(env!("CARGO_BIN_EXE_groundtrack"))
            .args(arguments)
            .arg("--config")
            .arg(config)
            .envs(self.environment())
            .envs(more.iter().copied())
            .output()
            .unwrap();
        told(&done)
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn wait_until_landed(&self, each: u64) {
        until("the records to land", || {
            let answer = self.get("/api/status")?;
            let status: serde_json::Value =
                serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
            let partitions = status["partitions"].as_array()?;
            let landed = partitions
                .iter()
                .filter(|one| one["next_offset"].as_u64().is_some_and(|next| next >= each));
            (landed.count() == 2).then_some(())
        });
    }
}

fn nothing_shows_a_secret(case: Case) {
    let scene = Scene::new(case);
    let mut shown = Shown::new(scene.case.user);
    let config = scene.secure.config("service", &scene.text());
    shown.place("check", scene.command(&["check"], &config, &[]));
    shown.place(
        "check --json",
        scene.command(&["check", "--json"], &config, &[]),
    );

    // An actor panics once, in the midst.
    let service = scene.run(&config, "prepare-object:before=panic@1");
    scene.wait_until_landed(100);
    for path in ["/", "/api/status", "/metrics", "/healthz", "/api/none"] {
        shown.place(path, scene.get(path).unwrap());
    }
    shown.place("status", scene.command(&["status"], &config, &[]));
    shown.place(
        "status --json",
        scene.command(&["status", "--json"], &config, &[]),
    );
    let process = |file: &str| {
        let bytes = std::fs::read(format!("/proc/{}/{file}", service.id())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    shown.place("the command line", process("cmdline"));

    // A configuration that is refused, with secrets where they do not belong.
    let refused = scene
        .text()
        .replace("\"sasl.password\"", "\"sasl.pasword\"")
        + &format!(
            "[store.s3x]\nsecret_access_key = [{WRONG_KEY:?}]\n[kafka.optons]\n\"sasl.password\" = {WRONG_PASSWORD:?}\n\
             \"ssl.key.password\" = \"file:{WRONG_PASSWORD}\"\n"
        );
    std::fs::write(&config, refused).unwrap();
    let mistakes = scene.command(&["reload"], &config, &[]);
    assert!(mistakes.contains("sasl.pasword"), "{mistakes}");
    shown.place("reload", mistakes);
    shown.place("run", scene.command(&["run"], &config, &[]));
    shown.place(
        "check of what is refused",
        scene.command(&["check"], &config, &[]),
    );

    // Secrets that are wrong.
    let password = format!("file:{}/password", scene.secure.directory());
    let keys = "credentials_file = \"credential:aws\"\nprofile = \"role\"\n";
    let wrong_keys = "access_key_id = \"AKIAWRONG\"\nsecret_access_key = \"env:WRONG_KEY\"\n";
    let right = scene.text();
    assert!(right.contains(&password) && right.contains(keys));
    let wrong = right
        .replace(&password, "env:WRONG_PASSWORD")
        .replace(keys, wrong_keys);
    std::fs::write(&config, &wrong).unwrap();
    let environment = [("WRONG_PASSWORD", WRONG_PASSWORD), ("WRONG_KEY", WRONG_KEY)];
    let unwell = scene.command(&["check"], &config, &environment);
    assert!(unwell.contains("InvalidAccessKeyId"), "{unwell}");
    shown.place("check of what is wrong", unwell);

    service.signal("-TERM");
    let mut service = service;
    assert_eq!(service.exit_code(), 0);
    let log = service.text();
    for says in [
        "panicked",
        "SASL",
        "sasl.password = (hidden)",
        "credentials found",
        "the role arn:minio:iam:::role/any, assumed from the profile [role]",
    ] {
        assert!(log.contains(says), "the log lacks {says:?}");
    }
    shown.place("the log", log);
    let given = scene.relay.secrets();
    assert!(given.len() >= 2, "STS gave nothing");
    for secret in given {
        shown.secret(&secret, "what STS gave");
    }
    shown.search();
}

#[test]
#[ignore = "needs real servers"]
fn nothing_shows_a_secret_by_rusoto_and_json() {
    nothing_shows_a_secret(Case {
        user: "scram-2",
        client: "rusoto",
        format: "json",
        key_is_inline: false,
    });
}

#[test]
#[ignore = "needs real servers"]
fn nothing_shows_a_secret_by_object_store_and_the_terminal() {
    nothing_shows_a_secret(Case {
        user: "scram-3",
        client: "object_store",
        format: "terminal",
        key_is_inline: true,
    });
}
