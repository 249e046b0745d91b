//! What replication promises, counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use narrowboat_storage::name::{Kind, Realm};
use narrowboat_wan::sync::Limits;
use narrowboat_wan::sync::seam::Mark;

use crate::common::rng::Rng;
use crate::common::store::MemoryStore;
use crate::common::tree::{Dataset, Size};
use crate::line::Line;
use crate::world::{BRANCH, Ended, Script, attempt, replication};

const SIZE: Size = Size { files: 400, chunks_max: 20, chunk_bytes_max: 2000 };
/// A satellite: 20 Mbit/s, 300 ms there and back.
const SATELLITE: Line = Line {
    bits_per_second: 20_000_000,
    one_way_us: 150_000,
    jitter_us: 0,
    loss_one_in: 0,
    segment_bytes: 8_000,
    streams: 4,
};

/// A day's snapshot at the branch, replicated; then edits, and the next day's.
struct Pair {
    realm: Realm,
    source: Arc<MemoryStore>,
    sink: Arc<MemoryStore>,
    dataset: Dataset,
    rng: Rng,
}

impl Pair {
    fn new(seed: u64, size: Size) -> Self {
        let realm = Realm::published();
        let mut rng = Rng::new(seed);
        let dataset = Dataset::random(&mut rng, size);
        Pair { source: MemoryStore::new(&realm), sink: MemoryStore::new(&realm), realm, dataset, rng }
    }

    fn run(&self, script: Script, day: u8, earlier: &[u8]) -> Ended {
        let earlier: Vec<_> = earlier.iter().filter_map(|day| self.sink.published(&snapshot_id(*day))).collect();
        let snapshot = self.dataset.snapshot(&self.source, day, BRANCH);
        attempt(&self.source, &self.sink, replication(&snapshot, &earlier), script, u64::from(day)).unwrap()
    }

    /// As [`Pair::run`], upon a day that the peer has proved to have and what was noted then.
    fn run_upon(&self, script: Script, day: u8, base: u8, mark: Mark) -> Ended {
        let base = self.sink.published(&snapshot_id(base)).unwrap();
        let snapshot = self.dataset.snapshot(&self.source, day, BRANCH);
        let mut what = replication(&snapshot, std::slice::from_ref(&base));
        what.shared = Some((base.snapshot, Arc::new(mark)));
        attempt(&self.source, &self.sink, what, script, u64::from(day)).unwrap()
    }

    fn script(&self) -> Script<'static> {
        Script::honest(SATELLITE, self.realm.id())
    }
}

fn snapshot_id(day: u8) -> narrowboat_storage::id::SnapshotId {
    narrowboat_storage::id::SnapshotId([day; 16])
}

#[test]
fn a_first_copy_sends_everything_once() {
    let pair = Pair::new(1, SIZE);
    let ended = pair.run(pair.script(), 1, &[]);
    ended.sender.0.unwrap();
    ended.receiver.0.unwrap();
    let root = pair.sink.published(&snapshot_id(1)).unwrap().root;
    assert_eq!(pair.sink.closure(root), pair.source.closure(root));
    assert_eq!(pair.sink.len(), pair.source.len());
    assert!(pair.sink.admissions().values().all(|times| *times == 1));
    for report in [&ended.sender.1, &ended.receiver.1] {
        assert_eq!(report.chunks.sent + report.nodes.sent, pair.source.len() as u64);
        assert_eq!((report.root_here, report.root_there), (root, root));
        assert!(report.published && report.seconds > 0.5);
    }
    let (there, here) = (&ended.receiver.1, &ended.sender.1);
    assert_eq!((there.chunks, there.nodes, there.payload_bytes), (here.chunks, here.nodes, here.payload_bytes));
    assert_eq!(there.framed_bytes, here.framed_bytes);
}

#[test]
fn an_unchanged_snapshot_costs_less_than_four_kilobytes_and_one_round_trip() {
    let pair = Pair::new(2, SIZE);
    pair.run(pair.script(), 1, &[]).sender.0.unwrap();
    for day in 2..12 {
        let earlier: Vec<u8> = (1..day).collect();
        let ended = pair.run(pair.script(), day, &earlier);
        ended.sender.0.unwrap();
        let wire: u64 = ended.wire_bytes.iter().sum();
        assert!(wire < 4096, "{wire} bytes on the wire");
        assert!(ended.micros < 2 * SATELLITE.one_way_us + 20_000, "{} us", ended.micros);
        assert!(pair.sink.published(&snapshot_id(day)).is_some());
    }
}

/// One chunk of one file: the path from the root to it is sent, and little more is named.
#[test]
fn a_small_change_costs_its_path() {
    let mut pair = Pair::new(3, Size { files: 3000, ..SIZE });
    pair.run(pair.script(), 1, &[]).sender.0.unwrap();
    let everything = pair.source.len() as u64;
    let content = pair.dataset.files.values_mut().find(|content| content.len() > 15).unwrap();
    content[7] = pair.rng.bytes(1000).into();
    let ended = pair.run(pair.script(), 2, &[1]);
    ended.sender.0.unwrap();
    let report = &ended.sender.1;
    assert_eq!(report.chunks.sent, 1);
    assert!(report.nodes.sent <= 9, "{report:?}");
    let named = report.chunks.offered + report.nodes.offered;
    assert!(named <= 2 * (report.chunks.sent + report.nodes.sent), "{named} names for {report:?}");
    assert!(everything > 20_000 && report.shared > 30);
    assert!(report.payload_bytes < 10_000);
}

/// Where the peer has proved to have an earlier day, nothing is asked: the difference is sent at once.
#[test]
fn upon_a_proved_base_nothing_is_asked_and_two_round_trips_are_enough() {
    let mut pair = Pair::new(7, Size { files: 3000, ..SIZE });
    pair.run(pair.script(), 1, &[]).sender.0.unwrap();
    let mark = pair.source.mark();
    pair.dataset.edit(&mut pair.rng, SIZE, 40);
    let ended = pair.run_upon(pair.script(), 2, 1, mark.clone());
    ended.sender.0.unwrap();
    let (here, there) = (&ended.sender.1, &ended.receiver.1);
    let lacked = there.chunks.sent + there.nodes.sent;
    let asked = here.chunks.offered + here.nodes.offered;
    assert!(lacked > 60, "{lacked}");
    // The root counts as asked. A file that was copied is older than the mark: its top is asked, and known.
    assert!(asked <= 1 + here.chunks.known + here.nodes.known + 4, "{asked} of {lacked}: {here:?}");
    assert_eq!(pair.sink.closure(there.root_here), pair.source.closure(here.root_here));
    // What is asked after all, the copies, costs one more.
    let round_trips = if asked > 1 { 3 } else { 2 };
    assert!(ended.micros < round_trips * 2 * SATELLITE.one_way_us + 150_000, "{} us, {asked} asked", ended.micros);

    // The same from a mark that says that everything is new: dearer, and as right.
    pair.dataset.edit(&mut pair.rng, SIZE, 40);
    let ended = pair.run_upon(pair.script(), 3, 2, Mark { next: 0, open: BTreeMap::new() });
    ended.sender.0.unwrap();
    assert_eq!(pair.sink.closure(ended.receiver.1.root_here), pair.source.closure(ended.sender.1.root_here));
    pair.sink.check().unwrap();
}

/// Two datasets got the same new content. Upon proved bases each would send it unasked; what one has sent the other asks for.
#[test]
fn what_is_new_in_two_datasets_goes_once() {
    let mut pairs = [12, 13].map(|seed| Pair::new(seed, SIZE));
    let (source, sink) = (pairs[0].source.clone(), pairs[0].sink.clone());
    (pairs[1].source, pairs[1].sink, pairs[1].dataset.id.0) = (source, sink, [8; 16]);
    for (pair, day) in pairs.iter_mut().zip([1, 2]) {
        pair.run(pair.script(), day, &[]).sender.0.unwrap();
    }
    let mark = pairs[0].source.mark();
    let new: Vec<bytes::Bytes> = (0..300).map(|_| pairs[0].rng.bytes(1500).into()).collect();
    pairs.iter_mut().for_each(|pair| drop(pair.dataset.files.insert(1_000_000, new.clone())));
    let lately = Arc::new(narrowboat_wan::sync::Lately::default());
    let mut sent = Vec::new();
    for (pair, day) in pairs.iter().zip([1, 2]) {
        let script = Script { lately: lately.clone(), ..pair.script() };
        let ended = pair.run_upon(script, day + 10, day, mark.clone());
        ended.sender.0.unwrap();
        assert_eq!(pair.sink.closure(ended.receiver.1.root_here), pair.source.closure(ended.sender.1.root_here));
        sent.push(ended.sender.1.payload_bytes);
    }
    assert!(sent[0] > 300 * 1500 && sent[1] < 8_000, "{sent:?}");
}

/// Without a shared snapshot, known subtrees cost the names along their edge.
#[test]
fn what_other_branches_sent_is_not_sent_again() {
    let mut pair = Pair::new(4, SIZE);
    let mut other = pair.dataset.clone();
    other.edit(&mut pair.rng, SIZE, 5);
    other.snapshot(&pair.sink, 100, BRANCH);
    let snapshot = pair.dataset.snapshot(&pair.source, 1, BRANCH);
    let lacking = pair.source.closure(snapshot.root).difference(&pair.sink.refs()).count() as u64;
    let mut script = pair.script();
    // Two bandwidth-delay products, in chunks of 16 KiB: what a link says.
    script.limits[0].names_ahead = 91;
    let ended = pair.run(script, 1, &[]);
    ended.sender.0.unwrap();
    let report = ended.sender.1;
    assert_eq!(report.base, None);
    assert_eq!(report.chunks.sent + report.nodes.sent, lacking);
    println!("{} names of {}", report.chunks.offered + report.nodes.offered, pair.source.len());
    assert!(report.chunks.offered + report.nodes.offered < pair.source.len() as u64 / 4, "{report:?}");
}

/// However often the line breaks, each break costs at most the window.
#[test]
fn a_resumed_transfer_sends_at_most_the_window_again() {
    let size = Size { files: 200, chunks_max: 40, chunk_bytes_max: 20_000 };
    let pair = Pair::new(5, size);
    let snapshot = pair.dataset.snapshot(&pair.source, 1, BRANCH);
    let window = Limits::default().window_bytes;
    assert_eq!(window, 4 << 20);
    let (mut sent, mut breaks) = (BTreeMap::new(), 0);
    let mut total = 0;
    loop {
        let mut script = pair.script();
        script.cut_us = Some(6_000_000);
        let before = pair.sink.len();
        let ended = pair.run(script, 1, &[]);
        total += ended.sender.1.payload_bytes;
        sent.insert(breaks, ended.sender.1.payload_bytes);
        if ended.sender.0.is_ok() {
            break;
        }
        assert!(pair.sink.len() > before, "each attempt gets further");
        breaks += 1;
        pair.sink.restart(0);
    }
    let needed: u64 = {
        use narrowboat_wan::sync::Source;
        let objects = pair.source.closure(snapshot.root);
        objects.iter().map(|(kind, name)| pair.source.stored(*kind, name).unwrap().bytes.len() as u64).sum()
    };
    assert!(breaks >= 2, "{sent:?}");
    assert!(total <= needed + breaks * (window + size.chunk_bytes_max), "{total} sent, {needed} needed: {sent:?}");
}

/// On the thinnest lines every box gets on at the first attempt, though the product's window would take a quarter of an hour there.
#[test]
fn a_thin_line_gets_on() {
    for bits_per_second in [32_000, 64_000, 256_000] {
        let pair = Pair::new(8, Size { files: 40, chunks_max: 8, chunk_bytes_max: 16_000 });
        let mut script = Script::honest(Line { bits_per_second, segment_bytes: 1400, ..SATELLITE }, pair.realm.id());
        // As the link sets them where nothing is known of the line.
        let limits = Limits { window_bytes: 16 << 20, group_bytes: 64 << 10, ..Limits::default() };
        assert!(limits.patience.is_some());
        script.limits = [limits.clone(), limits];
        let ended = pair.run(script, 1, &[]);
        ended.sender.0.unwrap();
        let seconds = ended.sender.1.payload_bytes * 8 / bits_per_second;
        assert!(bits_per_second > 32_000 || seconds > 240, "{seconds} s: longer than two patiences");
    }
}

/// What an object would be packed against cannot be read any more: the new snapshot gets away all the same.
#[test]
fn a_damaged_base_does_not_keep_the_new_snapshot_here() {
    let mut pair = Pair::new(9, SIZE);
    pair.run(pair.script(), 1, &[]).sender.0.unwrap();
    let content = pair.dataset.files.values_mut().find(|content| content.len() > 15).unwrap();
    let old = std::mem::replace(&mut content[7], pair.rng.bytes(1000).into());
    let old = (Kind::Chunk, pair.realm.name(Kind::Chunk, &old));
    let snapshot = pair.dataset.snapshot(&pair.source, 2, BRANCH);
    assert!(!pair.source.closure(snapshot.root).contains(&old), "nothing else needs it");
    pair.source.withdraw(&old);
    let ended = pair.run(pair.script(), 2, &[1]);
    ended.sender.0.unwrap();
    assert!(ended.sender.1.based > 0);
    // Where the receiver's copy is the one that rotted, the next attempt goes without bases.
    let content =
        pair.dataset.files.values_mut().find(|content| content.iter().any(|chunk| chunk.len() > 1000)).unwrap();
    let chunk = content.iter_mut().find(|chunk| chunk.len() > 1000).unwrap();
    let old = chunk.clone();
    *chunk = [&old[..500], b"a little", &old[500..]].concat().into();
    pair.sink.withdraw(&(Kind::Chunk, pair.realm.name(Kind::Chunk, &old)));
    assert!(pair.run(pair.script(), 3, &[1, 2]).sender.0.is_err());
    let mut script = pair.script();
    script.limits[0].delta = false;
    pair.run(script, 3, &[1, 2]).sender.0.unwrap();
}

/// What was written beside its old place, as files are that a package replaces, costs what changed of it; and so does what has
/// too little of its own to be found by, and lies between what is found.
#[test]
fn what_moved_costs_what_changed_of_it() {
    let mut payload = BTreeMap::new();
    for resemblance in [false, true] {
        let mut pair = Pair::new(11, SIZE);
        let chunks: Vec<Vec<u8>> = (0..60).map(|_| pair.rng.bytes(8000)).collect();
        pair.dataset.files.insert(900, chunks.iter().map(|chunk| chunk.clone().into()).collect());
        pair.run(pair.script(), 1, &[]).sender.0.unwrap();
        let mut changed = chunks;
        for (nth, chunk) in changed.iter_mut().enumerate() {
            // Each has something new at one place; every tenth is new but for its last two kilobytes.
            let (at, len) = if nth % 10 == 5 { (0, 6000) } else { (300 * (nth % 20), 40) };
            chunk[at..at + len].copy_from_slice(&pair.rng.bytes(len));
        }
        pair.dataset.files.remove(&900);
        pair.dataset.files.insert(77, changed.into_iter().map(bytes::Bytes::from).collect());
        let mut script = pair.script();
        script.limits.iter_mut().for_each(|limits| limits.resemblance = resemblance);
        let ended = pair.run(script, 2, &[1]);
        ended.sender.0.unwrap();
        assert_eq!(ended.sender.1.choices.resembling > 50, resemblance, "{:?}", ended.sender.1.choices);
        payload.insert(resemblance, ended.sender.1.payload_bytes);
    }
    // New bytes: 54 times 40, and six times 6000. Without, nearly all of 480,000.
    assert!(payload[&false] > 400_000 && payload[&true] < 60_000, "{payload:?}");
}

/// A large first copy over a long line: the line is used, not waited for.
#[test]
fn a_long_line_is_filled() {
    let size = Size { files: 600, chunks_max: 30, chunk_bytes_max: 32_000 };
    let pair = Pair::new(6, size);
    let ended = pair.run(pair.script(), 1, &[]);
    ended.sender.0.unwrap();
    let possible = SATELLITE.bits_per_second as f64 / 8.0 * ended.micros as f64 / 1e6;
    let used = ended.wire_bytes[0] as f64 / possible;
    println!("{:.1} % of the line over {:.1} s", 100.0 * used, ended.micros as f64 / 1e6);
    assert!(used >= 0.9, "only {:.1} % of the line was used over {} us", 100.0 * used, ended.micros);
    // Questions and frames are small change beside the objects.
    let payload = ended.sender.1.payload_bytes as f64;
    let framed = (ended.sender.1.framed_bytes.0 + ended.sender.1.framed_bytes.1) as f64;
    assert!(framed < payload * 1.01, "{framed} framed for {payload}");
    assert!(ended.jobs_max <= 12, "{} jobs at once", ended.jobs_max);
    let syncs = pair.sink.syncs();
    let quarters = payload / (Limits::default().window_bytes as f64 / 4.0);
    assert!((syncs as f64) < quarters + 2.0, "{syncs} syncs for {quarters} quarters of the window");
}

/// Windows of any size come to an end: also where each side has another in mind.
#[test]
fn windows_of_any_size_make_progress() {
    let size = Size { files: 30, chunks_max: 6, chunk_bytes_max: 1000 };
    for (place, (sender, receiver)) in
        [((1, 1), (1, 1)), ((1 << 30, 1), (700, 5)), ((900, 3), (1 << 30, 1 << 20))].into_iter().enumerate()
    {
        let pair = Pair::new(7 + place as u64, size);
        let limits = |(window_bytes, window_objects)| Limits { window_bytes, window_objects, ..Limits::default() };
        let mut script = pair.script();
        script.limits = [limits(sender), limits(receiver)];
        pair.run(script, 1, &[]).sender.0.unwrap();
    }
}

#[test]
fn an_empty_dataset_is_a_snapshot_too() {
    let pair = Pair::new(11, Size { files: 0, ..SIZE });
    pair.run(pair.script(), 1, &[]).sender.0.unwrap();
    assert_eq!(pair.sink.published(&snapshot_id(1)).unwrap().root, None);
}
