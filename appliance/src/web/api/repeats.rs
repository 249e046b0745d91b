//! `Idempotency-Key`: a request that is sent again, because nobody knows whether it arrived, is done once. Its answer is kept for a day and given again.
//!
//! - The key counts for one user. Another request with it is refused.
//! - What is kept is bounded, for all and for each. Where there is no room, a request with a key is refused before it is done: to
//!   forget one that counts still would be to do it twice.
//! - What was never begun (nobody was signed in, the box was busy) is not kept: it may be sent again with the same key.
//! - It is in memory alone: a page worker that is started again has forgotten it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;

use super::Answer;
use super::problem::{Problem, Sort};

/// The name of the header.
pub(super) const HEADER: &str = "idempotency-key";
/// For how long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// Answers that are kept, in all and of one user.
const ANSWERS_MAX: usize = 4096;
const USER_MAX: usize = 1024;
/// Their bodies, in bytes.
const BYTES_MAX: usize = 8 << 20;
/// What one of them is counted for beside its body.
const EACH_BYTES: usize = 512;

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

/// The user and the key.
type Owner = (String, String);

/// What is kept.
#[derive(Default)]
pub(super) struct Repeats(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    answers: HashMap<Owner, Entry>,
    bytes: usize,
}

struct Entry {
    since: Instant,
    /// Of the method, the address and the body.
    request: blake3::Hash,
    /// None while it is under way.
    answer: Option<Answer>,
}

impl Entry {
    fn bytes(&self) -> usize {
        EACH_BYTES + self.answer.as_ref().map_or(0, |answer| answer.body.len())
    }
}

/// What is to be done with a request that has a key.
pub(super) enum Turn<'a> {
    /// Nothing: this was its answer.
    Again(Answer),
    /// It is the first.
    First(First<'a>),
}

/// A request under way. Its key is free again where this is dropped without an answer.
pub(super) struct First<'a> {
    repeats: &'a Repeats,
    owner: Owner,
    answered: bool,
}

impl Repeats {
    /// Begins a request of a user.
    pub(super) fn begin(
        &self,
        user: &str,
        key: &str,
        request: blake3::Hash,
        now: Instant,
    ) -> Result<Turn<'_>, Problem> {
        let owner = (user.to_owned(), key.to_owned());
        let mut kept = self.lock();
        kept.forget(now);
        if let Some(entry) = kept.answers.get(&owner) {
            return match (&entry.answer, entry.request == request) {
                (_, false) => {
                    Err(Problem::of(Sort::KeyReused, "this key was used for another request: take a new one"))
                }
                (None, true) => Err(Problem::of(Sort::UnderWay, "the request with this key is under way")),
                (Some(answer), true) => Ok(Turn::Again(answer.clone())),
            };
        }
        let own = kept.answers.keys().filter(|(of, _)| of == user).count();
        if own >= USER_MAX || kept.answers.len() >= ANSWERS_MAX || kept.bytes >= BYTES_MAX {
            let sentence =
                "so many requests with a key came within a day that the box can't remember one more: nothing was done";
            return Err(Problem::of(Sort::TooMany, sentence));
        }
        let entry = Entry { since: now, request, answer: None };
        kept.bytes += entry.bytes();
        kept.answers.insert(owner.clone(), entry);
        Ok(Turn::First(First { repeats: self, owner, answered: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, now: Instant) {
        self.answers.retain(|_, entry| entry.answer.is_none() || now.duration_since(entry.since) < KEPT);
        self.bytes = self.answers.values().map(Entry::bytes).sum();
    }
}

impl First<'_> {
    /// Keeps its answer.
    pub(super) fn answered(mut self, answer: &Answer) {
        self.answered = true;
        let mut kept = self.repeats.lock();
        if let Some(entry) = kept.answers.get_mut(&self.owner) {
            entry.answer = Some(answer.clone());
        }
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.repeats.lock().answers.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(length: usize) -> Answer {
        Answer { status: 201, body: vec![b'x'; length] }
    }

    fn request(text: &str) -> blake3::Hash {
        blake3::hash(text.as_bytes())
    }

    fn status(turn: Result<Turn<'_>, Problem>) -> u16 {
        match turn {
            Ok(Turn::First(_)) => 0,
            Ok(Turn::Again(answer)) => answer.status,
            Err(problem) => problem.status(),
        }
    }

    #[test]
    fn a_request_is_done_once_for_a_day() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let Ok(Turn::First(first)) = repeats.begin("anna", "k", request("a"), now) else { panic!("it is the first") };
        assert_eq!(status(repeats.begin("anna", "k", request("a"), now)), 409, "under way");
        first.answered(&answer(3));
        assert_eq!(status(repeats.begin("anna", "k", request("a"), now)), 201);
        assert_eq!(status(repeats.begin("anna", "k", request("b"), now)), 422);
        assert_eq!(status(repeats.begin("bert", "k", request("b"), now)), 0, "another one's key is another key");
        let late = now + KEPT - Duration::from_secs(1);
        assert_eq!(status(repeats.begin("anna", "k", request("a"), late)), 201);
        assert_eq!(status(repeats.begin("anna", "k", request("a"), now + KEPT)), 0);
    }

    #[test]
    fn what_was_not_begun_leaves_its_key_free() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        drop(repeats.begin("anna", "k", request("a"), now));
        assert_eq!(status(repeats.begin("anna", "k", request("b"), now)), 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let fill_at = |user: &str, key: &str, length: usize, now| match repeats.begin(user, key, request("a"), now) {
            Ok(Turn::First(first)) => {
                first.answered(&answer(length));
                true
            }
            _ => false,
        };
        let fill = |user: &str, key: &str, length| fill_at(user, key, length, now);
        assert!((0..USER_MAX).all(|n| fill("anna", &n.to_string(), 1)) && !fill("anna", "more", 1));
        assert!(fill("bert", "large", BYTES_MAX) && !fill("bert", "more", 1) && !fill("carla", "any", 1));
        let tomorrow = now + KEPT;
        assert!(fill_at("anna", "more", 1, tomorrow) && fill_at("carla", "any", 1, tomorrow));
    }

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
