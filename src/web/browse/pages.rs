//! The pages of the topic and of its records. Pure: what is known comes in.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::status::snapshot::PartitionSnapshot;
use crate::web::shell;
use crate::web::words::{self, UNKNOWN};

use super::decoded::Decoded;
use super::log::{Message, Messages, Partition, Topic};
use super::query::Query;
use super::text::{self, Kind};

/// Characters of a key and of a value in the table.
const KEY_CHARACTERS: usize = 32;
const VALUE_CHARACTERS: usize = 160;

/// The cluster, and the topic's partitions beside what has landed of them.
pub(in crate::web) fn topic(
    topic: &Topic,
    group: &str,
    ours: &BTreeMap<i32, PartitionSnapshot>,
) -> Markup {
    let partitions = &topic.partitions;
    let without_leader = partitions.iter().filter(|one| one.leader.is_none()).count();
    let under = partitions
        .iter()
        .filter(|one| one.is_under_replicated())
        .count();
    let records: i64 = partitions.iter().filter_map(length).sum();
    html! {
        h1 { "Topic " code { (topic.name) } }
        p.lead {
            (words::number(partitions.len() as i64)) " partitions · "
            (words::number(records)) " offsets held · cluster "
            code { @if topic.cluster_id.is_empty() { "without an id" } @else { (topic.cluster_id) } }
            " · " a href="/messages" { "its records" }
        }
        @if without_leader > 0 || under > 0 {
            ul.troubles {
                @if without_leader > 0 {
                    li data-state="unhealthy" { b { (words::number(without_leader as i64)) " partitions have no leader" }
                        p { "They can be neither read nor written until a broker that has them is back." } }
                }
                @if under > 0 {
                    li data-state="degraded" { b { (words::number(under as i64)) " partitions are under-replicated" }
                        p { "A replica is behind or its broker is away: one more loss may cost records." } }
                }
            }
        }
        section #brokers {
            h2 { "Brokers" }
            div.scroll tabindex="0" role="region" aria-label="Brokers" {
                table {
                    thead { tr { th.n scope="col" { "Id" } th scope="col" { "Address" } th.n scope="col" { "Leads" } th.n scope="col" { "Replicas" } th scope="col" { "Role" } } }
                    tbody {
                        @for broker in &topic.brokers {
                            tr {
                                th.n scope="row" { (broker.id) }
                                td { code { (broker.address) } }
                                td.n { (words::number(count(partitions, |one| one.leader == Some(broker.id)))) }
                                td.n { (words::number(count(partitions, |one| one.replicas.contains(&broker.id)))) }
                                td { @if topic.controller == Some(broker.id) { span.badge { "controller" } } }
                            }
                        }
                    }
                }
            }
        }
        section #partitions {
            h2 { "Partitions" }
            p.notes { "Committed is what the group " code { (group) } " has told Kafka, for tools that show lag; the checkpoint in the store decides what has landed." }
            div.scroll tabindex="0" role="region" aria-label="Partitions" {
                table {
                    thead { tr {
                        th.n scope="col" { "Partition" } th.n scope="col" { "First" } th.n scope="col" { "End" } th.n scope="col" { "Held" }
                        th.n scope="col" { "Committed" } th.n scope="col" { "Its lag" }
                        th.n scope="col" { "Checkpoint" } th.n scope="col" { "Its lag" }
                        th.n scope="col" { "Leader" } th scope="col" { "Replicas" } th scope="col" { "In sync" }
                    } }
                    tbody {
                        @for one in partitions {
                            @let next = ours.get(&one.id).and_then(|ours| ours.next_offset);
                            tr {
                                th.n scope="row" { a href={ "/messages?partition=" (one.id) } { (one.id) } }
                                td.n { (known(one.first_offset)) } td.n { (known(one.end_offset)) } td.n { (known(length(one))) }
                                td.n { (known(one.committed)) } td.n { (known(lag(one, one.committed))) }
                                td.n { (known(next)) } td.n { (known(lag(one, next))) }
                                td.n { @match one.leader { Some(id) => (id), None => span.badge data-state="unhealthy" { "none" } } }
                                td { (ids(&one.replicas)) }
                                td { span data-state=[one.is_under_replicated().then_some("degraded")] { (ids(&one.in_sync)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn length(one: &Partition) -> Option<i64> {
    Some(one.end_offset? - one.first_offset?)
}

fn lag(one: &Partition, next: Option<i64>) -> Option<i64> {
    Some((one.end_offset? - next?).max(0))
}

fn known(number: Option<i64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), words::number)
}

fn count(partitions: &[Partition], is: impl Fn(&Partition) -> bool) -> i64 {
    partitions.iter().filter(|one| is(one)).count() as i64
}

fn ids(ids: &[i32]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}

/// The form, and the records that it asked for.
pub(in crate::web) fn messages(topic: &str, query: &Query, found: &Messages) -> Markup {
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    html! {
        h1 { "Records of " code { (topic) } }
        form method="get" action="/messages" {
            label { "Partition " input name="partition" inputmode="numeric" size="6" value=(number(query.partition.map(i64::from))); }
            label { "From offset " input name="offset" inputmode="numeric" size="14" value=(number(query.offset)); }
            label { "or time, UTC " input name="time" size="20" placeholder="2026-11-25 03:00" value=(query.time.as_ref().map_or("", |(text, _)| text)); }
            label { "At most " input name="limit" inputmode="numeric" size="4" value=(query.limit); }
            label { "Only with this text " input name="text" type="search" size="24" value=(query.text.as_deref().unwrap_or_default()); }
            button { "Show" }
        }
        p #search hidden data-from="/search" {
            progress max="1" value="0" aria-label="Searched" {}
            " " span role="status" {} " "
            button type="button" { "Stop" }
        }
        p #tail hidden data-from="/tail" data-partition=[query.partition] {
            button type="button" { "Follow" } " "
            span role="status" {}
        }
        p.notes {
            "The newest first, as committed records only. "
            (ways(query, found))
            a href={ "/messages.jsonl?" (query.string()) } download { "JSON lines" } " · "
            a href={ "/messages.csv?" (query.string()) } download { "CSV" } " · "
            a href={ "/api/messages?" (query.string()) } { "JSON" }
        }
        @if let Some(words) = &found.cut { p.empty role="status" { (words) } }
        @if found.messages.is_empty() {
            p.empty { "No record is there. The log may be empty here, or its records deleted by retention: " a href="/topic" { "the topic" } " has its first and last offsets." }
        }
        div.scroll tabindex="0" role="region" aria-label="Records" {
            table {
                thead { tr {
                    th scope="col" { "Time" } th.n scope="col" { "Partition" } th.n scope="col" { "Offset" }
                    th scope="col" { "Key" } th scope="col" { "Value" } th.n scope="col" { "Size" }
                } }
                tbody #records {
                    @for one in &found.messages {
                        tr {
                            td { (shell::time(one.timestamp_ms)) }
                            td.n { (one.partition) }
                            td.n { a href={ "/message?partition=" (one.partition) "&offset=" (one.offset) } { (one.offset) } }
                            td { (short(one.key.as_deref(), KEY_CHARACTERS)) }
                            td.value { (short(one.value.as_deref(), VALUE_CHARACTERS)) }
                            td.n { (words::bytes(one.size_bytes() as u64)) }
                        }
                    }
                }
            }
        }
    }
}

/// To the records before and behind these, within a partition.
fn ways(query: &Query, found: &Messages) -> Markup {
    let offsets = || found.messages.iter().map(|one| one.offset);
    let (Some(partition), Some(first), Some(last)) =
        (query.partition, offsets().min(), offsets().max())
    else {
        return html! {};
    };
    let limit = query.limit;
    let older = first.saturating_sub(limit as i64).max(0);
    let at = |offset: i64| format!("/messages?partition={partition}&offset={offset}&limit={limit}");
    html! {
        @if first > 0 { a href=(at(older)) rel="prev" { "Older" } " · " }
        a href=(at(last + 1)) rel="next" { "Newer" } " · "
        a href={ "/messages?partition=" (partition) "&limit=" (limit) } { "Newest" } " · "
    }
}

/// One record, whole.
pub(in crate::web) fn message(
    topic: &str,
    one: &Message,
    decoded: &Decoded,
    ours: Option<&PartitionSnapshot>,
) -> Markup {
    let beside = |by: i64| {
        format!(
            "/message?partition={}&offset={}",
            one.partition,
            one.offset + by
        )
    };
    html! {
        h1 { "Record " (one.partition) "/" (one.offset) " of " code { (topic) } }
        p.lead {
            (shell::time(one.timestamp_ms)) " · " (words::bytes(one.size_bytes() as u64)) " · "
            @if one.offset > 0 { a href=(beside(-1)) rel="prev" { "the one before" } " · " }
            a href=(beside(1)) rel="next" { "the next" } " · "
            a href={ "/messages?partition=" (one.partition) "&offset=" (one.offset) } { "from here on" } " · "
            a href={ "/api/message?partition=" (one.partition) "&offset=" (one.offset) } { "JSON" }
        }
        p { (place(one.offset, ours)) }
        section #row {
            h2 { "What the table makes of it" }
            @match decoded {
                Decoded::Row(columns) => {
                    div.scroll tabindex="0" role="region" aria-label="Row" {
                        table { tbody {
                            @for (name, value) in columns {
                                tr { th scope="row" { (name) }
                                    td.value { @match value { Some(value) => code { (text::whole(value)) }, None => span.empty { "null" } } } }
                            }
                        } }
                    }
                }
                Decoded::DeadLetter { cause, detail } => {
                    p data-state="unhealthy" { b { "A dead letter: " (cause) } }
                    p { (text::whole(detail)) }
                }
                Decoded::Unshown(error) => p.empty { "It cannot be shown: " (error) }
            }
        }
        (part("Key", one.key.as_deref()))
        (part("Value", one.value.as_deref()))
        @if !one.headers.is_empty() {
            section #headers {
                h2 { "Headers" }
                div.scroll tabindex="0" role="region" aria-label="Headers" {
                    table { tbody {
                        @for (name, value) in &one.headers {
                            tr { th scope="row" { (text::whole(name)) } td.value { (short(value.as_deref(), VALUE_CHARACTERS)) } }
                        }
                    } }
                }
            }
        }
    }
}

/// Where the record is on its way.
fn place(offset: i64, ours: Option<&PartitionSnapshot>) -> &'static str {
    let Some(ours) = ours.filter(|ours| ours.state != "not_ours") else {
        return "Another member of the group has this partition, or it has not been claimed yet.";
    };
    match (ours.next_offset, ours.position) {
        (Some(next), _) if offset < next => "It has landed.",
        (_, Some(position)) if offset < position => {
            "It has been read, and lands with the batch that is open or on its way."
        }
        _ => "It has not been read yet.",
    }
}

fn part(name: &str, bytes: Option<&[u8]>) -> Markup {
    let Some(bytes) = bytes else {
        return html! { section { h2 { (name) } p.empty { "There is none." } } };
    };
    let kind = text::kind(bytes);
    html! {
        section {
            h2 { (name) " " small { (match kind { Kind::Json => "JSON", Kind::Text => "text", Kind::Binary => "binary" }) } }
            @if let Some(pretty) = text::pretty(bytes) {
                pre tabindex="0" { (pretty) }
            }
            @if kind != Kind::Binary {
                details open[kind == Kind::Text] {
                    summary { "As it is written" }
                    pre tabindex="0" { (text::whole(&String::from_utf8_lossy(bytes))) }
                }
            }
            details open[kind == Kind::Binary] {
                summary { "Its bytes" }
                pre tabindex="0" { (text::hex(bytes)) }
            }
        }
    }
}

fn short(bytes: Option<&[u8]>, length: usize) -> Markup {
    match bytes {
        None => html! { span.empty { "none" } },
        Some(bytes) => html! { code { bdi { (text::line(bytes, length)) } } },
    }
}

/// What cannot be shown, and why.
pub(in crate::web) fn refusal(words: &str) -> Markup {
    html! {
        h1 { "It cannot be shown" }
        p role="alert" { (text::whole(words)) }
        p { a href="/messages" { "The newest records" } " · " a href="/topic" { "The topic" } " · " a href="/" { "Overview" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &[u8]) -> Message {
        Message {
            partition: 1,
            offset: 7,
            timestamp_ms: 0,
            key: None,
            value: Some(value.to_vec()),
            headers: Vec::new(),
        }
    }

    fn query(given: &[(&str, &str)]) -> Query {
        let given = given.iter();
        let owned = given.map(|(name, value)| ((*name).into(), (*value).into()));
        Query::parse(&owned.collect()).unwrap()
    }

    #[test]
    fn hostile_records_are_text_on_every_page() {
        let hostile = b"</pre><script>alert(1)</script><img src=x onerror=alert(1)>\xe2\x80\xae";
        let found = Messages {
            messages: vec![one(hostile)],
            cut: None,
        };
        let dead = Decoded::DeadLetter {
            cause: "syntax",
            detail: String::from_utf8_lossy(hostile).into(),
        };
        for page in [
            messages("t", &query(&[]), &found),
            message("t", &one(hostile), &dead, None),
            refusal(&String::from_utf8_lossy(hostile)),
        ] {
            let html = page.into_string();
            assert!(
                !html.contains("<script") && !html.contains("<img"),
                "{html}"
            );
            assert!(!html.contains('\u{202e}'), "{html}");
        }
    }

    #[test]
    fn within_a_partition_one_can_go_back_and_forth() {
        let found = Messages {
            messages: vec![one(b"1")],
            cut: None,
        };
        let html = messages("t", &query(&[("partition", "1"), ("limit", "5")]), &found);
        let html = html.into_string();
        assert!(
            html.contains("/messages?partition=1&amp;offset=2&amp;limit=5"),
            "{html}"
        );
        assert!(
            html.contains("/messages?partition=1&amp;offset=8&amp;limit=5"),
            "{html}"
        );
        assert!(html.contains("/message?partition=1&amp;offset=7"), "{html}");
    }

    #[test]
    fn json_is_shown_with_an_indent_and_as_written_and_binary_as_hex() {
        let row = Decoded::Row(Vec::new());
        let html = message("t", &one(b"{\"a\":1}"), &row, None).into_string();
        assert!(html.contains("{\n  &quot;a&quot;: 1\n}"), "{html}");
        let html = message("t", &one(b"\xff\x00"), &row, None).into_string();
        assert!(html.contains("00000000  ff 00"), "{html}");
    }

    #[test]
    fn a_partition_without_a_leader_hides_no_other() {
        let partition = |id, leader| Partition {
            id,
            leader,
            replicas: vec![1, 2],
            in_sync: vec![1],
            first_offset: leader.map(|_| 0),
            end_offset: leader.map(|_| 1000),
            committed: None,
        };
        let shown = Topic {
            name: "iss".into(),
            cluster_id: "c".into(),
            controller: Some(1),
            brokers: Vec::new(),
            partitions: vec![partition(0, Some(1)), partition(1, None)],
        };
        let html = topic(&shown, "g", &BTreeMap::new()).into_string();
        assert!(html.contains("1 partitions have no leader"), "{html}");
        assert!(html.contains("2 partitions are under-replicated"));
        assert!(html.contains("1\u{202f}000"));
    }
}
