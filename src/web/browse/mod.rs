//! The topic's pages: what Kafka has, beside what has landed of it. A request reads Kafka by a
//! client of its own, which is gone with it; few at once, and each with a deadline.

mod decoded;
mod export;
mod log;
mod pages;
mod query;
mod search;
mod tail;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, RETRY_AFTER};
use actix_web::web::{self, Data};
use futures_util::StreamExt;
use maud::Markup;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::log::{BrowseError, Log, Messages, Topic, Which};
use self::query::Query;
use self::search::Search;
use self::tail::Tail;
use crate::config::Config;
use crate::landing::layout::Layout;
use crate::status::snapshot::PartitionSnapshot;

use super::events_of;
use super::page::Page;
use super::shell::{self, Place};

/// Each is a client of Kafka's with a few threads and megabytes for as long as it reads.
pub(super) const READS_MAX: usize = 4;

/// Of a search that a page waits for without a word.
const SEARCH_WITHIN: Duration = Duration::from_secs(10);
/// Of one whose progress is told, and that can be ended.
const TOLD_SEARCH_WITHIN: Duration = Duration::from_secs(120);
/// Words of a search that wait for a slow reader; the search waits with them.
const TOLD_WAITING: usize = 16;

/// What the pages read by.
#[derive(Debug)]
pub(super) struct Browse {
    config: Arc<Config>,
    layout: Arc<Layout>,
    reads: Arc<Semaphore>,
    tail: Tail,
    /// Cancelled: answers without end do end.
    ends: CancellationToken,
}

type Given = web::Query<BTreeMap<String, String>>;

/// Why there is no answer: the status, and words.
struct Refusal(StatusCode, String);

impl Browse {
    pub(super) fn new(config: Arc<Config>, ends: CancellationToken) -> Self {
        Self {
            layout: Layout::of(&config),
            tail: Tail::new(config.clone(), ends.clone()),
            ends,
            config,
            reads: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Log<'_>) -> Result<T, BrowseError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let busy = "as many read the topic as may at once: try again in a few seconds";
        let permit = self.reads.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| Refusal(StatusCode::SERVICE_UNAVAILABLE, busy.to_owned()))?;
        let config = self.config.clone();
        let found = web::block(move || {
            let found = Log::open(&config.kafka).and_then(|log| read(&log));
            drop(permit);
            found
        });
        match found.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(Refusal(status_of(&error), error.to_string())),
            Err(error) => Err(Refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                error.to_string(),
            )),
        }
    }

    async fn topic(&self) -> Result<Topic, Refusal> {
        self.read(|log| log.topic()).await
    }

    async fn messages(&self, query: &Query) -> Result<Messages, Refusal> {
        let (which, limit) = (query.which(), query.limit);
        match search_of(query, SEARCH_WITHIN) {
            Some(search) => {
                self.read(move |log| search.run(log, |_| ControlFlow::Continue(())))
                    .await
            }
            None => self.read(move |log| log.messages(which, limit)).await,
        }
    }

    async fn message(&self, given: &Given) -> Result<log::Message, Refusal> {
        let (partition, offset) = query::coordinates(given).map_err(wrong)?;
        let which = Which::From(partition, offset);
        let found = self.read(move |log| log.messages(which, 1)).await?;
        let found = found.messages.into_iter().find(|one| one.offset == offset);
        found.ok_or_else(|| {
            let words = format!(
                "partition {partition} has no record at offset {offset}: it may be deleted by \
                 retention or compaction, be a mark of a transaction, or not be written yet"
            );
            Refusal(StatusCode::NOT_FOUND, words)
        })
    }
}

/// The search that is asked for, if one is.
fn search_of(query: &Query, within: Duration) -> Option<Search> {
    query.text.clone().map(|text| Search {
        which: query.which(),
        text,
        limit: query.limit,
        within,
    })
}

fn status_of(error: &BrowseError) -> StatusCode {
    match error {
        BrowseError::Kafka { .. } => StatusCode::BAD_GATEWAY,
        BrowseError::NoTopic(_) | BrowseError::NoPartition(_) => StatusCode::NOT_FOUND,
    }
}

fn wrong(words: String) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, words)
}

/// The routes of these pages and of their twins.
pub(super) fn routes(app: &mut web::ServiceConfig) {
    app.route("/topic", web::to(topic))
        .route("/api/topic", web::to(api_topic))
        .route("/messages", web::to(messages))
        .route("/api/messages", web::to(api_messages))
        .route("/tail", web::to(tail))
        .route("/search", web::to(search))
        .route("/messages.jsonl", web::to(json_lines))
        .route("/messages.csv", web::to(csv))
        .route("/message", web::to(message))
        .route("/api/message", web::to(api_message));
}

async fn topic(page: Data<Page>) -> HttpResponse {
    let found = page.browse.topic().await;
    let ours = ours(&page);
    let group = &page.browse.config.kafka.group;
    show(
        Place::Topic,
        found.map(|topic| pages::topic(&topic, group, &ours)),
    )
}

async fn api_topic(page: Data<Page>) -> HttpResponse {
    twin(page.browse.topic().await.map(|topic| json!(topic)))
}

async fn messages(page: Data<Page>, given: Given) -> HttpResponse {
    let browse = &page.browse;
    let shown = async {
        let query = Query::parse(&given).map_err(wrong)?;
        let found = browse.messages(&query).await?;
        Ok(pages::messages(&browse.config.kafka.topic, &query, &found))
    };
    show(Place::Messages, shown.await)
}

async fn api_messages(page: Data<Page>, given: Given) -> HttpResponse {
    let found = async {
        let query = Query::parse(&given).map_err(wrong)?;
        let found = page.browse.messages(&query).await?;
        let messages: Vec<_> = found.messages.iter().map(export::json).collect();
        Ok(json!({ "messages": messages, "cut": found.cut }))
    };
    twin(found.await)
}

/// The records as they come.
async fn tail(page: Data<Page>) -> HttpResponse {
    let browse = &page.browse;
    match browse.tail.follow() {
        Some(events) => events_of(events.take_until(browse.ends.clone().cancelled_owned())),
        None => {
            let words = "as many follow the topic as may at once";
            let mut answer = HttpResponse::ServiceUnavailable();
            answer.insert_header((RETRY_AFTER, "30"));
            answer.json(json!({ "error": words }))
        }
    }
}

/// A search with its progress, as events; closing the connection ends it.
async fn search(page: Data<Page>, given: Given) -> HttpResponse {
    let search = Query::parse(&given).and_then(|query| {
        let missing = "text: must say what to look for".to_owned();
        search_of(&query, TOLD_SEARCH_WITHIN).ok_or(missing)
    });
    let search = match search {
        Ok(search) => search,
        Err(words) => return twin(Err(wrong(words))),
    };
    let (told, events) = tokio::sync::mpsc::channel(TOLD_WAITING);
    let browse = page.clone();
    actix_web::rt::spawn(async move {
        let progress = told.clone();
        let found = browse.browse.read(move |log| {
            search.run(log, |now| {
                match progress.blocking_send(event("progress", &json!(now))) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })
        });
        let last = match found.await {
            Ok(found) => {
                let records: Vec<_> = found.messages.iter().map(tail::record).collect();
                event("found", &json!({ "records": records, "cut": found.cut }))
            }
            Err(Refusal(_, words)) => event("failed", &json!(words)),
        };
        // Nobody may be waiting any more.
        let _ = told.send(last).await;
    });
    let ends = page.ends.clone().cancelled_owned();
    let events = futures_util::stream::unfold(events, async |mut events| {
        let event = events.recv().await?;
        Some((Ok(event), events))
    });
    events_of(events.take_until(ends))
}

fn event(name: &str, data: &serde_json::Value) -> web::Bytes {
    web::Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

async fn json_lines(page: Data<Page>, given: Given) -> HttpResponse {
    download(
        &page,
        &given,
        "jsonl",
        "application/jsonl",
        export::json_lines,
    )
    .await
}

async fn csv(page: Data<Page>, given: Given) -> HttpResponse {
    download(&page, &given, "csv", "text/csv; charset=utf-8", export::csv).await
}

async fn download(
    page: &Page,
    given: &Given,
    ending: &str,
    kind: &'static str,
    write: fn(&[log::Message]) -> String,
) -> HttpResponse {
    let found = async {
        let query = Query::parse(given).map_err(wrong)?;
        page.browse.messages(&query).await
    };
    match found.await {
        // The topic's name has no character that a header or a folder would mind.
        Ok(found) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, kind))
            .insert_header((
                CONTENT_DISPOSITION,
                format!(
                    "attachment; filename=\"{}.{ending}\"",
                    page.browse.config.kafka.topic
                ),
            ))
            .body(write(&found.messages)),
        Err(refusal) => twin(Err(refusal)),
    }
}

async fn message(page: Data<Page>, given: Given) -> HttpResponse {
    let browse = &page.browse;
    let shown = browse.message(&given).await.map(|one| {
        let topic = &browse.config.kafka.topic;
        let decoded = decoded::decoded(&browse.layout, topic, &one);
        pages::message(topic, &one, &decoded, ours(&page).get(&one.partition))
    });
    show(Place::Messages, shown)
}

async fn api_message(page: Data<Page>, given: Given) -> HttpResponse {
    let browse = &page.browse;
    let found = browse.message(&given).await.map(|one| {
        let decoded = decoded::decoded(&browse.layout, &browse.config.kafka.topic, &one);
        let mut object = export::json(&one);
        object["decoded"] = json!(decoded);
        object
    });
    twin(found)
}

/// The topic's partitions as this process lands them.
fn ours(page: &Page) -> BTreeMap<i32, PartitionSnapshot> {
    let all = page.snapshot().partitions.into_iter();
    all.map(|one| (one.partition, one)).collect()
}

fn show(place: Place, shown: Result<Markup, Refusal>) -> HttpResponse {
    let (status, main) = match shown {
        Ok(main) => (StatusCode::OK, main),
        Err(Refusal(status, words)) => (status, pages::refusal(&words)),
    };
    let mut answer = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.insert_header((RETRY_AFTER, "5"));
    }
    answer
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .body(shell::page(place, place.words(), None, &main).0)
}

fn twin(found: Result<serde_json::Value, Refusal>) -> HttpResponse {
    match found {
        Ok(found) => HttpResponse::Ok().json(found),
        Err(Refusal(status, words)) => HttpResponse::build(status).json(json!({ "error": words })),
    }
}
