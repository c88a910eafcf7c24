//! The files that a page refers to, embedded. Each has a name of its content, so that a browser
//! may keep it for ever and never has an old one.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web;

/// The land of the earth as one SVG path over the whole map; see `land.py` beside it.
pub(super) const LAND: &str = include_str!("assets/land.path");

/// One file.
#[derive(Debug)]
pub(super) struct Asset {
    /// Below the page's root.
    pub(super) path: String,
    kind: &'static str,
    content: &'static str,
}

/// How it looks.
pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("assets/page.css");
    Asset::new("page", "css", "text/css; charset=utf-8", content)
});

/// What keeps it up to date.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("assets/page.js");
    Asset::new("page", "js", "text/javascript; charset=utf-8", content)
});

impl Asset {
    fn new(name: &str, ending: &str, kind: &'static str, content: &'static str) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64(content.as_bytes());
        Self {
            path: format!("/assets/{name}-{hash:016x}.{ending}"),
            kind,
            content,
        }
    }

    fn answer(&self) -> HttpResponse {
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, self.kind))
            .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
            .body(self.content)
    }
}

/// The routes of all files.
pub(super) fn routes(app: &mut web::ServiceConfig) {
    for asset in [&STYLE, &SCRIPT] {
        app.route(&asset.path, web::to(|| async { asset.answer() }));
    }
}
