//! Questions by the first bytes of names: what they cost, and what happens where different chunks begin alike.

use std::collections::HashMap;
use std::time::Duration;

use narrowboat_storage::name::{Kind, Realm};
use narrowboat_wan::sync::{Failure, Limits};
use narrowboat_wan::wire::{FEATURE_PREFIXES, Stop, StopCode};

use crate::common::rng::Rng;
use crate::common::store::MemoryStore;
use crate::common::tree::Dataset;
use crate::line::Line;
use crate::world::{BRANCH, Ended, Script, attempt, replication};

/// 100 Mbit/s over an ocean.
const OCEAN: Line = Line {
    bits_per_second: 100_000_000,
    one_way_us: 75_000,
    jitter_us: 0,
    loss_one_in: 0,
    segment_bytes: 8_000,
    streams: 4,
};

fn run(
    dataset: &Dataset,
    source: &std::sync::Arc<MemoryStore>,
    sink: &std::sync::Arc<MemoryStore>,
    how: Limits,
) -> Ended {
    let snapshot = dataset.snapshot(source, 1, BRANCH);
    let mut script = Script::honest(OCEAN, sink.realm.id());
    script.limits = [how, Limits::default()];
    attempt(source, sink, replication(&snapshot, &[]), script, 1).unwrap()
}

/// Two chunks whose names agree in their first two bytes, and in no more.
fn alike(realm: &Realm) -> [Vec<u8>; 2] {
    let mut seen: HashMap<[u8; 2], Vec<u8>> = HashMap::new();
    (0u32..)
        .find_map(|number| {
            let chunk = [&number.to_le_bytes()[..], &[7; 500]].concat();
            let name = realm.name(Kind::Chunk, &chunk);
            let other = seen.insert([name.0[0], name.0[1]], chunk.clone())?;
            Some([other, chunk])
        })
        .unwrap()
}

/// A chunk that begins like another one is taken for known, which shows; asked again by full names, all is well, and nothing that
/// arrived travels twice.
#[test]
fn a_false_known_is_found_out_and_repaired_by_full_names() {
    for (seed, place) in [(1, 0), (2, 40), (3, 79)] {
        let realm = Realm::published();
        let (source, sink) = (MemoryStore::new(&realm), MemoryStore::new(&realm));
        let [here, there] = alike(&realm);
        let mut rng = Rng::new(seed);
        let mut dataset = Dataset::default();
        for number in 0..80 {
            let content = (0..6).map(|_| rng.bytes(700).into()).collect();
            dataset.files.insert(number, content);
        }
        dataset.files.get_mut(&place).unwrap()[3] = here.clone().into();
        sink.put(Kind::Chunk, &there);
        sink.look_at(2);
        let first = run(&dataset, &source, &sink, Limits::default());
        assert!(matches!(first.receiver.0, Err(Failure::FullNames(_))), "{:?}", first.receiver.0);
        let Err(failure) = &first.sender.0 else { panic!("{:?}", first.sender.0) };
        assert!(matches!(failure, Failure::Stopped(Stop { code: StopCode::FullNames, .. })), "{failure:?}");
        assert!(failure.wants_full_names() && failure.may_pass());
        sink.check().unwrap();
        assert!(!sink.refs().contains(&(Kind::Chunk, realm.name(Kind::Chunk, &here))));

        let second = run(&dataset, &source, &sink, Limits { prefixes: false, ..Limits::default() });
        second.sender.0.unwrap();
        let root = dataset.snapshot(&source, 1, BRANCH).root;
        assert_eq!(sink.closure(root), source.closure(root));
        assert!(sink.admissions().values().all(|times| *times == 1), "nothing is sent twice");
    }
}

/// What the receiver has is found by prefix as by name, also by a peer that asks one way or the other; an older box is asked by name.
#[test]
fn prefixes_say_what_names_say() {
    let realm = Realm::published();
    let mut rng = Rng::new(5);
    let mut dataset = Dataset::default();
    for number in 0..100 {
        let content = (0..10).map(|_| rng.bytes(300).into()).collect();
        dataset.files.insert(number, content);
    }
    let mut framed = Vec::new();
    for (prefixes, features) in [(true, u64::MAX), (false, u64::MAX), (true, !FEATURE_PREFIXES)] {
        let (source, sink) = (MemoryStore::new(&realm), MemoryStore::new(&realm));
        for chunk in dataset.files.values().flat_map(|content| &content[..7]) {
            sink.put(Kind::Chunk, chunk);
        }
        let snapshot = dataset.snapshot(&source, 1, BRANCH);
        let mut script = Script::honest(OCEAN, realm.id());
        script.limits[0].prefixes = prefixes;
        script.hellos[1].features_ignore &= features;
        let ended = attempt(&source, &sink, replication(&snapshot, &[]), script, 1).unwrap();
        ended.sender.0.unwrap();
        let report = &ended.sender.1;
        assert_eq!((report.chunks.offered, report.chunks.known, report.chunks.sent), (1000, 700, 300));
        framed.push(report.framed_bytes.0 - report.payload_bytes);
    }
    assert!(framed[0] + 24 * 1000 < framed[1] + 1000, "{framed:?}");
    assert_eq!(framed[1], framed[2]);
}

/// Where nearly everything is known, what is not known fills the line all the same: questions are far enough ahead.
#[test]
fn a_long_line_is_filled_where_most_is_known() {
    let realm = Realm::published();
    let (source, sink) = (MemoryStore::new(&realm), MemoryStore::new(&realm));
    let mut rng = Rng::new(6);
    let mut dataset = Dataset::default();
    // One chunk in fifty is new, of 16 KiB; it takes 230 of them to fill the line twice over.
    for number in 0..300 {
        let known = |rng: &mut Rng| rng.bytes(40);
        let content: Vec<bytes::Bytes> =
            (0..500).map(|nth| if nth % 50 == 7 { rng.bytes(16 << 10) } else { known(&mut rng) }.into()).collect();
        for chunk in content.iter().filter(|chunk| chunk.len() == 40) {
            sink.put(Kind::Chunk, chunk);
        }
        dataset.files.insert(number, content);
    }
    let limits = Limits {
        compression: narrowboat_wan::sync::Compression::AsStored,
        window_bytes: 16 << 20,
        patience: Some(Duration::from_secs(60)),
        ..Limits::default()
    };
    let snapshot = dataset.snapshot(&source, 1, BRANCH);
    let mut script = Script::honest(OCEAN, realm.id());
    script.limits = [limits.clone(), limits];
    let ended = attempt(&source, &sink, replication(&snapshot, &[]), script, 1).unwrap();
    ended.sender.0.unwrap();
    let report = &ended.sender.1;
    assert_eq!((report.chunks.known, report.chunks.sent), (300 * 490, 3000));
    let possible = OCEAN.bits_per_second as f64 / 8.0 * ended.micros as f64 / 1e6;
    let used = ended.wire_bytes[0] as f64 / possible;
    println!("{:.1} % of the line over {:.1} s", 100.0 * used, ended.micros as f64 / 1e6);
    assert!(used > 0.75, "only {:.1} % of the line was used over {} us", 100.0 * used, ended.micros);
}
