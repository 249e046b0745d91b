//! Receivers that mean harm: what they lie, and what they demand.

use narrowboat_wan::sync::{Limits, Room};
use narrowboat_wan::wire::{Ack, Answer, Channel, Commit, FEATURES_KNOWN, Message, Proof, ProveWays};

use super::memory::most;
use super::sessions::side::{ROOM, Side};
use super::sessions::stage::{office, replication};
use super::{NO_ROOM, assert_refused, say};

/// A sender that has begun, with everything called lacking that it asks.
fn sending() -> Side {
    let mut victim = Side::sender(Limits::default(), FEATURES_KNOWN, replication(true));
    let mut puppet = Side::receiver(Limits::default(), FEATURES_KNOWN, office());
    for _ in 0..2 {
        victim.pump(Room { control: true, data: false });
        victim.said.drain(..).for_each(|(channel, bytes)| puppet.hear(channel, &bytes));
        puppet.pump(ROOM);
        puppet.work(usize::MAX);
        puppet.said.drain(..).for_each(|(channel, bytes)| victim.hear(channel, &bytes));
    }
    assert!(victim.session.outcome().is_none());
    victim
}

#[test]
fn a_receiver_that_lies_ends_the_session() {
    let cases: Vec<(&str, Message)> = vec![
        ("answers that nobody asked for", Message::Answer(Answer { first: 900, lacking: vec![true; 1024] })),
        ("an acknowledgement of what was not sent", Message::Ack(Ack { objects: u64::MAX })),
        ("a demand by way before the commit", Message::ProveWays(ProveWays { first: 1 << 63, ways: vec![vec![0]] })),
        ("a proof", Message::Proof(Proof { first: 1, digest: [1; 32] })),
        ("a commit", Message::Commit(Commit { objects: 1 })),
    ];
    for (what, message) in cases {
        let mut victim = sending();
        let ((), bytes) = most(|| {
            say(&mut victim, message);
            victim.pump(NO_ROOM);
            victim.work(usize::MAX);
        });
        assert!(bytes < 1 << 20, "{what}: {bytes} bytes");
        assert_refused(&mut victim, what);
    }
}

/// A receiver that demands proof of the same place for ever has the sender read what the snapshot holds some times, and no more.
#[test]
fn demands_without_end_are_answered_for_a_while() {
    for way in [vec![0], vec![0, 0], vec![0; 3]] {
        let mut victim = Side::sender(Limits::default(), FEATURES_KNOWN, replication(true));
        let mut puppet = Side::receiver(Limits::default(), FEATURES_KNOWN, office());
        // Everything but the publication.
        let mut committed = false;
        for _ in 0..100 {
            victim.pump(ROOM);
            victim.work(usize::MAX);
            committed |= victim.said.iter().any(|(channel, bytes)| *channel == Channel::Control && bytes[0] == 7);
            victim.said.drain(..).for_each(|(channel, bytes)| puppet.hear(channel, &bytes));
            if committed {
                break;
            }
            puppet.pump(ROOM);
            puppet.work(usize::MAX);
            puppet.said.drain(..).for_each(|(channel, bytes)| victim.hear(channel, &bytes));
        }
        assert!(committed && victim.session.outcome().is_none());
        let (demands, bytes) = most(|| {
            let mut demands = 0;
            while victim.session.outcome().is_none() && demands < 10_000 {
                let ways = vec![way.clone(); 1024];
                say(&mut victim, Message::ProveWays(ProveWays { first: (1 << 63) + 1024 * demands, ways }));
                // It hears nothing, and wants more and more.
                victim.pump(NO_ROOM);
                victim.work(usize::MAX);
                demands += 1;
            }
            demands
        });
        assert!(bytes < 16 << 20, "{bytes} bytes after {demands} demands");
        assert_refused(&mut victim, "demands without end");
        // Twice what it holds, and a gigabyte for whatever honest receivers may find.
        let proved = victim.session.report().proved;
        assert!(proved.bytes < (1 << 30) + (64 << 20), "{proved:?}");
    }
}
