//! The sections of the overview as HTML. What changes in them has an element with a name, and what
//! stands in it comes from [`Live`].

use maud::{Markup, html};

use crate::status::snapshot::PartitionSnapshot;
use crate::web::assets::LAND;
use crate::web::live::Live;
use crate::web::shell;
use crate::web::words;

use super::{Overview, PARTITIONS_SHOWN, SPARK, STAGES};

impl Overview {
    /// The content of the page.
    pub(in crate::web) fn render(&self) -> Markup {
        let live = self.live();
        let of = |name: &str| html! { span data-live=(name) { (live.text(name)) } };
        html! {
            h1 { "Topic " code { (self.topic) } }
            p.lead {
                strong.health data-live="health" data-live-state="health"
                    data-state=(live.text("health")) { (live.text("health")) }
                " for " (of("uptime")) " · group " code { (self.group) }
                " · to " code { (self.store) }
                " · " time data-live="time" data-live-datetime="time.machine"
                    datetime=(live.text("time.machine")) { (live.text("time")) }
            }
            (self.section_wrong(&live))
            (self.section_pipeline(&live))
            (self.section_map(&live))
            (self.section_lags(&live))
            (self.section_files(&live))
        }
    }

    fn section_wrong(&self, live: &Live) -> Markup {
        let status = &self.status;
        let stopped = status.partitions.iter();
        let stopped: Vec<&PartitionSnapshot> = stopped
            .filter(|one| one.cause.is_some())
            .take(PARTITIONS_SHOWN)
            .collect();
        let is_well = status.troubles.is_empty() && status.unhealthy.is_empty();
        html! {
            section #wrong data-shape=[live.shapes.get("wrong")] aria-label="What is wrong" aria-live="polite" {
                @if !is_well {
                    h2 { "What is wrong, and what to do" }
                    ul.troubles {
                        @for one in &stopped {
                            li data-state="unhealthy" {
                                b { "partition " (one.partition) " is stopped" }
                                p { (one.cause.as_deref().unwrap_or_default()) }
                            }
                        }
                        @for trouble in &status.troubles {
                            li data-state=(if trouble.unhealthy { "unhealthy" } else { "degraded" }) {
                                b { (trouble.place) } " since " (shell::time(trouble.since_ms))
                                p { (trouble.text) }
                            }
                        }
                        @if stopped.is_empty() && status.troubles.is_empty() {
                            @for why in &status.unhealthy { li data-state="unhealthy" { p { (why) } } }
                        }
                    }
                }
            }
        }
    }

    fn section_pipeline(&self, live: &Live) -> Markup {
        let held = self.status.budget_held_bytes;
        html! {
            section #pipeline data-shape=[live.shapes.get("pipeline")] {
                h2 { "The pipeline" }
                ol.stages {
                    @for stage in &STAGES {
                        @let name = |part: &str| format!("{}.{part}", stage.actor);
                        li data-group=(stage.group) data-live-state=(name("state"))
                            data-state=(live.text(&name("state"))) {
                            b { (stage.actor) }
                            span.does { (stage.does) }
                            span.flow data-live=(name("flow")) { (live.text(&name("flow"))) }
                            span.counts { (stage.counts) }
                            span.state data-live=(name("does")) { (live.text(&name("does"))) }
                        }
                    }
                }
                p.notes {
                    label for="budget" { "Memory " }
                    meter #budget min="0" max=(self.budget_bytes) value=(held)
                        data-live-value="budget.held" {}
                    " " span data-live="budget.text" { (live.text("budget.text")) }
                    @for group in &self.status.groups {
                        @let name = format!("{}.restarts", group.name);
                        " · " (group.name) " generation " (group.generation) " "
                        span data-live=(name) { (live.text(&name)) }
                    }
                }
            }
        }
    }

    fn section_map(&self, live: &Live) -> Markup {
        let of = |name: &str| live.text(name);
        html! {
            section #map data-shape=[live.shapes.get("map")] {
                @if !self.track.is_empty() {
                    h2 { "Where it is" }
                    figure {
                        svg viewBox="0 0 1440 720" role="img" aria-labelledby="place" {
                            rect.sea width="1440" height="720" {}
                            path.land d=(LAND) {}
                            path.night d=(of("map.night")) data-live-d="map.night" {}
                            path.grid d="M0 360H1440M720 0V720M360 0V720M1080 0V720M0 180H1440M0 540H1440" {}
                            path.track d=(of("map.track")) data-live-d="map.track" {}
                            g transform=(of("map.at")) data-live-transform="map.at" {
                                circle.halo r="18" {}
                                circle.at r="8" {}
                            }
                        }
                        figcaption #place {
                            span data-live="map.latitude" { (of("map.latitude")) } ", "
                            span data-live="map.longitude" { (of("map.longitude")) }
                            " at " time data-live="map.time" data-live-datetime="map.time.machine"
                                datetime=(of("map.time.machine")) { (of("map.time")) }
                            ", by the last record read. The line is its way over ground, the shade is night."
                        }
                    }
                }
            }
        }
    }

    fn section_lags(&self, live: &Live) -> Markup {
        let of = |name: &str| live.text(name);
        let shown = Self::shown(&self.status.partitions);
        let folded = self.status.partitions.len() - shown.len();
        html! {
            section #lags data-shape=[live.shapes.get("lags")] {
                h2 { "Lag" }
                dl.figures {
                    div { dt { "left to land" } dd { span data-live="lag" { (of("lag")) } " records" } }
                    div { dt { "oldest of them" } dd data-live="lag.age" { (of("lag.age")) } }
                    div { dt { "landed since the start" } dd data-live="landed" { (of("landed")) } }
                    div { dt { "dead letters" } dd data-live="dead" { (of("dead")) } }
                    div { dt { "last 15 minutes" } dd { (spark("lag.trend", of("lag.trend"), "Records left to land over the last 15 minutes")) } }
                }
                @if shown.is_empty() {
                    p.empty { "No partition is known yet: the group has not been joined. If that lasts, see above, and " code { "groundtrack check" } "." }
                } @else {
                    div.scroll tabindex="0" role="region" aria-label="Partitions" {
                        table {
                            thead { tr {
                                th scope="col" { "Partition" } th scope="col" { "State" }
                                th.n scope="col" { "Checkpoint" } th.n scope="col" { "Log end" }
                                th.n scope="col" { "Lag" } th.n scope="col" { "Age" }
                                th.n scope="col" { "Kept for" } th.n scope="col" { "Landed" }
                                th scope="col" { "Trend" }
                            } }
                            tbody {
                                @for one in &shown {
                                    @let name = |part: &str| format!("p{}.{part}", one.partition);
                                    tr {
                                        th scope="row" { (one.partition) }
                                        td { span.badge data-live=(name("state")) data-live-state=(name("state")) data-state=(of(&name("state"))) { (of(&name("state"))) } }
                                        @for part in ["next", "end", "lag", "age", "kept", "landed"] {
                                            td.n data-live=(name(part)) { (of(&name(part))) }
                                        }
                                        td { (spark(&name("trend"), of(&name("trend")), &format!("Lag of partition {} over the last 15 minutes", one.partition))) }
                                    }
                                }
                            }
                        }
                    }
                    @if folded > 0 {
                        p.notes { "These are the worst; " (words::number(folded as i64)) " more are in " a href="/api/status" { "/api/status" } "." }
                    }
                }
            }
        }
    }

    fn section_files(&self, live: &Live) -> Markup {
        html! {
            section #files data-shape=[live.shapes.get("files")] {
                h2 { "Files landed last" }
                @if self.files.is_empty() {
                    p.empty { "None since this page's server started. A file is closed by its rows, its bytes or its age, see " code { "[files]" } "." }
                } @else {
                    div.scroll tabindex="0" role="region" aria-label="Files" {
                        table {
                            thead { tr {
                                th scope="col" { "Landed" } th scope="col" { "Key" }
                                th.n scope="col" { "Rows" } th.n scope="col" { "Size" }
                            } }
                            tbody {
                                @for file in &self.files {
                                    tr {
                                        td { (shell::time(file.landed_at_ms)) }
                                        td.key { code { (file.key) } }
                                        td.n { (words::number(file.rows)) }
                                        td.n { (words::bytes(file.bytes)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn spark(name: &str, path: &str, words: &str) -> Markup {
    let (width, height) = SPARK;
    html! {
        svg.spark viewBox={ "-1 -1 " (width + 2.0) " " (height + 2.0) } role="img" aria-label=(words) {
            path d=(path) data-live-d=(name) {}
        }
    }
}
