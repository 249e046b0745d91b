//! What stands above every answer, whatever it is.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// What a page may do: show what this box sends, run this box's script file, ask this box, send forms to this box. No line of script or style in the page itself counts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What a file may do that somebody takes home, where a browser shows it all the same: nothing, not even as a page of this box.
pub(super) const SANDBOX: &str = "default-src 'none'; sandbox";

/// Headers of every answer.
///
/// `Strict-Transport-Security` is missing on purpose: with the box's own certificate, which no authority vouches for, it would take away the browser's "go on
/// all the same", and with it the page. Nothing is served without TLS anyway.
///
/// The referrer stays within this box and is not suppressed altogether: browsers send `Origin: null` with forms of a page that has `no-referrer`, and the
/// origin is what [`super::guard`] asks for.
const ALL: [(HeaderName, &str); 8] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// Puts them there. What says nothing of being kept is not kept.
pub(super) fn put(headers: &mut HeaderMap) {
    let sandboxed = headers.get(CONTENT_SECURITY_POLICY).is_some_and(|policy| policy == SANDBOX);
    for (name, value) in ALL {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if sandboxed {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_not_kept_and_assets_are() {
        let mut headers = HeaderMap::new();
        put(&mut headers);
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert!(!headers[CONTENT_SECURITY_POLICY].to_str().expect("text").contains("unsafe"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("immutable"));
        put(&mut headers);
        assert_eq!(headers[CACHE_CONTROL], "immutable");
        assert!(!headers.contains_key("strict-transport-security"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
        put(&mut headers);
        assert_eq!(headers[CONTENT_SECURITY_POLICY], SANDBOX);
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src *"));
        put(&mut headers);
        assert_eq!(headers[CONTENT_SECURITY_POLICY], POLICY, "there is no third one");
    }
}
