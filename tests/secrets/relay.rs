//! Stands between the service and STS, and remembers what STS gave out.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::common::PATIENCE;

pub struct Relay {
    pub address: String,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// Relays to `http://host:port`.
    pub fn to(server: &str) -> Self {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::<Mutex<Vec<String>>>::default();
        let kept = answers.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let answer = relay(client, &server);
                kept.lock().unwrap().push(answer);
            }
        });
        Self { address, answers }
    }

    /// The secret keys and session tokens that were given out.
    pub fn secrets(&self) -> Vec<String> {
        let answers = self.answers.lock().unwrap();
        let elements = ["SecretAccessKey", "SessionToken"];
        let found = answers.iter().flat_map(|answer| {
            elements.iter().filter_map(|element| {
                let (_, rest) = answer.split_once(&format!("<{element}>"))?;
                Some(rest.split_once('<')?.0.to_owned())
            })
        });
        found.collect()
    }
}

/// One request, which is short, and its answer.
fn relay(mut client: TcpStream, server: &str) -> String {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = Vec::new();
    while !is_whole(&request) {
        let mut some = [0; 4096];
        let count = client.read(&mut some).unwrap();
        assert!(count > 0, "a request that was cut");
        request.extend_from_slice(&some[..count]);
    }
    let mut server = TcpStream::connect(server).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server.write_all(&request).unwrap();
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        let mut some = [0; 4096];
        let count = server.read(&mut some).unwrap();
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&some[..count]);
    }
    client.write_all(&answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_whole(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().unwrap())
    });
    body.len() >= length.unwrap_or(0)
}
