//! The source: one request, as the poller makes it.

use std::time::Instant;

use super::closer::explain;
use super::diagnosis::Peer;
use super::item::Limit;
use super::tls::Trust;
use super::{Item, Problem};
use crate::config::{self, Config};
use crate::ingest::answer::{FailureKind, PollFailure, Verdict, judge};
use crate::ingest::source::HttpSource;

const NAME: &str = "source";

pub(super) async fn ask(config: &Config, limit: &Limit) -> Item {
    let since = Instant::now();
    let Some(source) = &config.source else {
        let answer = "there is no [source]: nothing is polled".to_owned();
        return Item::new(NAME, since, Ok(answer));
    };
    let finding = match limit.wait(poll(source)).await {
        Ok(Err(problem)) => {
            let trust = Trust {
                is_system_trusted: true,
                checks_name: true,
                ..Trust::default()
            };
            let words = &problem.answer;
            let closer = explain(Peer::Source, &source.url, trust, words, limit).await;
            Err(closer.unwrap_or(problem))
        }
        Ok(finding) => finding,
        Err(cut) => Err(cut.problem(limit, "the source", mend(FailureKind::Timeout))),
    };
    Item::new(NAME, since, finding)
}

async fn poll(source: &config::Source) -> Result<String, Problem> {
    let http = HttpSource::new(source)
        .map_err(|error| Problem::new(error, "write an http or https address in source.url"))?;
    let name = http.name();
    let answer = http.ask().await.map_err(|failure| wrong(&name, &failure))?;
    match judge(answer.status, &answer.headers, &answer.body) {
        Verdict::Failure(failure) => Err(wrong(&name, &failure)),
        Verdict::Success(timestamp) => {
            let bytes = answer.body.len();
            let timestamp = timestamp.map_or_else(String::new, |at| format!(", timestamp {at}"));
            Ok(format!(
                "{name}: {}, {bytes} bytes{timestamp}",
                answer.status
            ))
        }
    }
}

fn wrong(name: &str, failure: &PollFailure) -> Problem {
    Problem::new(format!("{name}: {failure}"), mend(failure.kind))
}

/// What to do about a failure of this kind.
fn mend(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Dns => "correct the host in source.url, or this machine's name servers",
        FailureKind::Connect => {
            "correct host and port in source.url, start the source, or let this machine reach it"
        }
        FailureKind::Tls => {
            "write http:// or https:// as the source speaks it; its certificate has to be trusted by this system"
        }
        FailureKind::Timeout => "raise source.timeout (below source.interval), or ask again later",
        FailureKind::Redirect | FailureKind::Status => {
            "correct the path in source.url, or ask again later: the poller goes on asking"
        }
        FailureKind::TooLarge => "choose an address of the source with a smaller answer",
        FailureKind::NotJson => "correct source.url: it has to answer with one JSON document",
        FailureKind::Cut | FailureKind::NotSuccess | FailureKind::Other => {
            "ask again later: the poller goes on asking, and publishes nothing meanwhile"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Finding;
    use crate::demo::open_notify::{Failure, Simulator};

    async fn asked(simulator: &Simulator) -> Finding {
        let mut config = crate::testing::config();
        if let Some(source) = &mut config.source {
            source.url = simulator.url();
        }
        ask(&config, &Limit::for_tests()).await.finding
    }

    #[tokio::test]
    async fn the_answer_is_judged_as_the_poller_judges_it() {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let simulator = Simulator::start(&log).unwrap();
        let Finding::Well(answer) = asked(&simulator).await else {
            panic!("a source that answers");
        };
        assert!(
            answer.contains("200 OK") && answer.contains("timestamp 1"),
            "{answer}"
        );
        simulator.fail(Failure::Error503);
        let Finding::Wrong(problem) = asked(&simulator).await else {
            panic!("a source that answers 503");
        };
        assert!(problem.answer.contains("503"), "{problem:?}");
        assert!(problem.mend.contains("source.url"), "{problem:?}");
    }

    #[tokio::test]
    async fn without_a_source_there_is_nothing_to_mend() {
        let mut config = crate::testing::config();
        config.source = None;
        let item = ask(&config, &Limit::for_tests()).await;
        assert!(matches!(item.finding, Finding::Well(_)), "{item:?}");
    }
}
