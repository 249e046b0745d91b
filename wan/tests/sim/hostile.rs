//! Peers that lie: whatever one says, the other ends the session in order, keeps only what is true, and works with the
//! next honest one.

use std::sync::Arc;

use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_wan::sync::seam::{Sink, SnapshotOffer};
use narrowboat_wan::sync::{Failure, Job, Limits, Reply, Request, Worker};
use narrowboat_wan::wire::{FEATURE_BUNDLES, Frame, Hello, Message, Published, Role, Stop, StopCode};

use crate::common::rng::Rng;
use crate::common::seeds;
use crate::common::store::{MemoryStore, OwnOnly};
use crate::common::tree::{Dataset, spans};
use crate::seeds::{Boxes, all_hold};
use crate::world::{BRANCH, Ended, HEAD_OFFICE, Script, Side, Tamper};

const HELLO: u16 = 1;
const OFFER: u16 = 2;
const COMMIT: u16 = 7;
const OBJECT: u16 = 64;
const BUNDLE: u16 = 65;

fn kind_of(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn whole(frame: &Frame) -> Vec<u8> {
    [&frame.head[..], &frame.body[..]].concat()
}

/// Lies by chance. Greeting and offer stay: what a peer says there is its own business, and has tests of its own.
struct Liar {
    rng: Rng,
    side: Side,
    one_in: u64,
    held: Option<Vec<u8>>,
    heard: Vec<Vec<u8>>,
}

impl Liar {
    fn tamper(&mut self, side: Side, frame: Frame) -> Vec<Vec<u8>> {
        let bytes = whole(&frame);
        if side != self.side || matches!(kind_of(&bytes), HELLO | OFFER) {
            return vec![bytes];
        }
        self.heard.push(bytes.clone());
        let mut out: Vec<Vec<u8>> = self.held.take().into_iter().collect();
        if self.rng.one_in(self.one_in) {
            out.extend(self.lie(bytes));
        } else {
            out.insert(0, bytes);
        }
        out
    }

    fn lie(&mut self, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let rng = &mut self.rng;
        match rng.below(9) {
            0 => {
                let at = 8 + rng.below(bytes.len() as u64 - 8) as usize;
                bytes[at] ^= 1 << rng.below(8);
                vec![bytes]
            }
            1 => {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next() as u8;
                vec![bytes]
            }
            2 => vec![],
            3 => vec![bytes.clone(), bytes],
            4 => {
                self.held = Some(bytes);
                vec![]
            }
            5 => {
                let kind = [rng.below(16) as u16, OBJECT, BUNDLE][rng.below(3) as usize];
                let len = rng.below(100) as usize;
                let payload = rng.bytes(len);
                let head = [&kind.to_le_bytes()[..], &[0, 0], &(len as u32).to_le_bytes()].concat();
                vec![[head, payload].concat(), bytes]
            }
            6 => {
                bytes[4..8].copy_from_slice(&(rng.next() as u32).to_le_bytes());
                vec![bytes]
            }
            7 => {
                let again = self.heard[rng.below(self.heard.len() as u64) as usize].clone();
                vec![again, bytes]
            }
            // Numbers: sequence, question, count.
            _ => {
                let at = 8 + 8 * rng.below(2) as usize;
                if bytes.len() >= at + 8 {
                    bytes[at..at + 8].copy_from_slice(&rng.below(50).to_le_bytes());
                }
                vec![bytes]
            }
        }
    }
}

fn hostile_world(seed: u64) -> Result<(), String> {
    let mut boxes = Boxes::new(seed);
    let snapshot = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
    for _ in 0..3 {
        let side = if boxes.rng.one_in(2) { Side::Sender } else { Side::Receiver };
        let one_in = boxes.rng.within(1, 30);
        let mut liar = Liar { rng: Rng::new(boxes.rng.next()), side, one_in, held: None, heard: Vec::new() };
        let mut tamper = |side, frame| liar.tamper(side, frame);
        let tamper: Tamper = &mut tamper;
        let mut script = Script { tamper: Some(tamper), ..boxes.script() };
        script.line.streams = script.line.streams.min(3);
        boxes.attempt(&snapshot, script)?;
        let keep = boxes.sink.unsynced();
        boxes.sink.restart(boxes.rng.below(keep as u64 + 1) as usize);
        boxes.sink.check()?;
    }
    let script = boxes.script();
    let ended = boxes.attempt(&snapshot, script)?;
    ended.sender.0.map_err(|failure| format!("an honest attempt failed after hostile ones: {failure}"))
}

#[test]
fn no_lie_is_kept_and_honest_peers_go_on() {
    all_hold(seeds(600), hostile_world);
}

/// Runs one attempt in which one side's frames go through `change`; objects travel one by one.
fn with(seed: u64, change: &mut dyn FnMut(Side, Vec<u8>) -> Vec<Vec<u8>>) -> Ended {
    with_features(seed, 0, change)
}

fn with_features(seed: u64, features: u64, change: &mut dyn FnMut(Side, Vec<u8>) -> Vec<Vec<u8>>) -> Ended {
    let mut boxes = busy_boxes(seed);
    let snapshot = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
    let mut tamper = |side, frame: Frame| change(side, whole(&frame));
    let tamper: Tamper = &mut tamper;
    let mut script = Script { tamper: Some(tamper), ..Script::honest(boxes.line, boxes.realm.id()) };
    script.hellos.iter_mut().for_each(|hello| hello.features_ignore = features);
    let ended = boxes.attempt(&snapshot, script).unwrap();
    assert!(ended.receiver.0.is_err() || boxes.sink.published(&snapshot.snapshot).is_some());
    ended
}

/// Boxes with enough data for a conversation.
fn busy_boxes(seed: u64) -> Boxes {
    (seed..).map(Boxes::new).find(|boxes| boxes.dataset.files.len() > 20 && boxes.size.chunks_max > 4).unwrap()
}

fn first_object(bytes: &[u8], seen: &mut bool) -> bool {
    let first = kind_of(bytes) == OBJECT && !*seen;
    *seen |= first;
    first
}

#[test]
fn content_that_does_not_fit_its_name_ends_the_session() {
    let mut seen = false;
    let ended = with(1, &mut |_, mut bytes| {
        if first_object(&bytes, &mut seen) {
            // A raw object of the same length and other content.
            bytes[8 + 20] = 0;
            let len = bytes.len() as u32 - 8 - 24;
            bytes[8 + 16..8 + 20].copy_from_slice(&len.to_le_bytes());
            *bytes.last_mut().unwrap() ^= 1;
        }
        vec![bytes]
    });
    assert!(matches!(ended.receiver.0, Err(Failure::WrongContent(_))), "{:?}", ended.receiver.0);
}

#[test]
fn a_node_before_its_children_ends_the_session() {
    let ended = with(2, &mut |side, mut bytes| {
        // The receiver answers "present" to everything: the root comes without anything below it.
        if side == Side::Receiver && kind_of(&bytes) == 5 {
            bytes[18..].fill(0);
        }
        vec![bytes]
    });
    assert!(matches!(ended.receiver.0, Err(Failure::WrongContent(_))), "{:?}", ended.receiver.0);
}

#[test]
fn an_object_twice_ends_the_session() {
    let mut seen = false;
    let ended = with(3, &mut |_, bytes| {
        if first_object(&bytes, &mut seen) { vec![bytes.clone(), bytes] } else { vec![bytes] }
    });
    assert!(matches!(ended.receiver.0, Err(Failure::Protocol(_))), "{:?}", ended.receiver.0);
}

/// The same with bundles: the first is damaged, comes twice, or is all that there is to come.
#[test]
fn bundles_that_lie_end_the_session() {
    type Lie = fn(Vec<u8>) -> Vec<Vec<u8>>;
    type Right = fn(&Failure) -> bool;
    let lies: [(Lie, Right); 4] = [
        (
            |mut bytes| {
                let last = bytes.len() - 3;
                bytes[last] ^= 1;
                vec![bytes]
            },
            |failure| matches!(failure, Failure::WrongContent(_)),
        ),
        (|bytes| vec![bytes.clone(), bytes], |failure| matches!(failure, Failure::Protocol(_))),
        (
            |bytes| {
                let objects = u16::from_le_bytes([bytes[8 + 10], bytes[8 + 11]]).into();
                vec![bytes, whole(&Message::Commit(narrowboat_wan::wire::Commit { objects }).encode())]
            },
            |_| true,
        ),
        // Packed against a base where there is none.
        (
            |mut bytes| {
                bytes[8 + 9] |= 2;
                vec![bytes]
            },
            |failure| matches!(failure, Failure::WrongContent(_) | Failure::Wire(_)),
        ),
    ];
    for (number, (lie, right)) in lies.into_iter().enumerate() {
        let mut seen = false;
        let ended = with_features(1, FEATURE_BUNDLES, &mut |_, bytes| {
            let first = kind_of(&bytes) == BUNDLE && !seen;
            seen |= first;
            if first { lie(bytes) } else { vec![bytes] }
        });
        let failure = ended.receiver.0.expect_err("a lie");
        assert!(seen && right(&failure), "lie {number}: {failure:?}");
    }
}

#[test]
fn a_commit_too_early_publishes_nothing() {
    let mut seen = false;
    let ended = with(4, &mut |_, bytes| {
        let mut out = vec![bytes];
        if first_object(&out[0], &mut seen) {
            // Counts as many as there are: the session can only end by itself.
            let commit = Message::Commit(narrowboat_wan::wire::Commit { objects: 1 });
            out.push(whole(&commit.encode()));
        }
        out
    });
    assert!(ended.receiver.0.is_err());
}

#[test]
fn a_commit_over_less_than_everything_publishes_nothing() {
    let mut boxes = busy_boxes(5);
    let snapshot = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
    // After the questions for the root's children, no object is sent, and the commit counts none.
    let mut tamper = |side, frame: Frame| {
        let bytes = whole(&frame);
        match (side, kind_of(&bytes)) {
            (Side::Sender, 4) => {
                vec![bytes, whole(&Message::Commit(narrowboat_wan::wire::Commit { objects: 0 }).encode())]
            }
            (Side::Sender, OBJECT | COMMIT) => vec![],
            _ => vec![bytes],
        }
    };
    let tamper: Tamper = &mut tamper;
    let script = Script { tamper: Some(tamper), ..Script::honest(boxes.line, boxes.realm.id()) };
    let ended = boxes.attempt(&snapshot, script).unwrap();
    assert!(matches!(ended.receiver.0, Err(Failure::WrongContent(_))), "{:?}", ended.receiver.0);
    assert!(boxes.sink.published(&snapshot.snapshot).is_none());
}

#[test]
fn another_root_as_proof_is_no_success() {
    for root in [None, Some(Name([9; 32]))] {
        let ended = with(6, &mut |side, bytes| {
            if side == Side::Receiver && kind_of(&bytes) == 8 {
                return vec![whole(&Message::Published(Published { root }).encode())];
            }
            vec![bytes]
        });
        assert!(matches!(ended.sender.0, Err(Failure::Protocol(_))), "{:?}", ended.sender.0);
    }
}

#[test]
fn a_snapshot_of_another_store_is_not_welcome() {
    let mut boxes = busy_boxes(7);
    let snapshot = boxes.dataset.snapshot(&boxes.source, 1, StoreId([99; 16]));
    let script = boxes.script();
    let ended = boxes.attempt(&snapshot, script).unwrap();
    assert!(matches!(ended.receiver.0, Err(Failure::NotAllowed(_))));
    let Err(Failure::Stopped(Stop { code, sentence })) = &ended.sender.0 else { panic!("{:?}", ended.sender.0) };
    assert_eq!((*code, sentence.as_str()), (StopCode::NotAllowed, "operation not permitted"));
    assert_eq!(boxes.sink.published(&snapshot.snapshot), None);
}

#[test]
fn an_id_that_is_taken_is_refused() {
    let mut boxes = busy_boxes(8);
    let first = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
    let script = boxes.script();
    boxes.attempt(&first, script).unwrap().sender.0.unwrap();
    let size = boxes.size;
    boxes.dataset.edit(&mut boxes.rng, size, 5);
    let other = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
    assert_ne!(first.root, other.root);
    let script = Script::honest(boxes.line, boxes.realm.id());
    let seed = boxes.rng.next();
    let what = crate::world::replication(&other, &[]);
    let ended = crate::world::attempt(&boxes.source, &boxes.sink, what, script, seed).unwrap();
    assert!(matches!(ended.receiver.0, Err(Failure::NotAllowed(_))), "{:?}", ended.receiver.0);
    assert_eq!(boxes.sink.published(&first.snapshot), Some(first));
}

#[test]
fn boxes_that_do_not_understand_one_another_say_so() {
    type Change = fn(&mut [narrowboat_wan::wire::Hello; 2]);
    let cases: [(Change, Option<StopCode>); 8] = [
        (|hellos| hellos[0].realm = Realm::new([1; 32]).id(), Some(StopCode::Realm)),
        (|hellos| hellos[1].realm = Realm::new([1; 32]).id(), Some(StopCode::Realm)),
        (|hellos| (hellos[0].version_min, hellos[0].version_max) = (2, 9), Some(StopCode::Version)),
        (|hellos| (hellos[1].version_min, hellos[1].version_max) = (0, 0), Some(StopCode::Version)),
        (|hellos| hellos[0].features_refuse = 1 << 40, Some(StopCode::Version)),
        (|hellos| hellos[1].features_read_only = 1, Some(StopCode::Version)),
        // These are no hindrance: unknown features to ignore, a newer peer, and a sender that only wants to send.
        (|hellos| (hellos[0].features_ignore, hellos[0].version_max) = (u64::MAX, 9), None),
        (|hellos| hellos[0].features_read_only = 1, None),
    ];
    for (place, (change, expected)) in cases.into_iter().enumerate() {
        let mut boxes = busy_boxes(9);
        let snapshot = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
        let mut script = Script::honest(boxes.line, boxes.realm.id());
        change(&mut script.hellos);
        let ended = boxes.attempt(&snapshot, script).unwrap();
        let code = |result: &Result<(), Failure>| match result {
            Err(Failure::Incompatible { code, .. }) => Some(*code),
            Err(Failure::Stopped(stop)) => Some(stop.code),
            _ => None,
        };
        match expected {
            None => assert!(ended.sender.0.is_ok() && ended.receiver.0.is_ok(), "case {place}"),
            Some(expected) => {
                let said = [code(&ended.sender.0), code(&ended.receiver.0)];
                assert!(said.contains(&Some(expected)), "case {place}: {:?} {:?}", ended.sender.0, ended.receiver.0);
                assert_eq!(boxes.sink.published(&snapshot.snapshot), None);
            }
        }
    }
}

#[test]
fn damage_at_the_sender_is_its_own_failure() {
    let mut boxes = busy_boxes(10);
    let snapshot = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
    let all = boxes.lacking(&snapshot);
    let lost = all.iter().find(|(kind, _)| *kind == Kind::Chunk).unwrap();
    boxes.source.withdraw(lost);
    let script = boxes.script();
    let ended = boxes.attempt(&snapshot, script).unwrap();
    assert!(matches!(ended.sender.0, Err(Failure::Store(_))), "{:?}", ended.sender.0);
    let Err(Failure::Stopped(stop)) = ended.receiver.0 else { panic!() };
    assert_eq!(stop.code, StopCode::Store);
}

#[test]
fn bases_that_were_not_offered_are_refused() {
    let ended = with(11, &mut |side, bytes| {
        if side == Side::Receiver && kind_of(&bytes) == 3 {
            let limits = Limits::default();
            let begin = narrowboat_wan::wire::Begin {
                base: Some(SnapshotId([77; 16])),
                window_bytes: limits.window_bytes,
                window_objects: limits.window_objects,
                window_names: limits.window_names,
            };
            return vec![whole(&Message::Begin(begin).encode())];
        }
        vec![bytes]
    });
    assert!(matches!(ended.sender.0, Err(Failure::Protocol(_))), "{:?}", ended.sender.0);
}

/// Who knows the root of somebody else's tree gets neither that tree as its own, nor as a base whose bytes its questions could tell.
#[test]
fn a_root_that_is_here_for_others_is_no_possession() {
    let realm = Realm::published();
    let office = MemoryStore::new(&realm);
    let mut foreign = Dataset::default();
    foreign.files.insert(1, vec![b"the payroll of another branch".to_vec().into()]);
    let theirs = foreign.snapshot(&office, 50, HEAD_OFFICE);
    office.publish(&theirs).unwrap();
    let peer = Box::new(Hello::new(Role::Sender, realm.id(), BRANCH));
    let accept = |snapshot: SnapshotOffer, bases| {
        let worker = Worker::sink(office.clone(), spans, realm.clone(), Arc::new(OwnOnly));
        let request = Request::Accept { peer: peer.clone(), snapshot: Box::new(snapshot), bases, proving: None };
        worker.run(Job { id: 0, request }).reply
    };
    let other = Dataset { id: DatasetId([8; 16]), ..Dataset::default() };
    let offer = other.snapshot(&MemoryStore::new(&realm), 1, BRANCH);
    let lying = SnapshotOffer { root: theirs.root, ..offer.clone() };
    assert!(matches!(accept(lying, vec![]), Reply::Accepted { published: false, base: None, .. }));
    assert!(office.published(&offer.snapshot).is_none());
    let bases = vec![(theirs.snapshot, theirs.root.unwrap())];
    assert!(matches!(accept(offer.clone(), bases.clone()), Reply::Accepted { base: None, .. }), "of another dataset");
    let lying = SnapshotOffer { dataset: theirs.dataset, ..offer };
    assert!(matches!(accept(lying, bases), Reply::NotAllowed(_)), "in the other's name");
}
