//! What all pages have around them.

use maud::{DOCTYPE, Markup, html};

use super::assets::{SCRIPT, STYLE};
use super::words::{self, UNKNOWN};

/// The pages, in the order of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `/`
    Overview,
    /// `/topic`
    Topic,
    /// `/messages`, and each record's own
    Messages,
}

impl Place {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Overview, "/"),
        (Self::Topic, "/topic"),
        (Self::Messages, "/messages"),
    ];

    /// The same for machines.
    fn twin(self) -> &'static str {
        match self {
            Self::Overview => "/api/overview",
            Self::Topic => "/api/topic",
            Self::Messages => "/api/messages",
        }
    }

    /// In the navigation.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Topic => "Topic",
            Self::Messages => "Records",
        }
    }
}

/// A whole page. `live`: where its changes come from; none: it stays as it is.
pub(super) fn page(place: Place, title: &str, live: Option<&str>, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · groundtrack" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(STYLE.path);
                script src=(SCRIPT.path) defer {}
            }
            body data-live-from=[live] {
                a.skip href="#main" { "Skip to the content" }
                header {
                    a.brand href="/" { "groundtrack" }
                    nav aria-label="Pages" {
                        @for (this, href) in Place::ALL {
                            a href=(href) aria-current=[(this == place).then_some("page")] { (this.words()) }
                        }
                        a href=(place.twin()) { "JSON" }
                        a href="/metrics" { "Metrics" }
                    }
                    p #connection role="status" {}
                }
                main #main { (main) }
            }
        }
    }
}

/// A time (milliseconds since 1970 UTC); before 1970 Kafka knows none.
pub(super) fn time(time_ms: i64) -> Markup {
    match time_ms {
        ..0 => html! { (UNKNOWN) },
        _ => html! { time datetime=(words::machine_time(time_ms)) { (words::time(time_ms)) } },
    }
}
