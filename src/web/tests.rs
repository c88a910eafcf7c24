//! The endpoints through the app, and the group over a real port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, StatusCode};
use actix_web::test::{self, TestRequest};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::logging::LevelSwitch;
use crate::status::{PartitionState, Status};
use crate::supervisor::{ExitReason, Group, GroupName, Plan, supervise};

/// No event takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn answer(status: &Arc<Status>, request: TestRequest) -> ServiceResponse {
    answer_by(crate::testing::config(), status, request).await
}

pub(super) async fn answer_by(
    config: crate::config::Config,
    status: &Arc<Status>,
    request: TestRequest,
) -> ServiceResponse {
    let settings = config.web.clone().unwrap();
    let ends = CancellationToken::new();
    let page = Page::new(Arc::new(config), settings, status.clone(), ends);
    let app = App::new()
        .app_data(Data::new(page))
        .wrap(from_fn(guard::guard))
        .configure(routes);
    let app = test::init_service(app).await;
    let answer = test::call_service(&app, request.to_request()).await;
    answer.map_into_boxed_body()
}

pub(super) fn get(path: &str) -> TestRequest {
    TestRequest::get()
        .uri(path)
        .insert_header(("host", "localhost:9000"))
}

pub(super) fn header(answer: &ServiceResponse, name: &str) -> String {
    answer
        .headers()
        .get(name)
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

async fn body_of(answer: ServiceResponse) -> serde_json::Value {
    serde_json::from_slice(&test::read_body(answer).await).unwrap()
}

#[actix::test]
async fn healthz_answers_503_and_why_while_a_partition_is_stopped() {
    let status = Status::new();
    let well = answer(&status, get("/healthz")).await;
    assert_eq!(well.status(), StatusCode::OK);
    let cause = PartitionState::Stopped("gap: 3 to 7 is gone".to_owned());
    *status.partition("t", 0).state.lock().unwrap() = cause;
    let ill = answer(&status, get("/healthz")).await;
    assert_eq!(ill.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = body_of(ill).await;
    assert_eq!(body["health"], "unhealthy");
    assert_eq!(
        body["why"][0],
        "partition 0 of t is stopped: gap: 3 to 7 is gone"
    );
}

#[actix::test]
async fn healthz_answers_200_while_only_the_page_or_the_source_is_in_trouble() {
    let status = Status::new();
    status.trouble("source", "it is frozen", false);
    let degraded = answer(&status, get("/healthz")).await;
    assert_eq!(degraded.status(), StatusCode::OK);
    assert_eq!(body_of(degraded).await["health"], "degraded");
}

#[actix::test]
async fn the_status_names_groups_actors_partitions_and_troubles() {
    let status = Status::new();
    status.group("landing").begin(3);
    status.group("landing").pulse("subscriber").waits("records");
    let partition = status.partition("t", 1);
    partition
        .next_offset
        .store(4, std::sync::atomic::Ordering::Relaxed);
    status.trouble("source", "it is frozen", false);
    let body = body_of(answer(&status, get("/api/status")).await).await;
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(body["groups"][0]["name"], "landing");
    assert_eq!(body["groups"][0]["generation"], 3);
    assert_eq!(body["groups"][0]["actors"][0]["waits_for"], "records");
    assert_eq!(body["partitions"][0]["next_offset"], 4);
    assert_eq!(body["partitions"][0]["state"], "not_ours");
    assert_eq!(body["partitions"][0]["log_end"], serde_json::Value::Null);
    assert_eq!(body["troubles"][0]["text"], "it is frozen");
}

#[actix::test]
async fn the_metrics_have_their_content_type() {
    let answer = answer(&Status::new(), get("/metrics")).await;
    let kind = header(&answer, "content-type");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(
        test::read_body(answer)
            .await
            .starts_with(b"# HELP groundtrack_")
    );
}

#[actix::test]
async fn every_answer_carries_the_security_headers() {
    let elsewhere = TestRequest::get()
        .uri("/healthz")
        .insert_header(("host", "evil.example"));
    for request in [
        get("/healthz"),
        get("/metrics"),
        get("/nowhere"),
        get("/healthz").method(Method::POST),
        elsewhere,
    ] {
        let answer = answer(&Status::new(), request).await;
        let header = |name: &str| header(&answer, name);
        assert!(header("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
    }
}

#[actix::test]
async fn nothing_but_reading_is_answered() {
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ] {
        let answer = answer(&Status::new(), get("/api/status").method(method)).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(header(&answer, "allow"), "GET, HEAD");
    }
}

#[actix::test]
async fn a_name_that_is_not_ours_is_refused() {
    for host in [
        "evil.example",
        "evil.example:9000",
        "localhost.evil.example",
    ] {
        let request = TestRequest::get()
            .uri("/api/status")
            .insert_header(("host", host));
        let answer = answer(&Status::new(), request).await;
        assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
    let nameless = answer(&Status::new(), TestRequest::get().uri("/api/status")).await;
    assert_eq!(nameless.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[actix::test]
async fn an_unknown_path_is_404_in_json() {
    let answer = answer(&Status::new(), get("/../etc/passwd")).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(body_of(answer).await["error"].is_string());
}

/// Sends this over a connection of its own and returns all that comes back.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    exchange(address, &request)
}

/// A supervisor with a landing that says when it starts, and the page.
struct Service {
    status: Arc<Status>,
    shutdown: CancellationToken,
    landing: mpsc::Receiver<u64>,
    thread: std::thread::JoinHandle<ExitReason>,
}

fn service(listen: SocketAddr) -> Service {
    let mut config = crate::testing::config();
    config.web = Some(crate::config::Web {
        listen,
        hosts: Vec::new(),
    });
    config.supervision.backoff = Duration::from_millis(5);
    config.supervision.backoff_max = Duration::from_millis(20);
    let (say, landing) = mpsc::channel();
    let fake_landing = move |generation: Generation| {
        let say = say.clone();
        async move {
            let _ = say.send(generation.number);
            generation.drain.cancelled().await;
            Ok(End::Drained)
        }
    };
    let (status, shutdown) = (Status::new(), CancellationToken::new());
    let plan = Plan {
        groups: vec![
            Group::new(GroupName::Landing, fake_landing),
            Group::new(GroupName::Web, run),
        ],
        level: LevelSwitch::new(config.log.level),
        config,
        load: Box::new(|| Err(Vec::new())),
        status: status.clone(),
        log: slog::Logger::root(slog::Discard, slog::o!()),
        notifier: crate::notify::Notifier::silent(),
        signals: tokio::sync::mpsc::channel(1).1,
        reloads: crate::supervisor::reload::reloads().1,
        shutdown: shutdown.clone(),
        until_caught_up: false,
        gone_within: PATIENCE,
    };
    Service {
        status,
        shutdown,
        landing,
        thread: std::thread::spawn(move || supervise(plan)),
    }
}

impl Service {
    fn wait_until<T>(&self, what: &str, look: impl Fn(&Status) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(found) = look(&self.status) {
                return found;
            }
            std::thread::yield_now();
        }
        panic!("never: {what}");
    }

    fn ends(self) {
        self.shutdown.cancel();
        assert_eq!(self.thread.join().unwrap(), ExitReason::Drained);
        assert_eq!(self.status.web_address(), None);
    }
}

#[test]
fn head_answers_as_get_does_without_the_body() {
    let service = service(([127, 0, 0, 1], 0).into());
    let address = service.wait_until("the page listens", Status::web_address);
    for path in ["/healthz", "/nowhere"] {
        let got = ask(address, "GET", path);
        let (head_of_get, body) = got.split_once("\r\n\r\n").unwrap();
        assert!(!body.is_empty());
        let got = ask(address, "HEAD", path);
        let (head_of_head, nothing) = got.split_once("\r\n\r\n").unwrap();
        assert_eq!(nothing, "");
        let stable = |head: &str| {
            let mut lines: Vec<String> = head
                .lines()
                .filter(|line| !line.starts_with("date:"))
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(stable(head_of_get), stable(head_of_head));
    }
    service.ends();
}

#[test]
fn a_check_without_host_is_answered_in_http_1_0_only() {
    let service = service(([127, 0, 0, 1], 0).into());
    let address = service.wait_until("the page listens", Status::web_address);
    let old = exchange(address, "GET /healthz HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
    let elsewhere =
        "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let elsewhere = exchange(address, elsewhere);
    assert!(elsewhere.starts_with("HTTP/1.1 421"), "{elsewhere}");
    service.ends();
}

#[test]
fn a_taken_port_never_stops_landing_and_is_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let service = service(address);
    service.wait_until("the page has failed thrice", |status| {
        let restarts = &status.group("web").restarts;
        (restarts.load(std::sync::atomic::Ordering::Relaxed) >= 3).then_some(())
    });
    let troubles = service.status.troubles();
    let (_, trouble) = troubles
        .iter()
        .find(|(place, _)| place == "group web")
        .unwrap();
    assert!(
        trouble.text.contains(&address.to_string()),
        "{}",
        trouble.text
    );
    assert!(!trouble.unhealthy);
    assert_eq!(service.landing.recv_timeout(PATIENCE), Ok(1));

    drop(taken);
    assert_eq!(
        service.wait_until("the page listens", Status::web_address),
        address
    );
    assert!(service.landing.try_recv().is_err());
    service.ends();
}

#[actix::test]
async fn the_overview_is_a_page_without_script_and_says_the_topic() {
    let answer = answer(&Status::new(), get("/")).await;
    assert_eq!(header(&answer, "content-type"), "text/html; charset=utf-8");
    let body = String::from_utf8(test::read_body(answer).await.to_vec()).unwrap();
    assert!(body.starts_with("<!DOCTYPE html>") && body.contains("project_topic"));
    assert!(
        !body.contains("style=") && !body.contains("onclick"),
        "the policy forbids both"
    );
}

#[actix::test]
async fn the_overview_has_a_json_twin() {
    let body = body_of(answer(&Status::new(), get("/api/overview")).await).await;
    assert_eq!(body["topic"], "project_topic");
    assert_eq!(body["status"]["health"], "healthy");
}

#[actix::test]
async fn what_a_page_refers_to_is_there_and_may_be_kept() {
    let page = answer(&Status::new(), get("/")).await;
    let body = String::from_utf8(test::read_body(page).await.to_vec()).unwrap();
    let mut files = 0;
    for part in body.split("\"/assets/").skip(1) {
        let name = part.split('"').next().unwrap();
        let asset = answer(&Status::new(), get(&format!("/assets/{name}"))).await;
        assert_eq!(asset.status(), StatusCode::OK, "{name}");
        let kept = header(&asset, "cache-control");
        assert_eq!(kept, "public, max-age=31536000, immutable");
        files += 1;
    }
    assert_eq!(files, 2);
}

/// What a browser has to load for a page, compressed.
#[test]
fn a_page_fits_into_60_kilobytes() {
    use std::io::Write as _;
    let overview = [
        assets::LAND,
        include_str!("assets/page.css"),
        include_str!("assets/page.js"),
    ];
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for part in overview {
        packed.write_all(part.as_bytes()).unwrap();
    }
    let bytes = packed.finish().unwrap().len();
    assert!(bytes < 60 * 1024, "{bytes}");
}

#[test]
fn an_open_page_is_told_what_changes_and_ends_with_the_group() {
    let service = service("127.0.0.1:0".parse().unwrap());
    let address = service.wait_until("the page listens", Status::web_address);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /live HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut heard = String::new();
    while heard.matches("data: {").count() < 2 {
        let mut some = [0; 4096];
        let length = stream.read(&mut some).unwrap();
        assert!(length > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&some[..length]));
    }
    assert!(heard.contains("content-type: text/event-stream"), "{heard}");
    assert!(heard.contains(r#""lag":"0""#), "{heard}");
    // The end comes as the end of the answer, not as a time-out.
    service.ends();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
}
