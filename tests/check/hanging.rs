//! Servers that take connections and never answer.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::place::{Place, Written};

/// A whole check, its start and its end included.
const WHOLE_MAX: Duration = Duration::from_secs(10);

/// The system takes connections for it, and nobody reads them.
fn black_hole() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn where_everything_hangs_a_check_ends_within_ten_seconds_and_says_what_it_waited_for() {
    for protocol in ["plaintext", "ssl"] {
        let (_source, source) = black_hole();
        let (_broker, broker) = black_hole();
        let (_store, store) = black_hole();
        let written = Written {
            brokers: broker.clone(),
            topic: "t".to_owned(),
            options: vec![("security.protocol", protocol.to_owned())],
            store: "s3://bucket".to_owned(),
            endpoint: format!("http://{store}"),
            more: format!(
                "[source]\nurl = \"http://{source}/\"\ninterval = \"30s\"\ntimeout = \"29s\""
            ),
        };
        let mut place = Place::new(&written);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            place
                .environment
                .insert(name.to_owned(), "nobody".to_owned());
        }
        let since = Instant::now();
        let found = place.check();
        let took = since.elapsed();
        assert!(took < WHOLE_MAX, "{took:?}");
        assert_eq!(found.0["ok"], false);
        for (name, says) in [
            ("source", "no answer"),
            ("brokers", broker.as_str()),
            ("bucket", store.as_str()),
        ] {
            let answer = found.text(name, "answer");
            assert!(answer.contains(says), "{name}: {answer}");
            assert!(!found.text(name, "mend").is_empty());
        }
    }
}
