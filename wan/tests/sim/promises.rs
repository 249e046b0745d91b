//! What replication promises, counted.

use narrowboat_storage::name::Realm;
use narrowboat_wan::sync::Limits;

use crate::line::Line;
use crate::rng::Rng;
use crate::store::MemoryStore;
use crate::tree::{Dataset, Size};
use crate::world::{BRANCH, Script, attempt, replication};

const SIZE: Size = Size { files: 60, chunks_max: 20, chunk_bytes_max: 2000 };
const LINE: Line = Line {
    bits_per_second: 20_000_000,
    one_way_us: 150_000,
    jitter_us: 0,
    loss_one_in: 0,
    segment_bytes: 1400,
    streams: 4,
};

#[test]
fn a_first_copy_arrives_whole_and_only_what_is_lacking_travels() {
    let realm = Realm::published();
    let (source, sink) = (MemoryStore::new(&realm), MemoryStore::new(&realm));
    let dataset = Dataset::random(&mut Rng::new(1), SIZE);
    let snapshot = dataset.snapshot(&source, 1, BRANCH);
    let whole = source.closure(snapshot.root);
    let ended = attempt(&source, &sink, replication(&snapshot, &[]), Script::honest(LINE, realm.id()), 1).unwrap();
    ended.sender.0.unwrap();
    ended.receiver.0.unwrap();
    assert_eq!(sink.closure(snapshot.root), whole);
    assert_eq!(sink.published(&snapshot.snapshot), Some(snapshot.clone()));
    let report = ended.sender.1;
    assert_eq!(report.chunks.sent + report.nodes.sent, whole.len() as u64);
    assert_eq!(report.root_there, snapshot.root);
    assert!(Limits::default().patience.is_some());
}
