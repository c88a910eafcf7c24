//! What is wrong with TLS and SASL, at listeners of a real Kafka that have one thing wrong each, asked
//! by Kafka's client, by both S3 clients and by the source's.

use super::place::{Place, Written, variable};

fn at(name: &str) -> String {
    variable(&format!("SECURE_{name}"))
}

/// What the item of the brokers says, and how to mend it.
fn brokers(written: Written) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}", folder.path().display());
    let found = Place::new(&written.at_store(&store)).check();
    assert_eq!(found.level("brokers"), "fail", "{:#}", found.0);
    (
        found.text("brokers", "answer"),
        found.text("brokers", "mend"),
    )
}

#[track_caller]
fn assert_says((answer, mend): (String, String), what: &str, how: &str) {
    assert!(answer.contains(what), "{answer}");
    assert!(mend.contains(how), "{mend}");
}

/// At a listener of Kafka's: the part of an answer that tells what is wrong.
const WRONG: [(&str, &str); 4] = [
    ("EXPIRED", "expired at 2021-01-01"),
    ("NOT_YET_VALID", "valid from 2098-01-01"),
    ("OTHER_NAME", "certificate is for elsewhere.example"),
    ("OTHER_AUTHORITY", "issued by CN=another authority"),
];

#[test]
#[ignore = "needs kafka-secure and minio: tests/servers/servers.py run"]
fn what_is_wrong_with_a_brokers_certificate_is_told() {
    let tls = || Written::secure("tls").with("security.protocol", "ssl");
    for (listener, what) in WRONG {
        let written = Written {
            brokers: at(listener),
            ..tls()
        };
        assert_says(brokers(written), what, "");
    }
    let system = Written {
        options: vec![("security.protocol", "ssl".to_owned())],
        ..Written::secure("tls")
    };
    assert_says(
        brokers(system),
        "groundtrack test authority",
        "ssl.ca.location",
    );
    let mutual = Written {
        brokers: at("MUTUAL"),
        ..tls()
    };
    assert_says(
        brokers(mutual),
        "a certificate of the client",
        "ssl.key.location",
    );
}

#[test]
#[ignore = "needs kafka-secure and minio: tests/servers/servers.py run"]
fn what_is_wrong_with_the_protocol_or_the_user_is_told() {
    let secure = || Written::secure("sasl");
    let plain = |written: Written| Written {
        brokers: at("SASL_PLAINTEXT"),
        ..written
    };
    let as_plain = "plaintext or sasl_plaintext";
    for (written, what, how) in [
        (
            secure().with("security.protocol", "sasl_plaintext"),
            "speaks TLS",
            "ssl or sasl_ssl",
        ),
        (
            secure().with("security.protocol", "plaintext"),
            "speaks TLS",
            "ssl or sasl_ssl",
        ),
        (plain(secure()), "does not speak TLS", as_plain),
        (
            secure().with("security.protocol", "ssl"),
            "ask for SASL",
            "sasl.mechanism",
        ),
        (
            plain(secure().with("security.protocol", "plaintext")),
            "ask for SASL",
            "sasl.mechanism",
        ),
        (
            secure().with("sasl.mechanism", "SCRAM-SHA-512"),
            "but PLAIN",
            "sasl.mechanism",
        ),
        (
            secure().with("sasl.password", "wrong"),
            "the user or the password",
            "sasl.password",
        ),
        (
            secure().with("sasl.username", "nobody"),
            "the user or the password",
            "sasl.username",
        ),
    ] {
        assert_says(brokers(written), what, how);
    }
}

#[test]
#[ignore = "needs kafka-secure and minio: tests/servers/servers.py run"]
fn what_is_wrong_with_the_certificate_of_store_and_source_is_told() {
    let ca = variable("SECURE_CA");
    let asked = |endpoint: &str, more: &str| {
        let written = Written {
            brokers: "127.0.0.1:9".to_owned(),
            endpoint: endpoint.to_owned(),
            more: format!("{more}\n[source]\nurl = {endpoint:?}"),
            ..Written::secure("https")
        };
        Place::new(&written).check()
    };
    for client in ["rusoto", "object_store"] {
        for (listener, what) in WRONG {
            let more = format!("client = {client:?}\nca_file = {ca:?}");
            let found = asked(&format!("https://{}", at(listener)), &more);
            let answer = found.text("bucket", "answer");
            assert!(answer.contains(what), "{client}: {answer}");
        }
    }
    let found = asked(&format!("https://{}", at("EXPIRED")), "");
    assert!(found.text("bucket", "mend").contains("store.s3.ca_file"));
    assert!(
        found
            .text("source", "mend")
            .contains("update-ca-certificates")
    );
    let found = asked(&format!("http://{}", at("EXPIRED")), "");
    assert!(
        found
            .text("bucket", "mend")
            .contains("https:// in store.s3.endpoint")
    );
    assert!(
        found
            .text("source", "mend")
            .contains("https:// in source.url")
    );
    let found = asked(&variable("MINIO").replace("http://", "https://"), "");
    assert!(
        found
            .text("bucket", "mend")
            .contains("http:// in store.s3.endpoint")
    );
    assert!(
        found
            .text("source", "mend")
            .contains("http:// in source.url")
    );
}

#[test]
#[ignore = "needs kafka-secure and minio: tests/servers/servers.py run"]
fn credentials_that_the_store_does_not_take_are_told() {
    for (name, what) in [
        ("AWS_ACCESS_KEY_ID", "does not know the access key"),
        ("AWS_SECRET_ACCESS_KEY", "but not this secret"),
        ("AWS_SESSION_TOKEN", "session token"),
    ] {
        let mut place = Place::new(&Written {
            brokers: "127.0.0.1:9".to_owned(),
            ..Written::secure("keys")
        });
        let wrong = "wrong-and-never-shown";
        place.environment.insert(name.to_owned(), wrong.to_owned());
        let found = place.check();
        let answer = found.text("bucket", "answer");
        assert!(answer.contains(what), "{answer}");
        assert!(!found.0.to_string().contains(wrong) || name == "AWS_ACCESS_KEY_ID");
    }
}
