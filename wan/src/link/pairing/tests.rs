//! Pairing between honest boxes, and against everybody else.

use std::time::Duration;

use narrowboat_storage::id::StoreId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::desk::{ATTEMPTS, OPEN_FOR};
use super::wire::{Card, ELEMENT_LEN, FRAME_MAX, Frame, Greeting, Message, Reason};
use super::*;
use crate::peer::PeerId;

const NOW: Duration = Duration::from_secs(1000);
const REALM: [u8; 16] = [0x11; 16];

struct World {
    desk: Desk,
    code: Code,
    rng: StdRng,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let code = Code::random(&mut rng);
        let mut desk = Desk::default();
        desk.invite(NOW, code.clone(), None);
        World { desk, code, rng }
    }

    fn other_code(&mut self) -> Code {
        let other = Code::random(&mut self.rng);
        assert_ne!(other.to_string(), self.code.to_string());
        other
    }

    /// One whole attempt over one honest connection.
    fn attempt(&mut self, now: Duration, code: &Code, joiner: Facts, inviter: Facts) -> (Ended, Ended) {
        let (mut joiner, mut frame) = Joiner::start(code, joiner, &mut self.rng);
        let mut inviter = Inviter::new(inviter);
        loop {
            let answer = match inviter.receive(now, &mut self.desk, &mut self.rng, &frame[2..]) {
                Step::Send(answer) => answer,
                step => {
                    let (ended, last) = end(step);
                    return (end(joiner.receive(&last.expect("a last frame")[2..])).0, ended);
                }
            };
            match joiner.receive(&answer[2..]) {
                Step::Send(next) => frame = next,
                step => {
                    let (ended, last) = end(step);
                    let told = last.map(|last| inviter.receive(now, &mut self.desk, &mut self.rng, &last[2..]));
                    return (ended, told.map_or(Err(PairingError::Malformed), |step| end(step).0));
                }
            }
        }
    }
}

type Ended = Result<Card, PairingError>;

fn end(step: Step) -> (Ended, Option<Frame>) {
    match step {
        Step::Paired { card, last, .. } => (Ok(card), last),
        Step::Failed { error, last } => (Err(error), last),
        Step::Send(frame) => panic!("not the end: {frame:?}"),
    }
}

fn card(number: u8) -> Card {
    let name = ["branch", "head-office", "spy"][usize::from(number)].parse().expect("a name");
    Card { name, store: StoreId([number; 16]), port: 7420 }
}

fn facts(exporter: u8, joiner: u8, inviter: u8, me: u8) -> Facts {
    Facts {
        exporter: [exporter; 32],
        joiner: PeerId([joiner; 32]),
        inviter: PeerId([inviter; 32]),
        realm: REALM,
        card: card(me),
    }
}

const BRANCH: u8 = 0;
const HEAD: u8 = 1;
const SPY: u8 = 2;

fn joiner() -> Facts {
    facts(9, BRANCH, HEAD, BRANCH)
}

fn inviter() -> Facts {
    facts(9, BRANCH, HEAD, HEAD)
}

#[test]
fn the_right_code_pairs_and_is_used_up() {
    let mut world = World::new(1);
    let code = world.code.clone();
    let (at_joiner, at_inviter) = world.attempt(NOW, &code, joiner(), inviter());
    assert_eq!(at_joiner, Ok(card(HEAD)));
    assert_eq!(at_inviter, Ok(card(BRANCH)));
    assert_eq!(world.desk.open_until(NOW), None);
    let (again, _) = world.attempt(NOW, &code, joiner(), inviter());
    assert_eq!(again, Err(PairingError::NotInvited));
}

#[test]
fn the_name_of_the_invitation_is_handed_out_with_the_pairing() {
    let mut world = World::new(2);
    world.desk.invite(NOW, world.code.clone(), Some("branch-7".parse().expect("a name")));
    let (mut joiner, hello) = Joiner::start(&world.code, joiner(), &mut world.rng);
    let mut inviter = Inviter::new(inviter());
    let mut frame = hello;
    let name = loop {
        match inviter.receive(NOW, &mut world.desk, &mut world.rng, &frame[2..]) {
            Step::Send(answer) => match joiner.receive(&answer[2..]) {
                Step::Send(next) => frame = next,
                step => panic!("{step:?}"),
            },
            Step::Paired { name, .. } => break name,
            step => panic!("{step:?}"),
        }
    };
    assert_eq!(name.expect("a name").as_str(), "branch-7");
}

#[test]
fn three_wrong_codes_close_the_invitation() {
    let mut world = World::new(3);
    for left in (0..ATTEMPTS).rev() {
        let wrong = world.other_code();
        let (at_joiner, at_inviter) = world.attempt(NOW, &wrong, joiner(), inviter());
        assert_eq!(at_joiner, Err(PairingError::WrongCode { attempts_left: left }));
        assert_eq!(at_inviter, Err(PairingError::WrongCode { attempts_left: left }));
    }
    assert_eq!(world.desk.open_until(NOW), None);
    let code = world.code.clone();
    assert_eq!(world.attempt(NOW, &code, joiner(), inviter()).0, Err(PairingError::NotInvited));
}

#[test]
fn a_greeting_that_is_never_followed_up_burns_an_attempt() {
    let mut world = World::new(4);
    for _ in 0..ATTEMPTS {
        let code = world.other_code();
        let (_, hello) = Joiner::start(&code, joiner(), &mut world.rng);
        let step = Inviter::new(inviter()).receive(NOW, &mut world.desk, &mut world.rng, &hello[2..]);
        assert!(matches!(step, Step::Send(_)));
    }
    let code = world.code.clone();
    assert_eq!(world.attempt(NOW, &code, joiner(), inviter()).0, Err(PairingError::NotInvited));
}

#[test]
fn an_old_code_is_refused_to_the_nanosecond() {
    let mut world = World::new(5);
    let code = world.code.clone();
    let last = NOW + OPEN_FOR - Duration::from_nanos(1);
    assert_eq!(world.attempt(last, &code, joiner(), inviter()).0, Ok(card(HEAD)));
    let mut world = World::new(5);
    assert_eq!(world.attempt(NOW + OPEN_FOR, &code, joiner(), inviter()).0, Err(PairingError::Expired));
}

#[test]
fn who_passes_frames_on_between_two_connections_fails() {
    // The spy answers the joiner with a key of its own and dials the inviter itself: two connections, two exporters, and
    // keys that differ from what the other end sees. It passes on every frame as it is.
    for (exporters, keys) in
        [((1, 2), (SPY, SPY)), ((1, 2), (HEAD, BRANCH)), ((1, 1), (SPY, SPY)), ((1, 1), (SPY, BRANCH))]
    {
        let mut world = World::new(6);
        let code = world.code.clone();
        let at_joiner = facts(exporters.0, BRANCH, keys.0, BRANCH);
        let at_inviter = facts(exporters.1, keys.1, HEAD, HEAD);
        let (joined, invited) = world.attempt(NOW, &code, at_joiner, at_inviter);
        assert!(matches!(joined, Err(PairingError::WrongCode { .. })), "{exporters:?} {keys:?}: {joined:?}");
        assert!(matches!(invited, Err(PairingError::WrongCode { .. })), "{exporters:?} {keys:?}: {invited:?}");
    }
}

#[test]
fn who_guesses_in_between_learns_nothing_but_that_the_guess_was_wrong() {
    let mut world = World::new(7);
    let guess = world.other_code();
    // As the inviter, towards the joiner who types the right code.
    let mut spy_desk = Desk::default();
    spy_desk.invite(NOW, guess.clone(), None);
    let (mut victim, hello) = Joiner::start(&world.code, facts(1, BRANCH, SPY, BRANCH), &mut world.rng);
    let mut spy = Inviter::new(facts(1, BRANCH, SPY, SPY));
    let Step::Send(answer) = spy.receive(NOW, &mut spy_desk, &mut world.rng, &hello[2..]) else { panic!("answers") };
    let Step::Send(proof) = victim.receive(&answer[2..]) else { panic!("proves") };
    let (ended, _) = end(spy.receive(NOW, &mut spy_desk, &mut world.rng, &proof[2..]));
    assert!(matches!(ended, Err(PairingError::WrongCode { .. })));
    // The victim has not said who it is: its name is in none of its frames.
    for frame in [&hello, &proof] {
        assert!(!frame.windows(6).any(|part| part == b"branch"));
    }
    // A card with an invented proof does not help.
    let forged = Message::InviterCard(card(SPY), [0; 32]).encode();
    assert!(matches!(end(victim.receive(&forged[2..])).0, Err(PairingError::WrongCode { .. })));
}

#[test]
fn frames_of_an_earlier_pairing_are_worth_nothing() {
    let mut world = World::new(8);
    let code = world.code.clone();
    let (mut joiner, hello) = Joiner::start(&code, joiner(), &mut world.rng);
    let mut first = Inviter::new(inviter());
    let Step::Send(answer) = first.receive(NOW, &mut world.desk, &mut world.rng, &hello[2..]) else {
        panic!("answers")
    };
    let Step::Send(proof) = joiner.receive(&answer[2..]) else { panic!("proves") };
    // The same greeting and proof again, in a connection that has the very same keys and exporter.
    let mut second = Inviter::new(inviter());
    let step = second.receive(NOW, &mut world.desk, &mut world.rng, &hello[2..]);
    assert!(matches!(step, Step::Send(_)));
    let (ended, _) = end(second.receive(NOW, &mut world.desk, &mut world.rng, &proof[2..]));
    assert!(matches!(ended, Err(PairingError::WrongCode { .. })), "{ended:?}");
}

#[test]
fn two_who_know_the_code_cannot_both_use_it() {
    let mut world = World::new(9);
    let code = world.code.clone();
    let mut sessions: Vec<(Inviter, Frame)> = Vec::new();
    for _ in 0..2 {
        let (mut joiner, hello) = Joiner::start(&code, joiner(), &mut world.rng);
        let mut inviter = Inviter::new(inviter());
        let Step::Send(answer) = inviter.receive(NOW, &mut world.desk, &mut world.rng, &hello[2..]) else { panic!() };
        let Step::Send(proof) = joiner.receive(&answer[2..]) else { panic!() };
        sessions.push((inviter, proof));
    }
    let outcomes: Vec<Step> = sessions
        .iter_mut()
        .map(|(inviter, proof)| inviter.receive(NOW, &mut world.desk, &mut world.rng, &proof[2..]))
        .collect();
    assert!(matches!(outcomes[0], Step::Send(_)));
    assert!(matches!(outcomes[1], Step::Failed { error: PairingError::NotInvited, .. }));
}

#[test]
fn other_realms_and_the_same_store_part_with_a_sentence_and_burn_nothing() {
    let mut world = World::new(10);
    let code = world.code.clone();
    let elsewhere = Facts { realm: [0x77; 16], ..joiner() };
    for _ in 0..5 {
        let (at_joiner, at_inviter) = world.attempt(NOW, &code, elsewhere.clone(), inviter());
        assert_eq!((at_joiner, at_inviter), (Err(PairingError::OtherRealm), Err(PairingError::OtherRealm)));
    }
    let copy = Facts { card: Card { store: StoreId([HEAD; 16]), ..card(BRANCH) }, ..joiner() };
    let (at_joiner, at_inviter) = world.attempt(NOW, &code, copy, inviter());
    assert_eq!((at_joiner, at_inviter), (Err(PairingError::SameStore), Err(PairingError::SameStore)));
    assert!(PairingError::OtherRealm.to_string().contains("realm"));
}

#[test]
fn newer_versions_and_required_features_are_refused() {
    let element = [0x41; ELEMENT_LEN];
    for (version, required) in [(2, 0), (0, 0), (1, 1)] {
        let mut world = World::new(11);
        let hello = Message::Hello(Greeting { version, optional: u32::MAX, required, realm: REALM, element }).encode();
        let step = Inviter::new(inviter()).receive(NOW, &mut world.desk, &mut world.rng, &hello[2..]);
        assert_eq!(end(step).0, Err(PairingError::Unsupported));
    }
}

#[test]
fn frames_out_of_turn_and_bytes_that_are_none_end_it() {
    let mut rng = StdRng::seed_from_u64(12);
    for seed in 0..500 {
        let mut world = World::new(seed);
        let mut junk = vec![0; rng.random_range(0..FRAME_MAX)];
        rng.fill(&mut junk[..]);
        if let Some(first) = junk.first_mut() {
            *first %= 9;
        }
        let step = Inviter::new(inviter()).receive(NOW, &mut world.desk, &mut world.rng, &junk);
        assert!(matches!(step, Step::Failed { .. }), "{junk:?}");
        let (mut joiner, _) = Joiner::start(&world.code, joiner(), &mut world.rng);
        assert!(matches!(joiner.receive(&junk), Step::Failed { .. }), "{junk:?}");
    }
}

/// Runs a pairing in which `harm` may change one frame on its way. Returns how many sides paired.
fn paired_sides(which: usize, harm: impl Fn(&mut Frame)) -> usize {
    let mut world = World::new(13);
    let (mut joiner, mut frame) = Joiner::start(&world.code, joiner(), &mut world.rng);
    let mut inviter = Inviter::new(inviter());
    let mut paired = 0;
    for number in 0.. {
        if number == which {
            harm(&mut frame);
        }
        let step = match number % 2 {
            0 => inviter.receive(NOW, &mut world.desk, &mut world.rng, &frame[2..]),
            _ => joiner.receive(&frame[2..]),
        };
        match step {
            Step::Send(next) => frame = next,
            Step::Paired { last: Some(last), .. } => (frame, paired) = (last, paired + 1),
            Step::Paired { last: None, .. } => return paired + 1,
            Step::Failed { .. } => break,
        }
    }
    paired
}

#[test]
fn every_changed_bit_of_every_frame_is_noticed() {
    assert_eq!(paired_sides(9, |_| ()), 2, "without harm both pair");
    let lengths = [64, 64, 33, 63, 58, 33];
    for (which, length) in lengths.into_iter().enumerate() {
        // Every byte, one bit of it: each bit would take a minute of curve arithmetic and show nothing more.
        for byte in 0..length {
            let sides = paired_sides(which, |frame| {
                assert_eq!(frame.len(), length + 2, "frame {which}");
                frame[2 + byte] ^= 1 << (byte % 8);
            });
            // Done is the last frame: the inviter has pinned by then.
            assert!(sides < if which == 5 { 2 } else { 1 }, "frame {which}, byte {byte}: {sides} sides paired");
        }
    }
}

#[test]
fn the_page_shows_frames() {
    let page = include_str!("../../../../docs/formats/pairing.md");
    let example = page.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let frames: Vec<Vec<u8>> = example
        .split("\n\n")
        .map(|frame| {
            let digits: String = frame.split_whitespace().collect();
            (0..digits.len() / 2)
                .map(|index| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).expect("hexadecimal"))
                .collect()
        })
        .collect();
    let greeting = Greeting { version: 1, optional: 0, required: 0, realm: REALM, element: [0x41; ELEMENT_LEN] };
    let messages = [
        Message::Hello(greeting),
        Message::Proof([0x22; 32]),
        Message::InviterCard(card(HEAD), [0x33; 32]),
        Message::Refused(Reason::WrongCode, 2),
    ];
    assert_eq!(frames.len(), messages.len());
    for (frame, message) in frames.iter().zip(messages) {
        assert_eq!(usize::from(u16::from_le_bytes([frame[0], frame[1]])), frame.len() - 2);
        assert_eq!(Message::decode(&frame[2..]), Some(message.clone()));
        assert_eq!(message.encode().as_slice(), frame.as_slice());
    }
}
