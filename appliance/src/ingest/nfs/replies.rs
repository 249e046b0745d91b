//! The duplicate request cache: a call that is repeated gets its first answer and is not carried out again.
//!
//! A client that hears nothing repeats its call, perhaps over a new connection. For calls that change something a
//! second execution would be wrong: the second REMOVE fails, a late WRITE overwrites a newer one. So:
//!
//! * a call that is under way is not begun again: the repetition is dropped, the client will ask once more;
//! * a call that was answered gets the same bytes again, while they are kept;
//! * after a restart the cache is empty, and the dataset's journal remembers what calls did ([`CallTag`]); the session
//!   rebuilds the answer from that.
//!
//! A call is recognised by the client's address (without its port: a new connection has a new one), transaction id,
//! procedure and a checksum of its arguments. A client that starts anew may count its calls from the same number again, and what
//! looks like a repetition is then a new call. So nothing is remembered for longer than clients repeat a call over a line that is
//! up: an answer for [`ANSWER_KEPT`] after it was given (as in Linux's server, `RC_EXPIRE` in fs/nfsd/nfscache.c), what the journal
//! knows for one to two [`PERIOD`]s after the change ([`Tags`]). A repetition that comes later is carried out once more.
//!
//! It is a value: no locks, no clock; time comes in with each call. Bounded by entries, by bytes and by age; the oldest answers go
//! first, calls under way never.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use narrowboat_storage::dataset::CallTag;
use narrowboat_storage::units::Timestamp;

use super::handle::HandleKey;

/// Of long arguments (WRITE) this many bytes are looked at, and their length: more would cost more than it tells apart.
const ARGUMENT_BYTES_SEEN: usize = 512;
/// Fixed cost that is counted for each entry beside its answer.
const ENTRY_BYTES: usize = 128;

/// How long an answer is kept. Linux clients repeat a call after 60 s on a stream.
pub const ANSWER_KEPT: Duration = Duration::from_secs(120);
/// The journal believes a call's tag in the period in which the call came in, and in the next: long enough for a box to
/// start again after a power cut.
pub const PERIOD: Duration = Duration::from_secs(180);

/// A call as the journal knows it: each period of time gives it another tag, so that an old one means nothing any more, without a
/// clock in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// What it is remembered as.
    pub now: CallTag,
    /// What it was remembered as if it came in during the period before.
    pub before: CallTag,
}

impl Tags {
    /// The tags of a call that came in at `now`.
    pub fn of(CallTag(tag): CallTag, now: Timestamp) -> Self {
        let period = now.0.div_euclid(PERIOD.as_nanos() as i64);
        // Tags are hashes: two that differ by a few low bits in one place are as unlikely as two that are equal.
        let within = |period: i64| CallTag((u128::from_le_bytes(tag) ^ u128::from(period as u64)).to_le_bytes());
        Tags { now: within(period), before: within(period.saturating_sub(1)) }
    }
}

/// Computes the tag of a call. The same after a restart, as long as `key` is.
pub fn tag(key: &HandleKey, client: IpAddr, xid: u32, procedure: u32, arguments: &[u8]) -> CallTag {
    let mut hasher = key.hasher();
    match client.to_canonical() {
        IpAddr::V4(address) => hasher.update(&address.octets()),
        IpAddr::V6(address) => hasher.update(&address.octets()),
    };
    hasher.update(&xid.to_le_bytes());
    hasher.update(&procedure.to_le_bytes());
    hasher.update(&(arguments.len() as u64).to_le_bytes());
    hasher.update(arguments.get(..ARGUMENT_BYTES_SEEN).unwrap_or(arguments));
    let mut tag = [0; 16];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    CallTag(tag)
}

/// What to do with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it out, then [`Replies::finish`] or [`Replies::abandon`].
    New,
    /// It is being carried out: say nothing.
    UnderWay,
    /// It was carried out: this was the answer.
    Answered(Bytes),
}

/// Answers that were given.
#[derive(Debug)]
pub struct Replies {
    /// `None` while the call is under way.
    entries: HashMap<CallTag, Option<Bytes>>,
    /// Answered calls, oldest first, and the latest that was heard of time when each was.
    order: VecDeque<(CallTag, Timestamp)>,
    /// The latest that was heard of time.
    latest: Timestamp,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Replies {
    /// An empty cache that keeps at most `entries_max` answers of together `bytes_max` bytes.
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Replies {
            entries: HashMap::new(),
            order: VecDeque::new(),
            latest: Timestamp(i64::MIN),
            bytes: 0,
            entries_max,
            bytes_max,
        }
    }

    /// Says what to do with a call that comes in at `now`, and notes that it is under way where it is new.
    pub fn begin(&mut self, tag: CallTag, now: Timestamp) -> Verdict {
        self.latest = self.latest.max(now);
        let kept = ANSWER_KEPT.as_nanos() as i64;
        while self.order.front().is_some_and(|(_, answered)| self.latest.0.saturating_sub(answered.0) > kept) {
            self.forget_oldest();
        }
        match self.entries.get(&tag) {
            Some(Some(answer)) => Verdict::Answered(answer.clone()),
            Some(None) => Verdict::UnderWay,
            None => {
                self.entries.insert(tag, None);
                Verdict::New
            }
        }
    }

    /// Keeps the answer of a call that was [`Verdict::New`].
    pub fn finish(&mut self, tag: CallTag, answer: Bytes) {
        let Some(slot) = self.entries.get_mut(&tag) else { return };
        if slot.is_some() {
            return;
        }
        self.bytes += answer.len() + ENTRY_BYTES;
        *slot = Some(answer);
        self.order.push_back((tag, self.latest));
        while self.order.len() > self.entries_max || self.bytes > self.bytes_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((oldest, _)) = self.order.pop_front()
            && let Some(Some(answer)) = self.entries.remove(&oldest)
        {
            self.bytes -= answer.len() + ENTRY_BYTES;
        }
    }

    /// Forgets a call that was [`Verdict::New`] and gets no answer worth keeping: a repetition is carried out.
    pub fn abandon(&mut self, tag: CallTag) {
        if self.entries.get(&tag).is_some_and(Option::is_none) {
            self.entries.remove(&tag);
        }
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True where no answer is kept.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What the answers take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

    fn seconds_later(seconds: i64) -> Timestamp {
        Timestamp(NOW.0 + seconds * 1_000_000_000)
    }

    fn numbered(number: u32) -> CallTag {
        tag(&HandleKey::new(b"k"), IpAddr::from([10, 0, 0, 1]), number, 8, b"arguments")
    }

    #[test]
    fn a_repetition_gets_the_first_answer() {
        let mut replies = Replies::new(10, 1 << 20);
        assert_eq!(replies.begin(numbered(1), NOW), Verdict::New);
        assert_eq!(replies.begin(numbered(1), NOW), Verdict::UnderWay);
        assert_eq!(replies.begin(numbered(2), NOW), Verdict::New);
        replies.finish(numbered(1), Bytes::from_static(b"first"));
        replies.finish(numbered(1), Bytes::from_static(b"second"));
        assert_eq!(replies.begin(numbered(1), NOW), Verdict::Answered(Bytes::from_static(b"first")));
        replies.abandon(numbered(1));
        assert_eq!(replies.begin(numbered(1), NOW), Verdict::Answered(Bytes::from_static(b"first")), "an answer stays");
        replies.abandon(numbered(2));
        assert_eq!(replies.begin(numbered(2), NOW), Verdict::New);
    }

    #[test]
    fn it_is_bounded_by_entries_and_by_bytes() {
        let mut replies = Replies::new(4, 1 << 20);
        assert_eq!(replies.begin(numbered(1000), NOW), Verdict::New);
        for number in 0..100 {
            assert_eq!(replies.begin(numbered(number), NOW), Verdict::New);
            replies.finish(numbered(number), Bytes::from(vec![0; 100]));
            assert!(replies.len() <= 4);
        }
        assert_eq!(replies.bytes(), 4 * (100 + ENTRY_BYTES));
        assert_eq!(replies.begin(numbered(95), NOW), Verdict::New, "gone");
        assert!(matches!(replies.begin(numbered(96), NOW), Verdict::Answered(_)), "kept");
        assert_eq!(replies.begin(numbered(1000), NOW), Verdict::UnderWay, "calls under way stay");

        let mut replies = Replies::new(1000, 1000);
        for number in 0..100 {
            replies.begin(numbered(number), NOW);
            replies.finish(numbered(number), Bytes::from(vec![0; 400]));
            assert!(replies.bytes() <= 1000);
        }
        assert_eq!(replies.len(), 1);
        replies.begin(numbered(200), NOW);
        replies.finish(numbered(200), Bytes::from(vec![0; 5000]));
        assert_eq!((replies.len(), replies.bytes()), (0, 0), "one answer over the bound is not kept");
    }

    #[test]
    fn an_answer_is_forgotten_when_nobody_repeats_the_call_any_more() {
        let mut replies = Replies::new(10, 1 << 20);
        assert_eq!(replies.begin(numbered(1), NOW), Verdict::New);
        assert_eq!(replies.begin(numbered(2), seconds_later(100)), Verdict::New);
        replies.finish(numbered(1), Bytes::from_static(b"answer"));
        assert!(
            matches!(replies.begin(numbered(1), seconds_later(220)), Verdict::Answered(_)),
            "120 s after the answer"
        );
        assert!(
            matches!(replies.begin(numbered(1), NOW), Verdict::Answered(_)),
            "time that runs backwards does no harm"
        );
        assert_eq!(replies.begin(numbered(1), seconds_later(221)), Verdict::New);
        assert_eq!((replies.len(), replies.bytes()), (0, 0));
        assert_eq!(replies.begin(numbered(2), seconds_later(10_000)), Verdict::UnderWay, "calls under way stay");
    }

    #[test]
    fn the_journal_believes_a_tag_for_one_to_two_periods() {
        let period = PERIOD.as_secs() as i64;
        for offset in [0, 1, period - 1, 50 * period, -NOW.0 / 1_000_000_000 - period] {
            let call = seconds_later(offset);
            let after = |seconds: i64| Timestamp(call.0 + seconds * 1_000_000_000);
            let known = |later: Timestamp| {
                let tags = Tags::of(numbered(1), later);
                [tags.now, tags.before].contains(&Tags::of(numbered(1), call).now)
            };
            assert!(known(call) && known(after(period)), "{offset}");
            assert!(!known(after(2 * period)) && !known(after(-period)), "{offset}");
        }
        assert_ne!(Tags::of(numbered(1), NOW).now, Tags::of(numbered(2), NOW).now);
    }

    #[test]
    fn tags_tell_calls_apart() {
        let key = HandleKey::new(b"k");
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = tag(&key, one, 1, 8, b"a");
        assert_eq!(first, tag(&key, one, 1, 8, b"a"));
        assert_eq!(first, tag(&key, "::ffff:10.0.0.1".parse().unwrap(), 1, 8, b"a"));
        let long = [7; 10_000];
        let others = [
            tag(&key, two, 1, 8, b"a"),
            tag(&key, one, 2, 8, b"a"),
            tag(&key, one, 1, 9, b"a"),
            tag(&key, one, 1, 8, b"b"),
            tag(&key, one, 1, 8, &long),
            tag(&key, one, 1, 8, &long[..9_999]),
            tag(&HandleKey::new(b"other"), one, 1, 8, b"a"),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, first);
            assert!(others[..index].iter().all(|earlier| earlier != other));
        }
    }
}
