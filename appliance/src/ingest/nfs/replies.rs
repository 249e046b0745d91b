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
//! procedure and a checksum of its arguments. It is a value: no locks, no clock. Bounded by entries and by bytes;
//! the oldest answers go first, calls under way never.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;
use narrowboat_storage::dataset::CallTag;

use super::handle::HandleKey;

/// Of long arguments (WRITE) this many bytes are looked at, and their length: more would cost more than it tells apart.
const ARGUMENT_BYTES_SEEN: usize = 512;
/// Fixed cost that is counted for each entry beside its answer.
const ENTRY_BYTES: usize = 128;

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
    /// Answered calls, oldest first.
    order: VecDeque<CallTag>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Replies {
    /// An empty cache that keeps at most `entries_max` answers of together `bytes_max` bytes.
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Replies { entries: HashMap::new(), order: VecDeque::new(), bytes: 0, entries_max, bytes_max }
    }

    /// Says what to do with a call, and notes that it is under way where it is new.
    pub fn begin(&mut self, tag: CallTag) -> Verdict {
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
        self.order.push_back(tag);
        while self.order.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(Some(answer)) = self.entries.remove(&oldest) {
                self.bytes -= answer.len() + ENTRY_BYTES;
            }
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

    fn numbered(number: u32) -> CallTag {
        tag(&HandleKey::new(b"k"), IpAddr::from([10, 0, 0, 1]), number, 8, b"arguments")
    }

    #[test]
    fn a_repetition_gets_the_first_answer() {
        let mut replies = Replies::new(10, 1 << 20);
        assert_eq!(replies.begin(numbered(1)), Verdict::New);
        assert_eq!(replies.begin(numbered(1)), Verdict::UnderWay);
        assert_eq!(replies.begin(numbered(2)), Verdict::New);
        replies.finish(numbered(1), Bytes::from_static(b"first"));
        replies.finish(numbered(1), Bytes::from_static(b"second"));
        assert_eq!(replies.begin(numbered(1)), Verdict::Answered(Bytes::from_static(b"first")));
        replies.abandon(numbered(1));
        assert_eq!(replies.begin(numbered(1)), Verdict::Answered(Bytes::from_static(b"first")), "an answer stays");
        replies.abandon(numbered(2));
        assert_eq!(replies.begin(numbered(2)), Verdict::New);
    }

    #[test]
    fn it_is_bounded_by_entries_and_by_bytes() {
        let mut replies = Replies::new(4, 1 << 20);
        assert_eq!(replies.begin(numbered(1000)), Verdict::New);
        for number in 0..100 {
            assert_eq!(replies.begin(numbered(number)), Verdict::New);
            replies.finish(numbered(number), Bytes::from(vec![0; 100]));
            assert!(replies.len() <= 4);
        }
        assert_eq!(replies.bytes(), 4 * (100 + ENTRY_BYTES));
        assert_eq!(replies.begin(numbered(95)), Verdict::New, "gone");
        assert!(matches!(replies.begin(numbered(96)), Verdict::Answered(_)), "kept");
        assert_eq!(replies.begin(numbered(1000)), Verdict::UnderWay, "calls under way stay");

        let mut replies = Replies::new(1000, 1000);
        for number in 0..100 {
            replies.begin(numbered(number));
            replies.finish(numbered(number), Bytes::from(vec![0; 400]));
            assert!(replies.bytes() <= 1000);
        }
        assert_eq!(replies.len(), 1);
        replies.begin(numbered(200));
        replies.finish(numbered(200), Bytes::from(vec![0; 5000]));
        assert_eq!((replies.len(), replies.bytes()), (0, 0), "one answer over the bound is not kept");
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
