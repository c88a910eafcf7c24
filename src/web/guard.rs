//! What stands before every answer: only reading, only for names that are ours, and headers that
//! tell a browser to do nothing with it but show it.

use std::net::{IpAddr, SocketAddr};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::http::{Method, StatusCode, Version};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpResponse};
use serde_json::json;

use super::page::Page;

/// Sent with every answer.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// Refuses what is not for us, and puts the security headers on every answer.
pub(super) async fn guard(
    page: Data<Page>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let mut response = match refusal(&request, &page) {
        Some(refusal) => request.into_response(refusal),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        // The page's own files may be kept, and say so.
        if !(name == CACHE_CONTROL && headers.contains_key(CACHE_CONTROL)) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    Ok(response)
}

fn refusal(request: &ServiceRequest, page: &Page) -> Option<HttpResponse> {
    if !is_for_us(request, page) {
        let words = "the name in Host is not known here: add it to web.hosts";
        let refusal = HttpResponse::build(StatusCode::MISDIRECTED_REQUEST);
        return Some({ refusal }.json(json!({ "error": words })));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let refusal = HttpResponse::MethodNotAllowed()
            .insert_header((ALLOW, "GET, HEAD"))
            .json(json!({ "error": "only GET and HEAD are answered" }));
        return Some(refusal);
    }
    None
}

/// A page elsewhere whose name is made to resolve to us (DNS rebinding) sends its own name.
fn is_for_us(request: &ServiceRequest, page: &Page) -> bool {
    let settings = &page.settings;
    let is_ours = |host: &str| is_our_name(host, settings.listen, &settings.hosts);
    let mut hosts = request.headers().get_all(HOST);
    let host_is_ours = match (hosts.next(), hosts.next()) {
        // No browser sends HTTP/1.0; health checks of load balancers do, without a Host.
        (None, _) => request.version() == Version::HTTP_10,
        (Some(host), None) => host.to_str().is_ok_and(is_ours),
        (Some(_), Some(_)) => false,
    };
    let authority = request.uri().authority();
    host_is_ours && authority.is_none_or(|authority| is_ours(authority.as_str()))
}

/// Whether `host`, as in the header, names us: a loopback name, the address that is listened on
/// (any address, where that is all of them: no name can be made to be an address), or one of
/// `hosts`.
fn is_our_name(host: &str, listen: SocketAddr, hosts: &[String]) -> bool {
    let host = host.to_ascii_lowercase();
    let name = without_port(&host);
    if name == "localhost" {
        return true;
    }
    if let Ok(address) = name.parse::<IpAddr>()
        && (address.is_loopback() || listen.ip().is_unspecified() || address == listen.ip())
    {
        return true;
    }
    hosts
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(&host))
}

/// `name:9000` and `[::1]:9000` without their ports and brackets.
fn without_port(host: &str) -> &str {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ours(host: &str) -> bool {
        let listen = "10.0.0.7:9000".parse().unwrap();
        is_our_name(host, listen, &["page.example".to_owned()])
    }

    #[test]
    fn loopback_the_listening_address_and_named_hosts_are_ours() {
        for host in [
            "localhost",
            "LocalHost:9000",
            "localhost.:9000",
            "127.0.0.1:9000",
            "127.8.8.8",
            "[::1]:9000",
            "10.0.0.7:9000",
            "page.example",
            "Page.Example:443",
        ] {
            assert!(is_ours(host), "{host}");
        }
    }

    #[test]
    fn any_other_name_is_not() {
        for host in [
            "",
            ":9000",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9000",
            "10.0.0.8",
            "page.example.evil.example",
            "[evil.example]",
            "user@localhost",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }

    #[test]
    fn where_all_addresses_are_listened_on_any_address_is_ours_but_no_name() {
        let listen = "0.0.0.0:9000".parse().unwrap();
        assert!(is_our_name("192.168.1.5:9000", listen, &[]));
        assert!(!is_our_name("rebound.example:9000", listen, &[]));
    }
}
