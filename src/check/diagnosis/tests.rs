use super::*;

/// What was really said: by librdkafka 2.12.1 to Kafka 4.1, by rusoto and reqwest (OpenSSL 3.6) to
/// MinIO and to Kafka's listeners.
#[test]
fn what_the_libraries_say_becomes_what_a_person_does() {
    let verify = "error trying to connect: error:0A000086:SSL routines:\
                  tls_post_process_server_certificate:certificate verify failed:\
                  ssl/statem/statem_clnt.c:2125:";
    let with = |cause: &str| format!("{verify} ({cause})");
    let (expired, early, named, unknown) = (
        with("certificate has expired"),
        with("certificate is not yet valid or the system clock is incorrect"),
        with("hostname mismatch"),
        with("unable to get local issuer certificate"),
    );
    for (peer, words, what, mend) in [
        (
            Peer::Kafka,
            "sasl_ssl://localhost:57893/bootstrap: SASL SCRAM-SHA-256 mechanism handshake failed: \
             Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN (after 303ms \
             in state AUTH_HANDSHAKE)",
            "but PLAIN",
            "sasl.mechanism",
        ),
        (
            Peer::Kafka,
            "sasl_ssl://localhost:57893/bootstrap: SASL authentication error: Authentication \
             failed: Invalid username or password (after 301ms in state AUTH_REQ)",
            "user or the password",
            "sasl.password",
        ),
        (
            Peer::Kafka,
            "sasl_plaintext://127.0.0.1:46741/bootstrap: SASL PLAIN mechanism handshake failed: \
             Broker: Request not valid in current SASL state: broker's supported mechanisms:  \
             (after 4ms in state AUTH_HANDSHAKE)",
            "no SASL",
            "security.protocol",
        ),
        (
            Peer::Kafka,
            "localhost:43215/bootstrap: Send failed: Broken pipe (after 0ms in state UP)",
            "ask for SASL",
            "sasl_ssl or sasl_plaintext",
        ),
        (
            Peer::Kafka,
            "ssl://localhost:57893/bootstrap: Send failed: error:80000020:system library::Broken \
             pipe: tls_retry_write_records failure (after 1ms in state UP)",
            "ask for SASL",
            "sasl_ssl or sasl_plaintext",
        ),
        (
            Peer::Kafka,
            "sasl_ssl://localhost:43215/bootstrap: SSL handshake failed: Disconnected: SSL \
             connection closed by peer: connecting to a PLAINTEXT broker listener? (after 103ms in \
             state SSL_HANDSHAKE)",
            "does not speak TLS",
            "plaintext or sasl_plaintext",
        ),
        (
            Peer::Kafka,
            "ssl://localhost:43585/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls \
             alert bad certificate: SSL alert number 42 (after 0ms in state APIVERSION_QUERY)",
            "a certificate of the client",
            "ssl.certificate.location",
        ),
        (
            Peer::Kafka,
            "ssl://localhost:43627/bootstrap: SSL handshake failed: error:0A000086:SSL routines::\
             certificate verify failed: broker certificate could not be verified, verify that \
             ssl.ca.location is correctly configured or root CA certificates are installed \
             (install ca-certificates package) (after 11ms in state SSL_HANDSHAKE)",
            "not believed",
            "ssl.ca.location",
        ),
        (Peer::Store, &expired, "has expired", "renew"),
        (Peer::Store, &early, "not yet valid", "clock"),
        (Peer::Store, &named, "another name", "name"),
        (Peer::Store, &unknown, "not believed", "store.s3.ca_file"),
        (
            Peer::Source,
            &unknown,
            "not believed",
            "update-ca-certificates",
        ),
        (
            Peer::Store,
            "error trying to connect: error:0A00010B:SSL routines:tls_validate_record_header:wrong \
             version number:ssl/record/methods/tlsany_meth.c:77:",
            "does not speak TLS",
            "http:// in store.s3.endpoint",
        ),
        (
            Peer::Source,
            "error sending request: client error (SendRequest): invalid HTTP version parsed",
            "speaks TLS",
            "https:// in source.url",
        ),
        (
            Peer::Store,
            "connection error: error:0A000412:SSL routines:ssl3_read_bytes:ssl/tls alert bad \
             certificate:ssl/record/rec_layer_s3.c:918:SSL alert number 42",
            "a certificate of the client",
            "no certificate",
        ),
        (
            Peer::Store,
            "403 SignatureDoesNotMatch The request signature we calculated does not match the \
             signature you provided. Check your key and signing method.",
            "not this secret",
            "secret access key",
        ),
        (
            Peer::Store,
            "403 InvalidAccessKeyId The Access Key Id you provided does not exist in our records.",
            "does not know the access key",
            "id",
        ),
        (
            Peer::Store,
            "403 InvalidTokenId The security token included in the request is invalid",
            "session token",
            "session token",
        ),
        (
            Peer::Store,
            "parquet_files/: s3:PutObject: no answer: 507 XMinioStorageFull Storage backend has \
             reached its minimum free drive threshold. Please delete a few objects to proceed.",
            "is full",
            "room",
        ),
        (
            Peer::Store,
            "403 RequestTimeTooSkewed The difference between the request time and the server's \
             time is too large.",
            "15 minutes",
            "clock",
        ),
    ] {
        let problem = of_words(peer, words).unwrap_or_else(|| panic!("{words}"));
        assert!(problem.answer.contains(what), "{words}: {problem:?}");
        assert!(problem.mend.contains(mend), "{words}: {problem:?}");
    }
    assert_eq!(of_words(Peer::Kafka, "Connection refused"), None);
}

fn certificate(fault: i32) -> Look {
    Look::Tls(Certificate {
        fault: Some(fault),
        subject: "CN=localhost".to_owned(),
        issuer: "CN=test authority".to_owned(),
        not_before_s: 1_577_836_800,
        not_after_s: 1_609_459_200,
        names: vec!["elsewhere.example".to_owned()],
    })
}

fn looked(look: &Look, speaks_tls: bool) -> Option<Problem> {
    of_look(Peer::Kafka, "k:9093", look, speaks_tls, 1_700_000_000)
}

#[test]
fn a_certificate_is_told_with_its_dates_and_names() {
    for (fault, what, mend) in [
        (
            10,
            "expired at 2021-01-01 00:00 UTC; it is 2023-11-14",
            "renew",
        ),
        (9, "valid from 2020-01-01 00:00 UTC", "clock"),
        (62, "for elsewhere.example", "advertised.listeners"),
        (64, "for elsewhere.example", "advertised.listeners"),
        (20, "issued by CN=test authority", "ssl.ca.location"),
        (18, "issued by CN=test authority", "ssl.ca.location"),
        (23, "X509_V_ERR 23", "valid"),
    ] {
        let problem = looked(&certificate(fault), true).unwrap();
        assert!(problem.answer.contains(what), "{problem:?}");
        assert!(problem.mend.contains(mend), "{problem:?}");
    }
}

#[test]
fn tls_where_none_is_spoken_is_told_both_ways() {
    let plain = looked(&Look::NotTls, true).unwrap();
    assert!(
        plain.mend.contains("plaintext or sasl_plaintext"),
        "{plain:?}"
    );
    let tls = looked(&certificate(20), false).unwrap();
    assert!(tls.mend.contains("ssl or sasl_ssl"), "{tls:?}");
    assert_eq!(looked(&Look::NotTls, false), None);
    assert_eq!(looked(&Look::Away("refused".to_owned()), true), None);
}
