//! The page's group: the pages, their JSON twins, `/healthz` and `/metrics`, read-only, from the
//! atomics of [`crate::status`].
//!
//! It never asks an actor for anything, and reads Kafka by clients of its own, so a request cannot
//! hold up the data, and a port that is taken only fails this group, which the supervisor tries
//! again. A page is whole without JavaScript; with it, it is kept up to date by `live`.

mod assets;
mod browse;
mod guard;
mod history;
mod live;
mod map;
mod metrics;
mod overview;
mod page;
mod shell;
mod sun;
mod words;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use actix_web::middleware::{Compress, from_fn};
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use futures_util::{Stream, StreamExt};
use serde_json::json;
use slog::info;

use self::page::Page;
use self::shell::Place;
use crate::generation::{End, Failure, Generation};
use crate::status::snapshot::Health;

/// More than a scraper, a load balancer and a few people's browsers need; fewer than the file
/// descriptors that the landing needs.
const CONNECTIONS_MAX: usize = 128;

/// A whole request's head comes within this, or a slow client is holding a connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection is kept for so long: a scraper comes back each 15 s at most times.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A client that does not close its side is cut after this.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// At a drain, answers that are being written have so many seconds: they are small.
const SHUTDOWN_TIMEOUT_S: u64 = 1;

/// Runs one generation of the page's group: serves until it is told to drain or stop.
///
/// # Errors
/// [`Failure::Group`] where the address cannot be listened on, or the server ends by itself.
pub async fn run(generation: Generation) -> Result<End, Failure> {
    let Some(settings) = generation.config.web.clone() else {
        return Err(Failure::Group("web.listen is turned off".to_owned()));
    };
    let listen = settings.listen;
    let page = Data::new(Page::new(
        generation.config.clone(),
        settings,
        generation.status.clone(),
        generation.drain.clone(),
    ));
    let (server, addresses) = bind(page.clone()).map_err(|error| {
        Failure::Group(format!("cannot listen on {listen} (web.listen): {error}"))
    })?;
    let pulse = generation.pulse("page");
    pulse.waits("requests");
    let address = addresses.first().copied();
    generation.status.set_web_address(address);
    info!(generation.log, "page listens"; "address" => ?address.unwrap_or(listen));
    let end = tokio::select! {
        end = serve(server, &generation) => end,
        never = page.keep() => match never {},
    };
    generation.status.set_web_address(None);
    end
}

async fn serve(server: Server, generation: &Generation) -> Result<End, Failure> {
    let handle = server.handle();
    let mut server = actix_web::rt::spawn(server);
    let (gracefully, end) = tokio::select! {
        ended = &mut server => {
            let reason = match ended {
                Ok(Ok(())) => "it returned".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            return Err(Failure::Group(format!("the server ended: {reason}")));
        }
        () = generation.drain.cancelled() => (true, End::Drained),
        () = generation.stop.cancelled() => (false, End::Stopped),
    };
    handle.stop(gracefully).await;
    // Only its end is of interest: it was told to.
    let _ = server.await;
    Ok(end)
}

fn bind(page: Data<Page>) -> io::Result<(Server, Vec<std::net::SocketAddr>)> {
    let listen = page.settings.listen;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(page.clone())
            .wrap(Compress::default())
            .wrap(from_fn(guard::guard))
            .configure(routes)
    })
    .workers(1)
    // Those that read Kafka, and one that compresses.
    .worker_max_blocking_threads(browse::READS_MAX + 1)
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(REQUEST_TIMEOUT)
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
    // The signals are the supervisor's.
    .disable_signals()
    .bind(listen)?;
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

/// Any method that [`guard::guard`] lets through: GET, and HEAD, whose body is left out.
fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::to(overview))
        .route("/live", web::to(live))
        .route("/api/overview", web::to(api_overview))
        .route("/healthz", web::to(healthz))
        .route("/metrics", web::to(metrics))
        .route("/api/status", web::to(api_status))
        .configure(assets::routes)
        .configure(browse::routes)
        .default_service(web::to(not_found));
}

async fn overview(page: Data<Page>) -> HttpResponse {
    let overview = page.overview();
    let main = overview.render();
    html(&shell::page(
        Place::Overview,
        &overview.topic,
        Some("/live"),
        &main,
    ))
}

async fn api_overview(page: Data<Page>) -> HttpResponse {
    HttpResponse::Ok().json(page.overview())
}

/// What changes on the overview.
async fn live(page: Data<Page>) -> HttpResponse {
    let Some((live, permit)) = page.reader() else {
        let words =
            "as many pages are kept up to date as may be: reload this one to see it as it is now";
        return HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, "30"))
            .json(json!({ "error": words }));
    };
    let ends = page.ends.clone().cancelled_owned();
    events_of(live::events(live, permit).take_until(ends))
}

/// An answer without end, of Server-Sent Events.
fn events_of(events: impl Stream<Item = Result<web::Bytes, Infallible>> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        // Compressed, an event would wait for the next ones.
        .insert_header((CONTENT_ENCODING, "identity"))
        .streaming(events)
}

fn html(page: &maud::Markup) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .body(page.0.clone())
}

async fn healthz(page: Data<Page>) -> HttpResponse {
    let snapshot = page.snapshot();
    let mut answer = match snapshot.health {
        Health::Unhealthy => HttpResponse::ServiceUnavailable(),
        Health::Healthy | Health::Degraded => HttpResponse::Ok(),
    };
    answer.json(json!({ "health": snapshot.health, "why": snapshot.unhealthy }))
}

async fn metrics(page: Data<Page>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(metrics::render(&page.snapshot(), &page.status.counters()))
}

async fn api_status(page: Data<Page>) -> HttpResponse {
    HttpResponse::Ok().json(page.snapshot())
}

async fn not_found() -> HttpResponse {
    HttpResponse::NotFound().json(json!({ "error": "there is nothing here" }))
}

#[cfg(test)]
mod tests;
