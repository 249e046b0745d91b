//! A recorded conversation: every byte that both sides said, in order. No one edits the recording; a change of the
//! protocol records a new one beside it, and old ones stay readable.

use std::fmt::Write;

use narrowboat_storage::id::DatasetId;
use narrowboat_storage::name::Realm;
use narrowboat_wan::sync::{Compression, Failure};
use narrowboat_wan::wire::{
    Channel, FEATURE_BUNDLES, FEATURE_PREFIXES, FEATURE_PROOFS, Frame, FrameDecoder, Hello, Message,
};

use crate::common::store::MemoryStore;
use crate::common::tree::Dataset;
use crate::line::Line;
use crate::world::{BRANCH, Script, Side, Tamper, attempt, replication};

/// What was recorded, and what each side knew.
struct Recording {
    file: &'static str,
    text: &'static str,
    /// Features that the sender names, and the receiver.
    features: [u64; 2],
    /// What is asked in the same breath.
    names_ahead: usize,
    /// Whether the receiver demands proofs.
    demands: bool,
}

const fn both(file: &'static str, text: &'static str, features: u64, names_ahead: usize) -> Recording {
    Recording { file, text, features: [features, features], names_ahead, demands: false }
}

const fn skewed(file: &'static str, text: &'static str, sender: u64, receiver: u64) -> Recording {
    Recording { file, text, features: [sender, receiver], names_ahead: 10, demands: false }
}

/// The first is of two boxes that knew no bundles: so does this software speak to an older box to this day. The second has zstd's bytes in it, as the
/// version in Cargo.lock packs them. In the third, chunks are asked by prefix; in the fourth, the sender proves to have what is not sent. In the fifth it asks several
/// levels in the same breath, as it does to all of them since then. Then each older software as a sender to the one of today, and as a receiver from it; and what
/// an older sender is told where proofs are demanded.
const RECORDINGS: [Recording; 12] = [
    both("conversation-1.txt", include_str!("../golden/conversation-1.txt"), 0, 0),
    both("conversation-2.txt", include_str!("../golden/conversation-2.txt"), FEATURE_BUNDLES, 0),
    both("conversation-3.txt", include_str!("../golden/conversation-3.txt"), WITHOUT_PROOFS, 0),
    both("conversation-4.txt", include_str!("../golden/conversation-4.txt"), EVERYTHING, 0),
    both("conversation-5.txt", include_str!("../golden/conversation-5.txt"), EVERYTHING, 10),
    skewed("first-to-today.txt", include_str!("../golden/first-to-today.txt"), 0, EVERYTHING),
    skewed("today-to-first.txt", include_str!("../golden/today-to-first.txt"), EVERYTHING, 0),
    skewed("bundles-to-today.txt", include_str!("../golden/bundles-to-today.txt"), FEATURE_BUNDLES, EVERYTHING),
    skewed("today-to-bundles.txt", include_str!("../golden/today-to-bundles.txt"), EVERYTHING, FEATURE_BUNDLES),
    skewed("prefixes-to-today.txt", include_str!("../golden/prefixes-to-today.txt"), WITHOUT_PROOFS, EVERYTHING),
    skewed("today-to-prefixes.txt", include_str!("../golden/today-to-prefixes.txt"), EVERYTHING, WITHOUT_PROOFS),
    Recording {
        demands: true,
        ..skewed("refused.txt", include_str!("../golden/refused.txt"), WITHOUT_PROOFS, EVERYTHING)
    },
];
const WITHOUT_PROOFS: u64 = FEATURE_BUNDLES | FEATURE_PREFIXES;
const EVERYTHING: u64 = WITHOUT_PROOFS | FEATURE_PROOFS;
const CALM: Line = Line {
    bits_per_second: 1_000_000_000,
    one_way_us: 50_000,
    jitter_us: 0,
    loss_one_in: 0,
    segment_bytes: 100_000,
    streams: 1,
};

/// Two days of a dataset of five files, replicated one after the other.
fn converse(recording: &Recording) -> String {
    let Recording { features, names_ahead, demands, .. } = *recording;
    let realm = Realm::published();
    let (source, sink) = (MemoryStore::new(&realm), MemoryStore::new(&realm));
    let mut dataset = Dataset { id: DatasetId([7; 16]), files: Default::default() };
    for number in 0..5u8 {
        let chunks = (0..4u8).map(|chunk| vec![number, chunk, 1, 2, 3].into());
        dataset.files.insert(number.into(), chunks.collect());
    }
    if features[0] & features[1] & FEATURE_PROOFS != 0 {
        for chunk in dataset.files.values().flatten().step_by(3) {
            sink.put(narrowboat_storage::name::Kind::Chunk, chunk);
        }
    }
    let mut text = String::new();
    let mut done = Vec::new();
    for day in 1..=2u8 {
        let snapshot = dataset.snapshot(&source, day, BRANCH);
        writeln!(text, "# day {day}").unwrap();
        let mut record = |side, frame: Frame| {
            let bytes = [&frame.head[..], &frame.body[..]].concat();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{} {hex}", if side == Side::Sender { '>' } else { '<' }).unwrap();
            vec![bytes]
        };
        let tamper: Tamper = &mut record;
        let mut script = Script { tamper: Some(tamper), ..Script::honest(CALM, realm.id()) };
        // The software's version is not the protocol's.
        script.hellos.iter_mut().for_each(|hello: &mut Hello| hello.software = "golden".to_owned());
        script.hellos.iter_mut().zip(features).for_each(|(hello, features)| hello.features_ignore = features);
        if demands {
            script.hellos[1].features_read_only = FEATURE_PROOFS;
        }
        script.limits.iter_mut().for_each(|limits| limits.compression = Compression::Level(3));
        script.limits[0].names_ahead = names_ahead;
        let ended = attempt(&source, &sink, replication(&snapshot, &done), script, 1).unwrap();
        if demands {
            assert!(matches!(ended.receiver.0, Err(Failure::Incompatible { .. })), "{:?}", ended.receiver.0);
            assert!(sink.published(&snapshot.snapshot).is_none());
            break;
        }
        ended.sender.0.unwrap();
        done.push(snapshot);
        dataset.files.insert(2, vec![vec![9; 7].into(), vec![2, 1, 1, 2, 3].into()]);
    }
    text
}

#[test]
fn conversations_are_as_recorded() {
    for recording in RECORDINGS {
        let said = converse(&recording);
        let Recording { file, text: recording, .. } = recording;
        if std::env::var_os("NARROWBOAT_RECORD").is_some() {
            let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, &said).unwrap();
            continue;
        }
        for (number, (said, recorded)) in said.lines().zip(recording.lines()).enumerate() {
            assert_eq!(said, recorded, "{file}, line {}", number + 1);
        }
        assert_eq!(said.lines().count(), recording.lines().count(), "{file}");
    }
}

#[test]
fn recordings_can_be_read() {
    for Recording { file, text, demands, .. } in RECORDINGS {
        readable(file, text, if demands { 3 } else { 20 });
    }
}

fn readable(file: &str, recording: &str, least: usize) {
    let mut messages = 0;
    for line in recording.lines().filter(|line| !line.starts_with('#')) {
        let hex = &line[2..];
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        let frame = FrameDecoder::new(Channel::Data).next(&mut &bytes[..]).unwrap().unwrap();
        let message = Message::decode(frame).unwrap().unwrap();
        let again = message.encode();
        assert_eq!([&again.head[..], &again.body[..]].concat(), bytes);
        messages += 1;
    }
    assert!(messages > least, "{file}: {messages}");
}
