//! What is not so, said to a receiver: counts that nothing stands behind, bases that are none, and what was said before.

use narrowboat_wan::sync::{Failure, Limits};
use narrowboat_wan::wire::{Bundle, CONTROL_BYTES_MAX, Channel, DATA_BYTES_MAX, FEATURES_KNOWN, Message, Packing, Way};

use super::memory::most;
use super::sessions::side::{ROOM, Side};
use super::sessions::stage::{office, replication, stage};
use super::{NO_ROOM, assert_refused, begun, bundle, say};

/// Counts and lengths that nothing stands behind.
#[test]
fn absurd_counts_cost_what_was_sent() {
    let frame = |kind: u16, claimed: u32, payload: &[u8]| {
        [&kind.to_le_bytes()[..], &[0, 0], &claimed.to_le_bytes(), payload].concat()
    };
    let (ones, seq) = ([0xff_u8; 64], [0_u8; 8]);
    let of_bundle = |counts: [u16; 3]| {
        let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        [&seq[..], &[2, 0], &counts, &ones[..]].concat()
    };
    let mut offer = vec![1; 140];
    offer.extend([1, 0, b'a', 1, 0, b'b', 0xff, 0xff]);
    let cases: Vec<(&str, Channel, Vec<u8>, bool)> = vec![
        ("a frame of four gigabytes", Channel::Data, frame(65, u32::MAX, &ones), true),
        ("a frame too long for control", Channel::Control, frame(4, CONTROL_BYTES_MAX as u32 + 1, &ones), true),
        ("a frame that never comes", Channel::Data, frame(65, DATA_BYTES_MAX as u32, &ones), false),
        ("65,535 objects", Channel::Data, frame(65, 80, &of_bundle([0xffff, 0, 0])), true),
        ("65,535 ways", Channel::Data, frame(65, 80, &of_bundle([1, 0xffff, 0])), true),
        ("65,535 bases", Channel::Data, frame(65, 80, &of_bundle([1, 0, 0xffff])), true),
        ("65,535 names", Channel::Control, frame(4, 74, &[&seq[..], &[0xff, 0xff], &ones].concat()), true),
        ("65,535 prefixes", Channel::Control, frame(11, 74, &[&seq[..], &[0xff, 0xff], &ones].concat()), true),
        ("65,535 ways to prove", Channel::Control, frame(10, 74, &[&seq[..], &[0xff, 0xff], &ones].concat()), true),
        ("65,535 bases of an offer", Channel::Control, frame(2, offer.len() as u32, &offer), true),
    ];
    for (what, channel, bytes, refused) in cases {
        let mut victim = begun(&office(), FEATURES_KNOWN, Limits::default());
        let ((), most) = most(|| {
            victim.hear(channel, &bytes);
            victim.pump(NO_ROOM);
        });
        assert!(most < 256 << 10, "{what}: {most} bytes");
        if refused {
            assert_refused(&mut victim, what);
        } else {
            assert!(victim.session.outcome().is_none(), "{what}: it is waited for");
        }
    }
}

/// Bases that refer to themselves, to nothing, and to what is below chunks; ways without end.
#[test]
fn bases_that_are_none_are_refused() {
    let packed = narrowboat_wan::pack::pack(&[5; 300], &[], 3).unwrap();
    let way = |parent, index| Way { parent, index };
    let mut deep: Vec<Way> = (0..48).map(|depth| way(depth, 0)).collect();
    let cases: [(&str, Vec<Way>, Vec<Way>); 5] = [
        ("its own way", vec![way(1, 0)], vec![way(1, 0)]),
        ("a way to come", vec![way(0, 0)], vec![way(2, 0)]),
        ("a place that is none", vec![], vec![way(0, 4_000_000_000)]),
        ("below a chunk", std::mem::take(&mut deep), vec![way(48, 0)]),
        ("no way at all", vec![], vec![way(u32::MAX, u32::MAX)]),
    ];
    for (what, ways, bases) in cases {
        let shelf = office();
        let mut victim = begun(&shelf, FEATURES_KNOWN, Limits::default());
        let ((), bytes) = most(|| {
            let message = Bundle { ways, bases, ..bundle(0, vec![300], Packing::Zstd, packed.clone()) };
            say(&mut victim, Message::Bundle(message));
            victim.pump(NO_ROOM);
            victim.work(usize::MAX);
        });
        assert!(bytes < 256 << 10, "{what}: {bytes} bytes");
        assert_refused(&mut victim, what);
        shelf.check();
    }
    // More ways than there may be, told little by little, each with an honest base.
    let mut victim = begun(&office(), FEATURES_KNOWN, Limits { window_objects: 1 << 20, ..Limits::default() });
    let ((), bytes) = most(|| {
        for seq in 0.. {
            if victim.session.outcome().is_some() {
                break;
            }
            let (ways, bases) = (vec![way(0, 0); 4800], vec![way(0, 0); 100]);
            say(
                &mut victim,
                Message::Bundle(Bundle { ways, bases, ..bundle(seq, vec![300], Packing::Zstd, packed.clone()) }),
            );
            victim.pump(NO_ROOM);
            victim.work(usize::MAX);
        }
    });
    // 65,536 ways of 33 bytes, and the vector that grows.
    assert!(bytes < 3 * 65_536 * 40 + (1 << 20), "{bytes} bytes");
    assert_refused(&mut victim, "ways without end");
}

/// Everything that an honest sender said in one session is said again in another: to a box with another challenge, and to the same session.
#[test]
fn what_was_said_before_is_no_proof_now() {
    let said = {
        let shelf = office();
        let mut honest = Side::receiver(Limits::default(), FEATURES_KNOWN, shelf.clone());
        let mut sender = Side::sender(Limits::default(), FEATURES_KNOWN, replication(true));
        let mut said = Vec::new();
        for _ in 0..100 {
            sender.pump(ROOM);
            sender.work(usize::MAX);
            for (channel, bytes) in sender.said.drain(..) {
                honest.hear(channel, &bytes);
                said.push((channel, bytes));
            }
            honest.pump(ROOM);
            honest.work(usize::MAX);
            honest.said.drain(..).for_each(|(channel, bytes)| sender.hear(channel, &bytes));
        }
        assert!(matches!(sender.session.outcome(), Some(Ok(()))), "{:?}", sender.session.outcome());
        assert!(shelf.shows_snapshot(&stage().second.snapshot));
        said
    };
    let proofs = said.iter().filter(|(channel, bytes)| *channel == Channel::Control && bytes[0] == 14).count();
    assert!(proofs > 0, "there is something to prove");
    let shelf = office();
    let mut victim = Side::challenging([77; 32], Limits::default(), FEATURES_KNOWN, shelf.clone());
    for (channel, bytes) in &said {
        victim.hear(*channel, bytes);
        victim.pump(ROOM);
        victim.work(usize::MAX);
        victim.said.retain(|(_, bytes)| bytes[0] == 9);
    }
    // Where something was asked by prefix it may be a mistake, and is asked once more by names.
    let outcome = victim.session.outcome();
    assert!(matches!(outcome, Some(Err(Failure::NotProved(_) | Failure::FullNames(_)))), "{outcome:?}");
    assert!(!shelf.shows_snapshot(&stage().second.snapshot));
    shelf.check();
    // Anything twice in one session.
    for again in 0..said.len() {
        let shelf = office();
        let mut victim = Side::receiver(Limits::default(), FEATURES_KNOWN, shelf.clone());
        for (place, (channel, bytes)) in said.iter().enumerate() {
            let times = if place == again { 2 } else { 1 };
            for _ in 0..times {
                victim.hear(*channel, bytes);
                victim.pump(ROOM);
                victim.work(usize::MAX);
                victim.said.retain(|(_, bytes)| bytes[0] == 9);
            }
        }
        // A sign of life may come as often as it likes, and what is behind the publication is heard by nobody.
        let (_, bytes) = &said[again];
        if bytes[0] != 15 && bytes[0] != 7 {
            let outcome = victim.session.outcome();
            assert!(
                matches!(outcome, Some(Err(Failure::Protocol(_)))),
                "frame {again}, type {}: {outcome:?}",
                bytes[0]
            );
            assert!(!shelf.shows_snapshot(&stage().second.snapshot));
        }
        shelf.check();
    }
}
