//! A simulator of the Open Notify API: the same answers, the same oddities, and its failures on
//! request.
//!
//! The position is that of a simulated, plausible orbit, computed from an old element set of the
//! station: **not** where the station is now.
//!
//! `GET /iss-now.json` and `GET /astros.json` answer as the real API does. `POST /fail/NAME` (see
//! [`Failure::NAMES`]) makes the former fail from then on, `POST /fail/none` mends it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::dev::ServerHandle;
use actix_web::http::{StatusCode, header};
use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use super::orbit::Orbit;
use crate::status::now_ms;

/// The real server recomputes so often; between two times it answers with the same position.
const RECOMPUTE_MS: i64 = 500;

/// How long a hung answer takes: longer than any time-out that a source may have.
const HANG: Duration = Duration::from_secs(3600);

/// Between the bytes of a cut answer and the cut: long enough for them to be sent.
const CUT_DELAY: Duration = Duration::from_millis(50);

/// Size of an answer that is too large: above any limit a poller would have, small enough to send
/// at once.
const TOO_LARGE_BYTES: usize = 8 * 1024 * 1024;

/// A way in which the API fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// 503 with a JSON body whose message is `error`.
    Error503,
    /// 500 with an HTML page.
    Html500,
    /// 200 with an HTML page, as a captive portal or a proxy answers.
    Html200,
    /// 200 with a JSON body whose message is `error`.
    NotSuccess,
    /// 200 with the same body for ever.
    Frozen,
    /// No answer at all.
    Timeout,
    /// A body that ends before its announced length.
    Cut,
    /// A body of several mebibytes.
    TooLarge,
    /// A redirect to itself.
    RedirectLoop,
    /// 200 with the first half of the JSON, announced as if it were whole.
    HalfJson,
}

impl Failure {
    /// Their names in `POST /fail/NAME` and in `demo --fail`.
    pub const NAMES: [(&'static str, Failure); 10] = [
        ("error503", Failure::Error503),
        ("html500", Failure::Html500),
        ("html200", Failure::Html200),
        ("not-success", Failure::NotSuccess),
        ("frozen", Failure::Frozen),
        ("timeout", Failure::Timeout),
        ("cut", Failure::Cut),
        ("too-large", Failure::TooLarge),
        ("redirect-loop", Failure::RedirectLoop),
        ("half-json", Failure::HalfJson),
    ];

    /// Its name in [`Failure::NAMES`].
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, failure)| *failure == self);
        named.map_or("unnamed", |(name, _)| name)
    }
}

impl FromStr for Failure {
    type Err = UnknownFailure;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, failure)| *failure)
            .ok_or(UnknownFailure)
    }
}

/// No failure has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no failure has this name; there are: {}", Failure::NAMES.map(|(name, _)| name).join(", "))]
pub struct UnknownFailure;

/// A running simulator; dropping it ends it.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    world: Arc<World>,
    server: ServerHandle,
    /// Taken when it is joined.
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What the handlers share.
#[derive(Debug)]
struct World {
    orbit: Orbit,
    /// The failure asked for, and the body to be served while it is [`Failure::Frozen`].
    failure: Mutex<(Option<Failure>, String)>,
}

impl Simulator {
    /// Starts it on a free loopback port; it listens when this returns.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub fn start(log: &slog::Logger) -> io::Result<Self> {
        let world = Arc::new(World {
            orbit: Orbit::of_the_station().map_err(io::Error::other)?,
            failure: Mutex::new((None, String::new())),
        });
        let shared = web::Data::from(world.clone());
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("open-notify".to_owned())
            .spawn(move || {
                actix::System::new().block_on(async move {
                    let server = HttpServer::new(move || {
                        App::new()
                            .app_data(shared.clone())
                            .route("/iss-now.json", web::get().to(iss_now))
                            .route("/astros.json", web::get().to(astros))
                            .route("/fail/{name}", web::post().to(fail))
                    })
                    .workers(1)
                    .disable_signals()
                    .bind((Ipv4Addr::LOCALHOST, 0))?;
                    let addresses = server.addrs();
                    let server = server.run();
                    let _ = ready.send((addresses, server.handle()));
                    server.await
                })
            })?;
        let Ok((addresses, server)) = started.recv() else {
            return Err(match thread.join() {
                Ok(Err(error)) => error,
                _ => io::Error::other("the simulator's thread ended"),
            });
        };
        let address = *addresses
            .first()
            .ok_or_else(|| io::Error::other("the simulator listens nowhere"))?;
        slog::info!(log, "open notify simulator listens; its orbit is plausible, not the real one";
            "address" => %address);
        Ok(Self {
            address,
            world,
            server,
            thread: Some(thread),
        })
    }

    /// The address of the position.
    pub fn url(&self) -> String {
        format!("http://{}/iss-now.json", self.address)
    }

    /// Fails in this way from now on; `None`: no more.
    pub fn fail(&self, failure: impl Into<Option<Failure>>) {
        self.world.fail(failure.into());
    }

    /// Ends it and waits until its port is free.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // The command is sent by the call itself; its future only tells of the end, for which the
        // thread is joined.
        drop(self.server.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.end();
    }
}

impl World {
    fn fail(&self, failure: Option<Failure>) {
        let body = self.body(now_ms());
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = (failure, body);
    }

    /// The answer at this time; keys in any order.
    fn body(&self, now_ms: i64) -> String {
        let computed_at_ms = now_ms.div_euclid(RECOMPUTE_MS) * RECOMPUTE_MS;
        let position = self.orbit.position(computed_at_ms);
        render(
            computed_at_ms.div_euclid(1000),
            position.latitude_deg,
            position.longitude_deg,
            fastrand::usize(..ORDERS),
        )
    }
}

/// How many orders of the keys there are: six outside times two inside.
const ORDERS: usize = 12;

/// The body as the real server writes it: coordinates as text of four decimals, a blank after
/// comma and colon, no line end. `order` is below [`ORDERS`].
fn render(timestamp_s: i64, latitude_deg: f64, longitude_deg: f64, order: usize) -> String {
    let latitude = format!("\"latitude\": \"{latitude_deg:.4}\"");
    let longitude = format!("\"longitude\": \"{longitude_deg:.4}\"");
    let position = if order.is_multiple_of(2) {
        format!("\"iss_position\": {{{latitude}, {longitude}}}")
    } else {
        format!("\"iss_position\": {{{longitude}, {latitude}}}")
    };
    let mut rest = vec![
        "\"message\": \"success\"".to_owned(),
        format!("\"timestamp\": {timestamp_s}"),
        position,
    ];
    let outer = order / 2;
    let first = rest.remove(outer % 3);
    let second = rest.remove(outer / 3 % 2);
    format!("{{{first}, {second}, {}}}", rest[0])
}

async fn iss_now(world: web::Data<World>) -> HttpResponse {
    let (failure, frozen) = world
        .failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let Some(failure) = failure else {
        return json(StatusCode::OK, world.body(now_ms()));
    };
    match failure {
        Failure::Error503 => json(
            StatusCode::SERVICE_UNAVAILABLE,
            "{\"message\": \"error\", \"reason\": \"Service temporarily unavailable\"}",
        ),
        Failure::Html500 => html(StatusCode::INTERNAL_SERVER_ERROR),
        Failure::Html200 => html(StatusCode::OK),
        Failure::NotSuccess => json(
            StatusCode::OK,
            "{\"message\": \"error\", \"reason\": \"Service temporarily unavailable\"}",
        ),
        Failure::Frozen => json(StatusCode::OK, frozen),
        Failure::Timeout => {
            tokio::time::sleep(HANG).await;
            HttpResponse::RequestTimeout().finish()
        }
        Failure::Cut => {
            let body = Bytes::from(world.body(now_ms()));
            let announced = body.len() as u64;
            let half = body.slice(..body.len() / 2);
            HttpResponse::Ok()
                .content_type("application/json")
                .body(SizedStream::new(announced, cut_after(half)))
        }
        Failure::TooLarge => json(StatusCode::OK, " ".repeat(TOO_LARGE_BYTES)),
        Failure::RedirectLoop => HttpResponse::Found()
            .insert_header((header::LOCATION, "/iss-now.json"))
            .finish(),
        Failure::HalfJson => {
            let body = world.body(now_ms());
            json(StatusCode::OK, body[..body.len() / 2].to_owned())
        }
    }
}

/// These bytes, and then the connection breaks; not before they were sent, or the whole answer
/// would be missing.
fn cut_after(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter([Ok(bytes)]).chain(stream::once(async {
        tokio::time::sleep(CUT_DELAY).await;
        Err(io::Error::other("cut"))
    }))
}

async fn astros() -> HttpResponse {
    json(
        StatusCode::OK,
        "{\"message\": \"success\", \"number\": 2, \"people\": [\
         {\"craft\": \"ISS\", \"name\": \"Simulated One\"}, \
         {\"craft\": \"ISS\", \"name\": \"Simulated Two\"}]}",
    )
}

async fn fail(world: web::Data<World>, name: web::Path<String>) -> HttpResponse {
    let failure = if name.as_str() == "none" {
        None
    } else {
        match name.parse() {
            Ok(failure) => Some(failure),
            Err(UnknownFailure) => {
                return HttpResponse::NotFound().body(format!("{UnknownFailure}, none\n"));
            }
        }
    };
    world.fail(failure);
    HttpResponse::NoContent().finish()
}

fn json(status: StatusCode, body: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("application/json")
        .body(body.into())
}

fn html(status: StatusCode) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html")
        .body("<html><body><h1>Something went wrong</h1></body></html>")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_order_of_the_keys_occurs_and_says_the_same() {
        let bodies: BTreeSet<String> = (0..ORDERS)
            .map(|order| render(1_735_520_478, -8.7063, 137.6462, order))
            .collect();
        assert_eq!(bodies.len(), ORDERS);
        let expected = serde_json::json!({
            "message": "success",
            "timestamp": 1_735_520_478,
            "iss_position": {"latitude": "-8.7063", "longitude": "137.6462"},
        });
        for body in &bodies {
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(value, expected);
            assert!(!body.ends_with('\n'));
        }
        assert!(bodies.contains(
            "{\"message\": \"success\", \"timestamp\": 1735520478, \
             \"iss_position\": {\"latitude\": \"-8.7063\", \"longitude\": \"137.6462\"}}"
        ));
    }

    #[test]
    fn two_positions_share_one_timestamp() {
        let world = World {
            orbit: Orbit::of_the_station().unwrap(),
            failure: Mutex::default(),
        };
        let values: Vec<serde_json::Value> =
            [1_761_700_000_000, 1_761_700_000_499, 1_761_700_000_500]
                .iter()
                .map(|now_ms| serde_json::from_str(&world.body(*now_ms)).unwrap())
                .collect();
        assert_eq!(values[0], values[1]);
        assert_eq!(values[1]["timestamp"], values[2]["timestamp"]);
        assert_ne!(values[1]["iss_position"], values[2]["iss_position"]);
    }

    #[tokio::test]
    async fn it_answers_over_http_and_fails_when_asked_to() {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let simulator = Simulator::start(&log).unwrap();
        let url = simulator.url();
        let ask = || async { reqwest::get(&url).await.unwrap() };

        let good = ask().await;
        assert_eq!(good.status(), 200);
        let value: serde_json::Value =
            serde_json::from_slice(&good.bytes().await.unwrap()).unwrap();
        assert_eq!(value["message"], "success");

        let control = url.replace("iss-now.json", "fail/error503");
        let post = |address: String| reqwest::Client::new().post(address).send();
        assert_eq!(post(control.clone()).await.unwrap().status(), 204);
        assert_eq!(ask().await.status(), 503);
        let unknown = post(control.replace("error503", "typo")).await.unwrap();
        assert_eq!(unknown.status(), 404);
        assert!(unknown.text().await.unwrap().contains("frozen"));

        simulator.fail(Failure::Cut);
        assert!(ask().await.bytes().await.is_err());
        simulator.fail(None);
        assert_eq!(ask().await.status(), 200);
        simulator.stop();
        assert!(reqwest::get(&url).await.is_err());
    }
}
