//! Who sent a form: only a page of this box may, with the token that this box put into it.
//!
//! Two walls, each enough by itself. What the browser says about the page that sends (`Sec-Fetch-Site`, `Origin`) has to be this box; and the form has
//! to hold a token that only a page of this box can know: a hash of the session, or, before anybody is signed in, of a random number in a
//! cookie of its own.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

use super::cookies;

/// The contexts of the hashes (BLAKE3, `derive_key`).
const SESSION_CONTEXT: &str = "narrowboat page 2026-11-23 form of a session";
const FORM_CONTEXT: &str = "narrowboat page 2026-11-23 form before sign-in";

/// The token of forms in this browser: of its session, or else of its form cookie. `None` where it has neither.
pub(super) fn token(headers: &HeaderMap) -> Option<blake3::Hash> {
    let session = cookies::read(headers, cookies::SESSION).map(|session| of_session(&session));
    session.or_else(|| cookies::read(headers, cookies::FORM).map(|number| of_form(&number)))
}

/// The token of forms for whoever is signed in.
pub(super) fn of_session(session: &str) -> blake3::Hash {
    blake3::derive_key(SESSION_CONTEXT, session.as_bytes()).into()
}

/// The token of forms before sign-in.
pub(super) fn of_form(number: &str) -> blake3::Hash {
    blake3::derive_key(FORM_CONTEXT, number.as_bytes()).into()
}

/// A number for the cookie of forms.
pub(super) fn new_number() -> String {
    blake3::Hash::from(rand::random::<[u8; 32]>()).to_hex().to_string()
}

/// True where a form came from a page of this box: its token is one of those that this browser was given. The comparison takes the same time whatever
/// differs (`blake3::Hash`).
pub(super) fn holds(headers: &HeaderMap, sent: &str) -> bool {
    blake3::Hash::from_hex(sent).is_ok_and(|sent| token(headers).is_some_and(|token| token == sent))
}

/// True where the browser says that a page of this box asks. One that says nothing at all about it is no browser that this page is made for.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = text("sec-fetch-site");
    let origin = text(ORIGIN.as_str());
    let host = text(HOST.as_str()).unwrap_or_default();
    let is_here = |origin: &str| {
        origin.strip_prefix("https://").is_some_and(|there| !there.is_empty() && there.eq_ignore_ascii_case(host))
    };
    site.is_none_or(|site| site == "same-origin") && origin.is_none_or(is_here) && (site.is_some() || origin.is_some())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn sent(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn only_pages_of_this_box_may_send_forms() {
        let host = ("host", "box.local:8443");
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[host, ("origin", "https://box.local:8443")], true),
            (&[host, ("origin", "https://BOX.local:8443"), ("sec-fetch-site", "same-origin")], true),
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host], false),
            (&[host, ("origin", "https://box.local")], false),
            (&[host, ("origin", "http://box.local:8443")], false),
            (&[host, ("origin", "null")], false),
            (&[host, ("origin", "https://box.local:8443"), ("sec-fetch-site", "same-site")], false),
            (&[("origin", "https://")], false),
        ];
        for (pairs, may) in cases {
            let pairs: Vec<(&'static str, &str)> = pairs.to_vec();
            assert_eq!(is_own(&sent(&pairs)), may, "{pairs:?}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_session_alone() {
        let (mine, other) = (of_session("mine"), of_session("other"));
        let headers = sent(&[("cookie", "__Host-narrowboat=mine")]);
        assert!(holds(&headers, &mine.to_hex()));
        for wrong in [other.to_hex().as_str(), "", "mine", &of_form("mine").to_hex(), &mine.to_hex()[..63]] {
            assert!(!holds(&headers, wrong), "{wrong}");
        }
        assert!(!holds(&sent(&[]), &mine.to_hex()), "nobody has that session");
        let before = sent(&[("cookie", "__Host-narrowboat-form=17")]);
        assert!(holds(&before, &of_form("17").to_hex()) && !holds(&before, &of_form("18").to_hex()));
    }
}
