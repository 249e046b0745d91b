//! `Idempotency-Key`: a request that is sent again, because nobody knows whether it arrived, is done once. The box keeps what came of it
//! ([`crate::repeats`]); here it is only said which request it is.

use axum::http::HeaderMap;

use super::problem::Problem;

/// The name of the header.
pub(super) const HEADER: &str = "idempotency-key";
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The key that a request has.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let plain = !text.is_empty() && text.len() <= KEY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    match plain && values.next().is_none() {
        true => Ok(Some(text.to_owned())),
        false => {
            let sentence = format!("Idempotency-Key is one word of 1 to {KEY_BYTES_MAX} plain characters");
            Err(Problem::bad("Idempotency-Key", sentence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_plain_word() {
        let sent = |values: &[&str]| {
            let pairs = values
                .iter()
                .map(|value| (axum::http::HeaderName::from_static(HEADER), value.parse().expect("a value")));
            key(&pairs.collect::<HeaderMap>())
        };
        assert_eq!((sent(&[]).expect("none"), sent(&["a-1"]).expect("one")), (None, Some("a-1".into())));
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        for wrong in [&[""][..], &["a b"], &["a", "b"], &[&long]] {
            assert_eq!(sent(wrong).map_err(|problem| problem.status()), Err(400), "{wrong:?}");
        }
    }
}
