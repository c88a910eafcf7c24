//! What changes on an open page, by Server-Sent Events: each second, to each reader only what has
//! changed since it was last told. It is composed once for all of them, and only while one is
//! there; a reader that does not read is told less often, and holds nobody up.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// The state of an open page: what stands in each element that changes, by the element's name,
/// and the shape of each section. A section of another shape is fetched anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// By the name in `data-live`.
    pub(super) texts: BTreeMap<String, String>,
    /// By the section's id.
    pub(super) shapes: BTreeMap<&'static str, String>,
}

impl Live {
    /// What stands in this element.
    pub(super) fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    /// One event of what differs from `before`.
    fn event(&self, before: Option<&Self>) -> Bytes {
        let is_new = |name: &String, text: &String| {
            before.and_then(|before| before.texts.get(name)) != Some(text)
        };
        let texts: BTreeMap<&String, &String> = self
            .texts
            .iter()
            .filter(|(name, text)| is_new(name, text))
            .collect();
        let event = serde_json::json!({ "texts": texts, "shapes": self.shapes });
        Bytes::from(format!("data: {event}\n\n"))
    }
}

/// The events of one reader, for as long as it reads and its permit is held.
pub(super) fn events(
    live: watch::Receiver<Arc<Live>>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let told: Option<Arc<Live>> = None;
    futures_util::stream::unfold((live, told, permit), async |(mut live, told, permit)| {
        // Ended: the page's group ends, and with it every answer.
        live.changed().await.ok()?;
        let now = live.borrow_and_update().clone();
        let event = now.event(told.as_deref());
        Some((Ok(event), (live, Some(now), permit)))
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::StreamExt;
    use tokio::sync::Semaphore;

    use super::*;

    fn live(texts: &[(&str, &str)]) -> Arc<Live> {
        let texts = texts.iter();
        Arc::new(Live {
            texts: texts
                .map(|(name, text)| ((*name).into(), (*text).into()))
                .collect(),
            shapes: BTreeMap::from([("files", "a".to_owned())]),
        })
    }

    #[tokio::test]
    async fn a_reader_is_told_all_and_then_what_has_changed() {
        let (told, live_now) = watch::channel(Arc::default());
        let permits = Arc::new(Semaphore::new(1));
        let permit = permits.clone().try_acquire_owned().unwrap();
        let mut events = pin!(events(live_now, permit));
        told.send_replace(live(&[("lag", "1"), ("rows", "5")]));
        let first = events.next().await.unwrap().unwrap();
        let all = r#"data: {"shapes":{"files":"a"},"texts":{"lag":"1","rows":"5"}}"#;
        assert_eq!(first, format!("{all}\n\n"));
        // The second of these is all that a reader sees who was too slow for the first.
        told.send_replace(live(&[("lag", "2"), ("rows", "5")]));
        told.send_replace(live(&[("lag", "3"), ("rows", "5")]));
        let second = events.next().await.unwrap().unwrap();
        let changed = r#"data: {"shapes":{"files":"a"},"texts":{"lag":"3"}}"#;
        assert_eq!(second, format!("{changed}\n\n"));
        assert_eq!(permits.available_permits(), 0);
        drop(told);
        assert!(events.next().await.is_none());
    }

    #[test]
    fn hostile_text_makes_no_event_of_its_own() {
        let hostile = live(&[("key", "a\n\ndata: {\"texts\":{}}\r\n")]);
        let event = String::from_utf8(hostile.event(None).to_vec()).unwrap();
        assert_eq!(event.matches('\n').count(), 2, "{event}");
        assert!(event.ends_with("\n\n") && !event.contains('\r'));
    }
}
