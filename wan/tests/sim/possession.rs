//! Who only knows names gets nothing: neither published as its own, nor read back.

use std::collections::BTreeSet;
use std::sync::Arc;

use narrowboat_storage::name::{Kind, Realm};
use narrowboat_wan::sync::seam::{Ref, SnapshotOffer};
use narrowboat_wan::sync::{Cost, Failure, Limits, Possessions, Replication, Worker};
use narrowboat_wan::wire::{Frame, Hello, Message, Proof, Stop, StopCode};

use crate::common::rng::Rng;
use crate::common::store::{MemoryStore, OwnOnly};
use crate::common::tree::{Dataset, Size, spans};
use crate::line::Line;
use crate::world::{BRANCH, Ended, HEAD_OFFICE, Script, Side, Tamper, attempt, attempt_between, replication};

const LINE: Line = Line {
    bits_per_second: 20_000_000,
    one_way_us: 50_000,
    jitter_us: 0,
    loss_one_in: 0,
    segment_bytes: 8_000,
    streams: 3,
};
const SIZE: Size = Size { files: 60, chunks_max: 30, chunk_bytes_max: 900 };

/// Two boxes; the office has a secret of somebody else's.
struct Boxes {
    realm: Realm,
    branch: Arc<MemoryStore>,
    office: Arc<MemoryStore>,
    rng: Rng,
}

impl Boxes {
    fn new(seed: u64) -> Self {
        let realm = Realm::published();
        Boxes { branch: MemoryStore::new(&realm), office: MemoryStore::new(&realm), realm, rng: Rng::new(seed) }
    }

    fn script(&self) -> Script<'static> {
        Script::honest(LINE, self.realm.id())
    }

    fn run(&self, snapshot: &SnapshotOffer, earlier: &[SnapshotOffer], script: Script) -> Ended {
        let ended = attempt(&self.branch, &self.office, replication(snapshot, earlier), script, 1).unwrap();
        self.office.check().unwrap();
        ended
    }

    /// A dataset of which the office has `known` of its chunks from elsewhere, or its whole tree.
    fn dataset(&mut self) -> Dataset {
        Dataset::random(&mut self.rng, SIZE)
    }
}

fn chunks(dataset: &Dataset) -> Vec<Vec<u8>> {
    dataset.files.values().flatten().map(|chunk| chunk.to_vec()).collect()
}

/// What other branches sent is not sent again, and is proved: single chunks, and whole subtrees by their tops.
#[test]
fn what_is_known_is_proved_and_not_sent() {
    let mut boxes = Boxes::new(1);
    let data = boxes.dataset();
    let snapshot = data.snapshot(&boxes.branch, 1, BRANCH);
    let mut theirs = data.clone();
    theirs.edit(&mut boxes.rng, SIZE, 6);
    theirs.snapshot(&boxes.office, 100, HEAD_OFFICE);
    let all: BTreeSet<Ref> = boxes.branch.closure(snapshot.root);
    let lacking = all.difference(&boxes.office.refs()).count() as u64;
    let ended = boxes.run(&snapshot, &[], boxes.script());
    ended.sender.0.unwrap();
    ended.receiver.0.unwrap();
    let (here, there) = (&ended.sender.1, &ended.receiver.1);
    assert_eq!(here.chunks.sent + here.nodes.sent, lacking);
    assert!(lacking < all.len() as u64 / 2);
    assert_eq!(here.proved, there.proved);
    // Everything that was not sent was read once, at each side; what is met in two places in each of them.
    assert!(here.proved.objects >= all.len() as u64 - lacking, "{here:?}");
    // And it costs next to nothing on the line.
    assert!(
        here.framed_bytes.0 - here.payload_bytes < 40 * (here.nodes.offered + here.chunks.offered) + 4096,
        "{here:?}"
    );
}

/// A sender that knows names, and makes up what it says of the bytes.
fn lying<'a>(change: &'a mut dyn FnMut(Message) -> Message) -> impl FnMut(Side, Frame) -> Vec<Vec<u8>> + 'a {
    move |side, frame| {
        let bytes = [&frame.head[..], &frame.body[..]].concat();
        if side == Side::Receiver || bytes[0] != 14 {
            return vec![bytes];
        }
        let mut decoder = narrowboat_wan::wire::FrameDecoder::new(narrowboat_wan::wire::Channel::Control);
        let frame = decoder.next(&mut &bytes[..]).unwrap().unwrap();
        let frame = change(Message::decode(frame).unwrap().unwrap()).encode();
        vec![[&frame.head[..], &frame.body[..]].concat()]
    }
}

#[test]
fn a_wrong_proof_publishes_nothing_and_is_no_chance_to_try_again() {
    for prefixes in [true, false] {
        let mut boxes = Boxes::new(2);
        let data = boxes.dataset();
        let snapshot = data.snapshot(&boxes.branch, 1, BRANCH);
        chunks(&data).iter().step_by(5).for_each(|chunk| {
            boxes.office.put(Kind::Chunk, chunk);
        });
        let mut change = |message| match message {
            Message::Proof(proof) => Message::Proof(Proof { digest: [9; 32], ..proof }),
            other => other,
        };
        let mut tamper = lying(&mut change);
        let tamper: Tamper = &mut tamper;
        let mut script = Script { tamper: Some(tamper), ..boxes.script() };
        script.limits[0].prefixes = prefixes;
        let ended = boxes.run(&snapshot, &[], script);
        // By prefix it may have been a mistake: the sender has one more chance, by full names.
        match (&ended.receiver.0, &ended.sender.0, prefixes) {
            (Err(Failure::FullNames(_)), Err(failure), true) => assert!(failure.wants_full_names()),
            (Err(Failure::NotProved(_)), Err(failure), false) => {
                assert!(matches!(failure, Failure::Stopped(Stop { code: StopCode::NotAllowed, .. })), "{failure}");
                assert!(!failure.may_pass());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(boxes.office.published(&snapshot.snapshot), None);
        // What was credited in advance is not remembered: an honest sender proves it all the same.
        let ended = boxes.run(&snapshot, &[], boxes.script());
        ended.sender.0.unwrap();
        assert!(ended.sender.1.proved.objects > 0);
    }
}

/// A hostile box has a node that refers to a chunk of somebody else's, and never asks about that chunk: the node is admitted, for what it
/// refers to is here. Before the snapshot is published, what was neither sent nor proved is looked for; and what it makes up is no proof.
#[test]
fn a_tree_that_names_what_others_have_is_not_published() {
    let mut boxes = Boxes::new(3);
    let data = boxes.dataset();
    let secret = boxes.rng.bytes(777);
    let mut with_secret = data.clone();
    let file = *with_secret.files.iter().find(|(_, content)| content.len() > 5).unwrap().0;
    with_secret.files.get_mut(&file).unwrap()[2] = secret.clone().into();
    let day1 = data.snapshot(&boxes.branch, 1, BRANCH);
    boxes.run(&day1, &[], boxes.script()).sender.0.unwrap();
    let secret = boxes.office.put(Kind::Chunk, &secret);
    // Its walk is told that the secret lies in the base: so it is neither asked about nor sent.
    let snapshot = with_secret.snapshot(&boxes.branch, 2, BRANCH);
    let run = |credits: Arc<Possessions>| {
        let mut what: Replication = replication(&snapshot, std::slice::from_ref(&day1));
        what.mark = None;
        let liar = Arc::new(Withholding { store: boxes.branch.clone(), secret });
        let reader = Worker::source(liar, blind);
        let writer =
            Worker::sink(boxes.office.clone(), spans, boxes.realm.clone(), Arc::new(OwnOnly)).remembering(credits);
        attempt_between(reader, writer, boxes.office.clone(), what, boxes.script(), 5).unwrap()
    };
    BLIND.with(|blind| *blind.borrow_mut() = Some(secret));
    let ended = run(Arc::default());
    assert!(matches!(ended.receiver.0, Err(Failure::NotProved(_))), "{:?}", ended.receiver.0);
    assert!(ended.sender.0.is_err_and(|failure| !failure.may_pass()));
    assert_eq!(boxes.office.published(&snapshot.snapshot), None);
    // However often: what it brought is here, its node is not credited, and the next attempt has no better chance.
    for _ in 0..3 {
        assert!(run(boxes.office.possessions.clone()).receiver.0.is_err());
    }
    BLIND.with(|blind| *blind.borrow_mut() = None);
    assert_eq!(boxes.office.published(&snapshot.snapshot), None);
    // Who has the bytes is not kept out by that.
    let ended = boxes.run(&snapshot, std::slice::from_ref(&day1), boxes.script());
    ended.sender.0.unwrap();
}

thread_local! {
    static BLIND: std::cell::RefCell<Option<Ref>> = const { std::cell::RefCell::new(None) };
}

/// The references of a node, as a liar's own walk sees them: without the secret.
fn blind(
    kind: Kind,
    bytes: &bytes::Bytes,
) -> Result<Vec<narrowboat_storage::tree::Span>, narrowboat_storage::tree::node::NodeFault> {
    let all = spans(kind, bytes)?;
    let secret = BLIND.with(|blind| *blind.borrow());
    Ok(all.into_iter().filter(|span| Some(span.at) != secret).collect())
}

/// Has everything but the secret, and makes that up.
struct Withholding {
    store: Arc<MemoryStore>,
    secret: Ref,
}

impl narrowboat_wan::sync::seam::Source for Withholding {
    fn stored(
        &self,
        kind: Kind,
        name: &narrowboat_storage::name::Name,
    ) -> narrowboat_storage::error::Result<narrowboat_wan::sync::seam::Stored> {
        assert_ne!((kind, *name), self.secret, "nobody asked for that");
        self.store.stored(kind, name)
    }
    fn kept_since(
        &self,
        mark: &narrowboat_wan::sync::seam::Mark,
        kind: Kind,
        names: &[narrowboat_storage::name::Name],
    ) -> narrowboat_storage::error::Result<Vec<bool>> {
        self.store.kept_since(mark, kind, names)
    }
    fn read(
        &self,
        kind: Kind,
        name: &narrowboat_storage::name::Name,
    ) -> narrowboat_storage::error::Result<bytes::Bytes> {
        match (kind, *name) == self.secret {
            true => Ok(bytes::Bytes::from_static(b"made up")),
            false => narrowboat_wan::sync::seam::Source::read(&*self.store, kind, name),
        }
    }
}

/// What takes too much to prove is asked for in its parts: no proof is larger than its bound, and only nodes are sent again.
#[test]
fn large_subtrees_are_proved_in_parts() {
    let mut boxes = Boxes::new(4);
    let data = boxes.dataset();
    let snapshot = data.snapshot(&boxes.branch, 1, BRANCH);
    data.snapshot(&boxes.office, 100, HEAD_OFFICE);
    let all = boxes.branch.closure(snapshot.root);
    let mut sent = Vec::new();
    for objects in [1, 20, 1 << 20] {
        boxes.office.possessions.forget();
        let office = MemoryStore::new(&boxes.realm);
        data.snapshot(&office, 100, HEAD_OFFICE);
        let reader = Worker::source(boxes.branch.clone(), spans);
        let writer = Worker::sink(office.clone(), spans, boxes.realm.clone(), Arc::new(OwnOnly));
        let writer = writer.proving_at_most(Cost { objects, bytes: u64::MAX });
        let what = replication(&snapshot, &[]);
        let ended = attempt_between(reader, writer, office.clone(), what, boxes.script(), 5).unwrap();
        ended.sender.0.unwrap();
        assert_eq!(ended.sender.1.chunks.sent, 0);
        assert!(office.published(&snapshot.snapshot).is_some());
        sent.push(ended.sender.1.nodes.sent);
    }
    let nodes = all.iter().filter(|(kind, _)| kind.is_node()).count() as u64;
    assert!(sent[0] == nodes && sent[1] < nodes / 2 && sent[2] == 1, "{sent:?} of {nodes}");
}

/// After a break nothing of what arrived is proved again, as long as the receiving box runs; after a restart it is.
#[test]
fn what_arrived_before_a_break_counts_as_shown() {
    let mut boxes = Boxes::new(5);
    let data = Dataset::random(&mut boxes.rng, Size { files: 200, ..SIZE });
    let snapshot = data.snapshot(&boxes.branch, 1, BRANCH);
    for (restart, cut_us) in [(false, 900_000), (true, 900_000)] {
        let office = MemoryStore::new(&boxes.realm);
        let run = |cut_us| {
            let mut script = boxes.script();
            script.cut_us = cut_us;
            script.limits = [Limits::default(), Limits { window_bytes: 64 << 10, ..Limits::default() }];
            attempt(&boxes.branch, &office, replication(&snapshot, &[]), script, 1).unwrap()
        };
        assert!(run(Some(cut_us)).sender.0.is_err());
        let arrived = office.len() as u64;
        assert!(arrived > 100, "{arrived}");
        if restart {
            office.possessions.forget();
        }
        let ended = run(None);
        ended.sender.0.unwrap();
        assert_eq!(ended.sender.1.proved.objects > 0, restart, "{:?}", ended.sender.1);
        assert!(office.admissions().values().all(|times| *times == 1), "nothing is sent twice");
    }
}

/// An older sender is served unless proofs are required; then it is refused with a sentence, at either side.
#[test]
fn older_senders_are_served_or_refused_with_a_sentence() {
    for (required, knows) in [(false, false), (true, false), (true, true)] {
        let mut boxes = Boxes::new(6);
        let data = boxes.dataset();
        let snapshot = data.snapshot(&boxes.branch, 1, BRANCH);
        data.snapshot(&boxes.office, 100, HEAD_OFFICE);
        let mut script = boxes.script();
        let set = |hello: &mut Hello, bit: u64, on: bool| {
            hello.features_ignore = hello.features_ignore & !bit | if on { bit } else { 0 }
        };
        set(&mut script.hellos[0], narrowboat_wan::wire::FEATURE_PROOFS, knows);
        if required {
            script.hellos[1].features_read_only = narrowboat_wan::wire::FEATURE_PROOFS;
        }
        let ended = boxes.run(&snapshot, &[], script);
        match (required, knows) {
            (true, false) => {
                assert!(matches!(ended.receiver.0, Err(Failure::Incompatible { .. })), "{:?}", ended.receiver.0);
                assert!(ended.sender.0.is_err());
            }
            _ => ended.sender.0.unwrap(),
        }
    }
}
