use bytes::Bytes;
use narrowboat_storage::container::codec::Codec;
use narrowboat_storage::id::{DatasetId, SnapshotId};

use super::*;
use crate::wire::{Channel, FrameDecoder, StopCode};

fn raw(frame: Frame) -> RawFrame {
    let bytes = [&frame.head[..], &frame.body[..]].concat();
    FrameDecoder::new(Channel::Data).next(&mut &bytes[..]).expect("a frame").expect("a whole one")
}

fn hello(realm: u8) -> Hello {
    Hello::new(Role::Sender, [realm; 16], StoreId([realm; 16]))
}

fn below() -> Below {
    Below { dataset: DatasetId([1; 16]), snapshot: SnapshotId([2; 16]), root: Name([3; 32]) }
}

fn stored() -> Stored {
    Stored { codec: Codec::Raw, raw_len: 5, bytes: Bytes::from_static(b"bytes") }
}

/// A conversation that has begun.
fn greeted() -> (Asker, Answerer) {
    let ((mut asker, here), (mut answerer, there)) = (Asker::new(hello(1)), Answerer::new(hello(1)));
    assert!(asker.waits());
    assert_eq!(asker.handle(raw(there)).expect("a greeting"), Heard::Nothing);
    assert_eq!(answerer.handle(raw(here)).expect("a greeting"), Asked::Nothing);
    assert!(!asker.waits());
    (asker, answerer)
}

#[test]
fn questions_are_answered_in_their_order() {
    let (mut asker, mut answerer) = greeted();
    for turn in 0..3 {
        let asked = answerer.handle(raw(asker.below(below()))).expect("a question");
        assert_eq!(asked, Asked::Below(below()));
        assert_eq!(asker.handle(raw(answerer.known(true))).expect("an answer"), Heard::Known(true));
        let ways = vec![vec![], vec![1, 300], vec![7; 64]];
        let asked = answerer.handle(raw(asker.seek(ways.clone()))).expect("a question");
        assert_eq!(asked, Asked::Seek { root: below().root, first: 3 * turn, ways });
        for number in 3 * turn..3 * turn + 3 {
            let answer = Some(stored()).filter(|_| number % 2 == 0);
            let heard = asker.handle(raw(Answerer::answer(number, answer.clone()))).expect("an answer");
            assert_eq!((heard, asker.waits()), (Heard::Answer(answer), number < 3 * turn + 2));
        }
    }
}

#[test]
fn who_speaks_out_of_turn_is_refused() {
    type Answers = fn(&mut Asker) -> Vec<Frame>;
    let wrong: [Answers; 7] = [
        |_| vec![Answerer::answer(0, Some(stored()))],
        |_| vec![HealMessage::Known(true).encode()],
        |_| vec![Answerer::new(hello(1)).1],
        |asker| {
            asker.seek(vec![vec![1]; 2]);
            vec![Answerer::answer(1, None)]
        },
        |asker| {
            asker.seek(vec![vec![1]; 2]);
            (0..=2).map(|number| Answerer::answer(number, None)).collect()
        },
        |asker| {
            asker.below(below());
            vec![HealMessage::Known(false).encode(), HealMessage::Known(false).encode()]
        },
        |_| vec![HealMessage::Below(below()).encode()],
    ];
    for (nth, wrong) in wrong.into_iter().enumerate() {
        let (mut asker, _) = greeted();
        let frames = wrong(&mut asker);
        let mut outcomes: Vec<_> = frames.into_iter().map(|frame| asker.handle(raw(frame))).collect();
        let last = outcomes.pop().expect("one");
        assert!(outcomes.iter().all(Result::is_ok), "{nth}: {outcomes:?}");
        assert!(last.as_ref().is_err_and(Failure::is_refusal), "{nth}: {last:?}");
        assert!(farewell(&last.expect_err("seen")).is_some());
    }
    let seek = |first| HealMessage::Seek(Seek { first, ways: vec![vec![1]] }).encode();
    let (_, mut answerer) = greeted();
    assert!(answerer.handle(raw(seek(0))).is_err_and(|failure| failure.is_refusal()), "before anything is known");
    let (_, mut answerer) = greeted();
    answerer.handle(raw(HealMessage::Below(below()).encode())).expect("a question");
    answerer.known(false);
    assert!(answerer.handle(raw(seek(0))).is_err_and(|failure| failure.is_refusal()), "of what is not given");
    let (_, mut answerer) = greeted();
    answerer.handle(raw(HealMessage::Below(below()).encode())).expect("a question");
    answerer.known(true);
    answerer.handle(raw(seek(0))).expect("a question");
    assert!(answerer.handle(raw(seek(0))).is_err_and(|failure| failure.is_refusal()), "twice the same number");
    let (mut answerer, _) = Answerer::new(hello(1));
    assert!(answerer.handle(raw(HealMessage::Below(below()).encode())).is_err(), "before the greeting");
}

#[test]
fn other_realms_are_refused_by_both() {
    let ((mut asker, here), (mut answerer, there)) = (Asker::new(hello(1)), Answerer::new(hello(2)));
    let stop = |failure: Failure| failure.stop().expect("something to say").code;
    assert_eq!(stop(asker.handle(raw(there)).expect_err("another realm")), StopCode::Realm);
    assert_eq!(stop(answerer.handle(raw(here)).expect_err("another realm")), StopCode::Realm);
}

#[test]
fn another_store_than_the_one_that_was_paired_gets_nothing() {
    let (_, here) = Asker::new(hello(1));
    let (answerer, _) = Answerer::new(hello(1));
    let outcome = answerer.for_store(StoreId([9; 16])).handle(raw(here));
    assert!(matches!(outcome, Err(Failure::NotAllowed(_))), "{outcome:?}");
}

#[test]
fn no_bytes_make_either_side_panic() {
    let mut seed = 7u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let sound: Vec<RawFrame> = [
        Asker::new(hello(1)).1,
        HealMessage::Below(below()).encode(),
        HealMessage::Seek(Seek { first: 0, ways: vec![vec![], vec![1, 2, 300]] }).encode(),
        Answerer::answer(0, Some(stored())),
        Answerer::answer(0, None),
        HealMessage::Known(true).encode(),
    ]
    .into_iter()
    .map(raw)
    .collect();
    for _ in 0..20_000 {
        let (mut asker, mut answerer) = greeted();
        asker.below(below());
        let mut frame = sound[random() % sound.len()].clone();
        let mut payload = frame.payload.to_vec();
        payload.truncate(random() % (payload.len() + 1));
        for _ in 0..random() % 3 {
            let len = payload.len().max(1);
            if let Some(byte) = payload.get_mut(random() % len) {
                *byte = random() as u8;
            }
        }
        frame.payload = payload.into();
        let _ = asker.handle(frame.clone());
        let _ = answerer.handle(frame);
    }
}
