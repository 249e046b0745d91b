//! The two cookies of the page, and nothing else about cookies.
//!
//! `__Host-` makes a browser refuse them from anything but this very host over TLS, so no neighbour under the same domain can plant one (RFC 6265bis, 4.1.3.2).

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};

/// Holds the session of who is signed in.
pub(super) const SESSION: &str = "__Host-narrowboat";
/// Holds a random number that ties forms to a browser where nobody is signed in yet.
pub(super) const FORM: &str = "__Host-narrowboat-form";
/// Longest value that is looked at.
const VALUE_BYTES_MAX: usize = 512;

/// The value of a cookie; `None` where it is not there, comes twice, or holds what was never given out.
pub(super) fn read(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok()).flat_map(|text| text.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(found, _)| *found == name);
    let (_, value) = values.next()?;
    (values.next().is_none() && is_plain(value)).then(|| value.to_owned())
}

/// Has the browser keep a value until it is closed. What could end the header early is not sent at all.
pub(super) fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    if is_plain(value) {
        put(headers, &format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict"));
    }
}

/// Has the browser forget a value.
pub(super) fn forget(headers: &mut HeaderMap, name: &str) {
    put(headers, &format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"));
}

fn put(headers: &mut HeaderMap, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.append(SET_COOKIE, value);
    }
}

fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte);
    !value.is_empty() && value.len() <= VALUE_BYTES_MAX && value.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(texts: &[&str]) -> HeaderMap {
        texts.iter().map(|text| (COOKIE, HeaderValue::from_str(text).expect("a header"))).collect()
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = sent(&["a=b; __Host-narrowboat=s3cret.x; theme=dark", "c=d"]);
        assert_eq!(read(&headers, SESSION).as_deref(), Some("s3cret.x"));
        assert_eq!(read(&headers, FORM), None);
    }

    #[test]
    fn what_was_never_given_out_is_no_cookie() {
        let long = format!("{SESSION}={}", "x".repeat(VALUE_BYTES_MAX + 1));
        let wrong =
            ["__Host-narrowboat=", "__Host-narrowboat=a\"b", "__Host-narrowboat=a b", "__Host-narrowboat", &long];
        for text in wrong {
            assert_eq!(read(&sent(&[text]), SESSION), None, "{text}");
        }
        assert_eq!(read(&sent(&["__Host-narrowboat=a; __Host-narrowboat=b"]), SESSION), None, "which of the two?");
    }

    #[test]
    fn a_cookie_is_for_this_host_and_no_script() {
        let mut headers = HeaderMap::new();
        set(&mut headers, SESSION, "abc");
        forget(&mut headers, FORM);
        set(&mut headers, SESSION, "a\r\nX: y");
        set(&mut headers, SESSION, "a; Domain=evil");
        let all: Vec<_> = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
        assert_eq!(
            all,
            [
                "__Host-narrowboat=abc; Path=/; Secure; HttpOnly; SameSite=Strict",
                "__Host-narrowboat-form=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0",
            ]
        );
    }
}
