//! What a break costs on a line of 600 ms: bytes that travel twice, and round trips until new ones do.

use std::sync::Arc;

use narrowboat_storage::name::Realm;
use narrowboat_wan::sync::{Frontier, Source};

use crate::common::rng::Rng;
use crate::common::store::MemoryStore;
use crate::common::tree::{Dataset, Size};
use crate::line::Line;
use crate::world::{BRANCH, Ended, Script, attempt, replication};

/// A geostationary satellite: 10 Mbit/s, 600 ms there and back.
const SATELLITE: Line = Line {
    bits_per_second: 10_000_000,
    one_way_us: 300_000,
    jitter_us: 0,
    loss_one_in: 0,
    segment_bytes: 8_000,
    streams: 4,
};
const ROUND_TRIP_US: u64 = 2 * SATELLITE.one_way_us;
/// What the line takes in two round trips.
const TWO_BDP: u64 = SATELLITE.bits_per_second / 8 * 2 * ROUND_TRIP_US / 1_000_000;
/// What a link lets be under way there, and how many chunks it asks ahead.
const WINDOW: u64 = (4 << 20) + TWO_BDP;
const NAMES_AHEAD: usize = (TWO_BDP / (16 << 10)) as usize;

/// What happens between two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// The line alone is cut.
    Line,
    /// The receiver starts anew.
    Restart,
    /// The sender starts anew, and knows no more how far it was.
    SenderRestart,
    /// The receiver loses its power, and with it what it had not acknowledged.
    Power,
}

/// Some 20 MB below six levels of nodes.
fn dataset() -> Dataset {
    Dataset::random(&mut Rng::new(41), Size { files: 1000, chunks_max: 16, chunk_bytes_max: 5000 })
}

struct Boxes {
    dataset: Dataset,
    source: Arc<MemoryStore>,
    sink: Arc<MemoryStore>,
}

impl Boxes {
    fn new() -> Self {
        let realm = Realm::published();
        Boxes { dataset: dataset(), source: MemoryStore::new(&realm), sink: MemoryStore::new(&realm) }
    }

    fn attempt(&self, cut_us: Option<u64>, frontier: Frontier, names_ahead: usize) -> Ended {
        let snapshot = self.dataset.snapshot(&self.source, 1, BRANCH);
        let mut script = Script { cut_us, frontier, ..Script::honest(SATELLITE, self.source.realm.id()) };
        script.limits.iter_mut().for_each(|limits| limits.window_bytes = WINDOW);
        script.limits[0].names_ahead = names_ahead;
        script.limits[0].rate_expected = Some(SATELLITE.bits_per_second / 8);
        attempt(&self.source, &self.sink, replication(&snapshot, &[]), script, 3).unwrap()
    }
}

/// Round trips until the first object is on its way, and bytes that were sent more than once, before compression.
fn broken(cut_us: u64, what: Break, names_ahead: usize) -> (f64, u64) {
    let boxes = Boxes::new();
    let first = boxes.attempt(Some(cut_us), Frontier::default(), names_ahead);
    assert!(first.sender.0.is_err());
    match what {
        Break::Line | Break::SenderRestart => {}
        Break::Restart => boxes.sink.possessions.forget(),
        Break::Power => boxes.sink.restart(0),
    }
    let frontier = match what {
        Break::SenderRestart => Frontier::default(),
        _ => first.sender.1.frontier.clone(),
    };
    let second = boxes.attempt(None, frontier, names_ahead);
    second.sender.0.as_ref().unwrap();
    let root = boxes.dataset.snapshot(&boxes.source, 1, BRANCH).root;
    assert_eq!(boxes.sink.closure(root), boxes.source.closure(root));
    let sent = first.sender.1.raw_bytes + second.sender.1.raw_bytes;
    let names = |ended: &Ended| ended.sender.1.chunks.offered + ended.sender.1.nodes.offered;
    let round_trips = second.first_object_us.unwrap() as f64 / ROUND_TRIP_US as f64;
    let needed: u64 =
        boxes.source.closure(root).iter().map(|at| boxes.source.read(at.0, &at.1).unwrap().len() as u64).sum();
    println!(
        "{what:?} cut at {:.1} s: {round_trips:.2} round trips, {} bytes twice, {} + {} names, {:.1} s after it",
        cut_us as f64 / 1e6,
        sent - needed,
        names(&first),
        names(&second),
        second.micros as f64 / 1e6
    );
    (round_trips, sent - needed)
}

#[test]
fn after_a_break_new_bytes_travel_within_two_round_trips() {
    for (cut_us, what) in [
        // Before anything was acknowledged.
        (4_000_000, Break::Line),
        (6_300_000, Break::Line),
        (6_300_000, Break::Restart),
        (9_000_000, Break::Power),
    ] {
        let (round_trips, twice) = broken(cut_us, what, NAMES_AHEAD);
        // Hello and Offer to Begin, questions to answers; and what nodes take to be read, and questions on the line.
        assert!(round_trips < 2.25, "{round_trips} round trips");
        assert!(twice <= WINDOW, "{twice} bytes twice");
    }
    let (one_by_one, _) = broken(6_300_000, Break::Line, 0);
    assert!(one_by_one > 5.0, "the tree has levels: {one_by_one}");
}

/// Then nobody knows where the first copy broke off: questions from the top find it, and nothing is sent again but what was under way.
#[test]
fn a_sender_that_starts_anew_finds_where_it_was() {
    let (round_trips, twice) = broken(6_300_000, Break::SenderRestart, NAMES_AHEAD);
    let (one_by_one, _) = broken(6_300_000, Break::Line, 0);
    assert!(round_trips + 1.0 < one_by_one, "{round_trips} round trips, {one_by_one} without guesses");
    assert!(twice <= WINDOW, "{twice} bytes twice");
}
