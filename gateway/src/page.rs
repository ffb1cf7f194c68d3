//! The operator's page: the files of `dashboard/`, built into the binary and served as they are.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ring::digest::{SHA256, digest};

use crate::certs::to_hex;

/// What the page may load: its own files and its own gateway, nothing else; no inline script or style.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file: the path it is served under, its media type and its text.
#[derive(Clone, Copy, Debug)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($path:literal => $file:literal as $kind:expr),+ $(,)?) => {
        [$(Asset { path: $path, kind: $kind, text: include_str!(concat!("../../dashboard/", $file)) }),+]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const ASSETS: [Asset; 14] = assets![
    "/" => "index.html" as HTML,
    "/style.css" => "style.css" as CSS,
    "/icon.svg" => "icon.svg" as SVG,
    "/src/main.js" => "src/main.js" as JS,
    "/src/api.js" => "src/api.js" as JS,
    "/src/clock.js" => "src/clock.js" as JS,
    "/src/commands.js" => "src/commands.js" as JS,
    "/src/events.js" => "src/events.js" as JS,
    "/src/fleet.js" => "src/fleet.js" as JS,
    "/src/format.js" => "src/format.js" as JS,
    "/src/map.js" => "src/map.js" as JS,
    "/src/sse.js" => "src/sse.js" as JS,
    "/src/token.js" => "src/token.js" as JS,
    "/src/view.js" => "src/view.js" as JS,
];

/// Routes for the page and its files. Browsers ask again each time and get 304 while nothing changed,
/// so a new gateway never runs with an old page.
pub fn router() -> Router {
    ASSETS.into_iter().fold(Router::new(), |router, asset| {
        let etag: Arc<str> = etag(asset.text).into();
        router.route(asset.path, get(move |headers: HeaderMap| async move { serve(asset, &etag, &headers) }))
    })
}

fn serve(asset: Asset, etag: &str, request: &HeaderMap) -> Response {
    let known = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let headers: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, asset.kind),
        (ETAG, etag),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    // Axum wants owned values for what does not live forever.
    let headers = headers.map(|(name, value)| (name, value.to_owned()));
    if known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.text).into_response()
}

/// A quoted hash of the text.
fn etag(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    format!("\"{}\"", to_hex(&hash.as_ref()[..16]))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn fetch(path: &str, etag: Option<&str>) -> Response {
        let mut request = Request::get(path);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    fn header(response: &Response, name: HeaderName) -> String {
        response.headers()[name].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn every_file_comes_with_its_type_and_the_strict_policy() {
        for asset in ASSETS {
            let response = fetch(asset.path, None).await;
            assert_eq!(response.status(), StatusCode::OK, "{}", asset.path);
            assert_eq!(header(&response, CONTENT_TYPE), asset.kind, "{}", asset.path);
            assert_eq!(header(&response, CONTENT_SECURITY_POLICY), POLICY);
            assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), "nosniff");
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            assert_eq!(body, asset.text);
        }
        assert!(!POLICY.contains("unsafe"));
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let etag = header(&fetch("/src/main.js", None).await, ETAG);
        let again = fetch("/src/main.js", Some(&etag)).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(header(&again, ETAG), etag);
        assert_eq!(fetch("/src/main.js", Some("\"old\"")).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn other_files_of_the_folder_are_not_served() {
        for path in ["/package.json", "/src/../package.json", "/test/browser.test.js", "/src/"] {
            assert_eq!(fetch(path, None).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn every_module_and_file_that_the_page_asks_for_is_there() {
        for asset in ASSETS.iter().filter(|asset| asset.kind == JS) {
            for line in asset.text.lines().filter(|line| line.contains(" from \"./")) {
                let name = line.split(" from \"./").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
                let path = format!("/src/{name}");
                assert!(ASSETS.iter().any(|asset| asset.path == path), "{} imports {path}", asset.path);
            }
        }
        let page = ASSETS[0].text;
        for part in page.split(['"']).filter(|part| part.starts_with('/') && part.contains('.')) {
            assert!(ASSETS.iter().any(|asset| asset.path == part), "the page asks for {part}");
        }
    }

    #[test]
    fn the_page_has_no_inline_script_or_style_and_asks_nobody_else() {
        let page = ASSETS[0].text;
        for forbidden in ["<style", "style=", "onclick=", "onload=", "javascript:", "http://", "https://"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.split("<script").skip(1).all(|tag| tag.contains("src=")), "a script without src");
        for asset in ASSETS.iter().filter(|asset| asset.kind == JS) {
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!asset.text.contains(forbidden), "{}: {forbidden}", asset.path);
            }
        }
    }
}
