//! What a session does at its edges: patience, cancellation, windows that a peer overruns, and the walk's memory.

use std::collections::HashMap;
use std::time::Duration;

use narrowboat_storage::catalogue::DatasetKind;
use narrowboat_storage::container::codec::Codec;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::units::Timestamp;

use super::seam::{Hello, Ref, SnapshotOffer, Stored};
use super::walk::{AHEAD, ToLoad, Walk};
use super::*;
use crate::wire::{
    ASK_NAMES_MAX, Ask, Begin, Channel, FEATURE_BUNDLES, FEATURE_PREFIXES, FrameDecoder, Message, Object, Offer, Role,
    StopCode,
};

const SECOND: Duration = Duration::from_secs(1);

fn hello(role: Role) -> Hello {
    // Without proofs, which have tests of their own.
    Hello {
        features_ignore: FEATURE_BUNDLES | FEATURE_PREFIXES,
        ..Hello::new(role, [1; 16], StoreId([role as u8; 16]))
    }
}

fn snapshot() -> SnapshotOffer {
    SnapshotOffer {
        dataset: DatasetId([3; 16]),
        dataset_name: "projects".to_owned(),
        kind: DatasetKind::Share,
        size: 0,
        snapshot: SnapshotId([4; 16]),
        snapshot_name: "day 1".to_owned(),
        time: Timestamp::new(1_800_000_000, 0),
        root: Some(name(0)),
        logical_bytes: 1,
        files: 1,
        next_inode: 2,
        source: StoreId([1; 16]),
    }
}

/// A reference that is to be asked, and compared with nothing.
fn asked(at: Ref) -> Fresh {
    Fresh { at, counterparts: Counterparts::default(), is_new: false }
}

fn name(number: u64) -> Name {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Name(bytes)
}

fn input(message: &Message) -> Input {
    let frame = message.encode();
    let bytes = [&frame.head[..], &frame.body[..]].concat();
    let channel = message.channel();
    Input::Frame(channel, FrameDecoder::new(channel).next(&mut &bytes[..]).unwrap().unwrap())
}

/// Everything that a session puts out, jobs answered by `reply`.
fn run(session: &mut Session, now: Duration, reply: &mut dyn FnMut(Request) -> Option<Reply>) -> Vec<Message> {
    let mut said = Vec::new();
    while let Some(output) = session.poll(Room { control: true, data: true }) {
        let (channel, frame) = match output {
            Output::Control(frame) => (Channel::Control, frame),
            Output::Data(frame) => (Channel::Data, frame),
            Output::Job(job) => {
                if let Some(reply) = reply(job.request) {
                    session.handle(now, Input::Done(Done { id: job.id, reply }));
                }
                continue;
            }
        };
        let bytes = [&frame.head[..], &frame.body[..]].concat();
        let raw = FrameDecoder::new(channel).next(&mut &bytes[..]).unwrap().unwrap();
        said.push(Message::decode(raw).unwrap().unwrap());
    }
    said
}

/// A receiver that has answered an offer with `Begin`.
fn receiving(limits: Limits) -> Session {
    let mut session = Session::receive(hello(Role::Receiver), limits, Duration::ZERO);
    session.handle(Duration::ZERO, input(&Message::Hello(hello(Role::Sender))));
    let offer = Offer {
        snapshot: snapshot(),
        bases: vec![],
        window_bytes: 4 << 20,
        window_objects: Limits::default().window_objects,
    };
    session.handle(Duration::ZERO, input(&Message::Offer(offer)));
    let said =
        run(&mut session, Duration::ZERO, &mut |_| Some(Reply::Accepted { published: false, base: None, nonce: None }));
    assert!(matches!(said[..], [Message::Hello(_), Message::Begin(_)]), "{said:?}");
    session
}

fn lacking_all(request: Request) -> Option<Reply> {
    match request {
        Request::Has(names) => Some(Reply::Has(vec![false; names.len()])),
        _ => None,
    }
}

fn ask(first: u64, count: u64) -> Message {
    Message::Ask(Ask { first, names: (first..first + count).map(|number| (Kind::Chunk, name(number))).collect() })
}

fn object(seq: u64, ask: u64, len: usize) -> Message {
    let stored = Stored { codec: Codec::Raw, raw_len: len as u32, bytes: vec![0; len].into() };
    Message::Object(Object { seq, ask, stored })
}

fn failed_with(session: &Session, text: &str) {
    let Some(Err(failure)) = session.outcome() else { panic!("goes on, expected: {text}") };
    assert!(failure.to_string().contains(text), "{failure}");
}

#[test]
fn a_silent_peer_is_given_up_and_told_why() {
    let mut session = Session::send(
        hello(Role::Sender),
        Replication { snapshot: snapshot(), bases: vec![], mark: None, shared: None },
        Limits { patience: Some(10 * SECOND), ..Limits::default() },
        5 * SECOND,
    );
    run(&mut session, 5 * SECOND, &mut |_| None);
    assert_eq!(session.deadline(), Some(15 * SECOND));
    session.handle(12 * SECOND, input(&Message::Hello(hello(Role::Receiver))));
    assert_eq!(session.deadline(), Some(22 * SECOND));
    session.handle(21 * SECOND, Input::Time);
    assert!(session.outcome().is_none());
    session.handle(22 * SECOND, Input::Time);
    failed_with(&session, "said nothing for 10 seconds");
    let said = run(&mut session, 22 * SECOND, &mut |_| None);
    assert!(matches!(&said[..], [Message::Stop(stop)] if stop.code == StopCode::Silent));
    assert!(session.is_over() && session.deadline().is_none());
    assert!(session.finish().0.is_err_and(|failure| failure.may_pass()));
}

#[test]
fn a_slow_store_is_not_a_silent_peer() {
    let mut session = receiving(Limits { patience: Some(SECOND), ..Limits::default() });
    session.handle(Duration::ZERO, input(&ask(1, 3)));
    let mut job = None;
    while let Some(output) = session.poll(Room { control: true, data: true }) {
        if let Output::Job(found) = output {
            job = Some(found);
        }
    }
    assert_eq!(session.deadline(), None, "the next move is ours");
    session.handle(100 * SECOND, Input::Time);
    let reply = Reply::Has(vec![true; 3]);
    session.handle(100 * SECOND, Input::Done(Done { id: job.unwrap().id, reply }));
    assert!(session.outcome().is_none());
    assert_eq!(run(&mut session, 100 * SECOND, &mut |_| None).len(), 1);
    assert_eq!(session.deadline(), Some(101 * SECOND), "now it is the peer's");
}

#[test]
fn a_cancelled_session_says_so_behind_its_greeting() {
    let replication = Replication { snapshot: snapshot(), bases: vec![], mark: None, shared: None };
    let mut session = Session::send(hello(Role::Sender), replication, Limits::default(), Duration::ZERO);
    session.handle(Duration::ZERO, Input::Cancel);
    let said = run(&mut session, Duration::ZERO, &mut |_| None);
    assert!(matches!(&said[..], [Message::Hello(_), Message::Stop(stop)] if stop.code == StopCode::Cancelled));
    session.handle(SECOND, input(&Message::Hello(hello(Role::Receiver))));
    assert!(matches!(session.finish(), (Err(Failure::Cancelled), _)), "what comes later changes nothing");
}

#[test]
fn questions_beyond_the_window_end_the_session() {
    let mut session = receiving(Limits { window_names: Limits::NAMES_MIN, ..Limits::default() });
    let objects = u64::from(Limits::default().window_objects);
    let mut first = 1;
    while first + (ASK_NAMES_MAX as u64) < u64::from(Limits::NAMES_MIN) + objects {
        session.handle(Duration::ZERO, input(&ask(first, ASK_NAMES_MAX as u64)));
        first += ASK_NAMES_MAX as u64;
    }
    assert!(session.outcome().is_none());
    session.handle(Duration::ZERO, input(&ask(first, ASK_NAMES_MAX as u64)));
    failed_with(&session, "asks more than its window");
    let mut session = receiving(Limits::default());
    session.handle(Duration::ZERO, input(&ask(2, 1)));
    failed_with(&session, "not in order");
}

#[test]
fn objects_beyond_the_window_end_the_session() {
    let limits = Limits { window_bytes: 1000, window_objects: 10, ..Limits::default() };
    let begun = || {
        let mut session = receiving(limits.clone());
        session.handle(Duration::ZERO, input(&ask(1, 100)));
        run(&mut session, Duration::ZERO, &mut lacking_all);
        session
    };
    // Nothing is admitted here, so nothing leaves the window.
    let mut session = begun();
    for number in 0..2 {
        session.handle(Duration::ZERO, input(&object(1 + number, 1 + number, 2 << 20)));
        assert!(session.outcome().is_none());
    }
    session.handle(Duration::ZERO, input(&object(3, 3, 2 << 20)));
    failed_with(&session, "more bytes than its window");

    let mut session = begun();
    session.handle(Duration::ZERO, input(&object(10, 1, 1)));
    failed_with(&session, "more objects than its window");

    for (again, what) in [(object(1, 2, 1), "the same number"), (object(2, 1, 1), "was not lacking, or twice")] {
        let mut session = begun();
        session.handle(Duration::ZERO, input(&object(1, 1, 1)));
        session.handle(Duration::ZERO, input(&again));
        failed_with(&session, what);
    }
    let mut session = begun();
    session.handle(Duration::ZERO, input(&object(0, 101, 1)));
    failed_with(&session, "was not lacking");
}

#[test]
fn messages_on_the_wrong_stream_or_at_the_wrong_moment_end_the_session() {
    let mut session = receiving(Limits::default());
    let Input::Frame(_, frame) = input(&ask(1, 1)) else { panic!() };
    session.handle(Duration::ZERO, Input::Frame(Channel::Data, frame));
    failed_with(&session, "a question has no place here");
    let mut session = Session::receive(hello(Role::Receiver), Limits::default(), Duration::ZERO);
    session.handle(Duration::ZERO, input(&object(0, 0, 1)));
    failed_with(&session, "an object has no place here");
    let mut session = Session::receive(hello(Role::Receiver), Limits::default(), Duration::ZERO);
    session.handle(Duration::ZERO, input(&Message::Hello(hello(Role::Receiver))));
    failed_with(&session, "the same role");
}

#[test]
fn windows_that_were_not_offered_are_refused() {
    let begin = Begin { base: None, window_bytes: 1 << 20, window_objects: 10, window_names: Limits::NAMES_MIN };
    for (change, fine) in [
        (begin.clone(), true),
        (Begin { window_bytes: 0, ..begin.clone() }, false),
        (Begin { window_bytes: u64::MAX, ..begin.clone() }, false),
        (Begin { window_objects: u32::MAX, ..begin.clone() }, false),
        (Begin { window_names: Limits::NAMES_MIN - 1, ..begin.clone() }, false),
        (Begin { window_names: u32::MAX, ..begin.clone() }, true),
        (Begin { base: Some(SnapshotId([9; 16])), ..begin.clone() }, false),
    ] {
        let replication = Replication { snapshot: snapshot(), bases: vec![], mark: None, shared: None };
        let mut session = Session::send(hello(Role::Sender), replication, Limits::default(), Duration::ZERO);
        session.handle(Duration::ZERO, input(&Message::Hello(hello(Role::Receiver))));
        session.handle(Duration::ZERO, input(&Message::Begin(change.clone())));
        assert_eq!(session.outcome().is_none(), fine, "{change:?}");
    }
}

/// Walks a tree that exists only as a rule. Returns the most objects held at any time, and how many were shipped.
fn walk_rule(children: impl Fn(&Ref) -> Vec<Ref>, names_max: usize) -> (usize, HashMap<Ref, u64>) {
    let root = (Kind::MapNode, name(0));
    let mut walk = Walk::new(root, None, names_max);
    let (mut held, mut shipped, mut order) = (0, HashMap::new(), 0);
    let mut outstanding = Vec::new();
    while !walk.is_done() {
        let mut moved = false;
        while let Some(question) = walk.next_ask() {
            walk.answer(question.first, &vec![true; question.names.len()]).unwrap();
            moved = true;
        }
        while let Some(batch) = walk.next_expand() {
            for (task, at, _) in batch {
                let fresh = children(&at).into_iter().map(asked).collect();
                walk.expanded(task, Expansion { fresh, ..Expansion::default() }).unwrap();
            }
            moved = true;
        }
        held = held.max(walk.held());
        while let Some(ToLoad { task, at, .. }) = walk.next_load() {
            for child in children(&at) {
                assert!(shipped.contains_key(&child), "{at:?} before {child:?}");
            }
            walk.ship(task).unwrap();
            order += 1;
            assert_eq!(shipped.insert(at, order), None, "{at:?} is shipped twice");
            outstanding.push(task);
            moved = true;
        }
        outstanding.drain(..).for_each(|task| walk.acknowledged(task));
        assert!(moved || walk.is_done(), "nothing moves after {order} objects");
    }
    (held, shipped)
}

/// Nodes by level (in the kind's stead) and number: `fanout` children each, `levels` high.
fn regular(levels: u64, fanout: u64) -> impl Fn(&Ref) -> Vec<Ref> {
    move |(kind, at)| {
        let number = at.prefix();
        let level = number >> 40;
        if *kind == Kind::Chunk || level == levels {
            return Vec::new();
        }
        let below = if level + 1 == levels { Kind::Chunk } else { Kind::MapNode };
        let place = number & ((1 << 40) - 1);
        (0..fanout).map(|child| (below, name((level + 1) << 40 | (place * fanout + child)))).collect()
    }
}

#[test]
fn a_walk_holds_little_of_a_large_tree() {
    let (held, shipped) = walk_rule(regular(3, 70), usize::MAX);
    assert_eq!(shipped.len(), 1 + 70 + 70 * 70 + 70 * 70 * 70);
    assert!(held < 4 * AHEAD, "{held} of {} objects were held at once", shipped.len());
    let (held, shipped) = walk_rule(regular(9, 3), Limits::NAMES_MIN as usize);
    assert_eq!(shipped.len(), (3usize.pow(10) - 1) / 2);
    assert!(held < 1000, "{held} objects were held at once");
}

/// A narrow window, and nodes that share children across levels in every way: each object goes once, children first.
#[test]
fn a_walk_of_a_tangled_tree_ends() {
    // Each node names some of the next few hundred, so that most are named by many nodes, at many depths.
    let tangled = |(kind, at): &Ref| {
        let number = at.prefix();
        if *kind == Kind::Chunk || number > 6000 {
            return Vec::new();
        }
        let kind_of = |number: u64| if number % 4 == 3 { Kind::Chunk } else { Kind::MapNode };
        let steps = [200, 201, 203, 207, 250, 299, 310, 333, 401, 512, 640, 901];
        steps.map(|step| number + step + number % 3).map(|child| (kind_of(child), name(child))).to_vec()
    };
    for names_max in [Limits::NAMES_MIN as usize, usize::MAX] {
        let (_, shipped) = walk_rule(tangled, names_max);
        assert!(shipped.len() > 5000, "{}", shipped.len());
    }
}

#[test]
fn a_tree_without_end_is_refused() {
    let mut walk = Walk::new((Kind::MapNode, name(0)), None, usize::MAX);
    let mut number = 0;
    let refused = loop {
        while let Some(question) = walk.next_ask() {
            walk.answer(question.first, &vec![true; question.names.len()]).unwrap();
        }
        let (task, _, _) = walk.next_expand().unwrap().remove(0);
        number += 1;
        let fresh = vec![asked((Kind::MapNode, name(number)))];
        if walk.expanded(task, Expansion { fresh, ..Expansion::default() }).is_err() {
            break number;
        }
    };
    assert_eq!(refused, 49);
}

#[test]
fn answers_to_nothing_are_refused() {
    let mut walk = Walk::new((Kind::MapNode, name(0)), None, usize::MAX);
    assert!(walk.answer(1, &[true]).is_err());
    let (task, _, _) = walk.next_expand().unwrap().remove(0);
    let fresh = (1..4).map(|number| asked((Kind::Chunk, name(number)))).collect();
    walk.expanded(task, Expansion { fresh, ..Expansion::default() }).unwrap();
    assert_eq!(walk.next_ask().unwrap().names.len(), 3);
    assert!(walk.answer(2, &[true]).is_err(), "out of order");
    assert!(walk.answer(1, &[true; 4]).is_err(), "more than was asked");
    assert_eq!(walk.answer(1, &[true, false]).unwrap().len(), 2);
    assert!(walk.answer(1, &[true]).is_err(), "twice");
    assert_eq!(walk.answer(3, &[false]).unwrap().len(), 1);
}
