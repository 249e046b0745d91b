use bytes::Bytes;
use narrowboat_storage::catalogue::DatasetKind;
use narrowboat_storage::container::codec::Codec;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::Stored;
use narrowboat_storage::units::Timestamp;
use proptest::prelude::*;

use super::*;

const PAGE: &str = include_str!("../../../docs/formats/replication-protocol.md");

/// The messages of the page's example, in its order.
fn example() -> Vec<(&'static str, Message)> {
    let hello = Hello {
        software: "narrowboat 0.1.0".to_owned(),
        features_ignore: FEATURE_BUNDLES,
        ..Hello::new(Role::Sender, [0x11; 16], StoreId([0x22; 16]))
    };
    let snapshot = SnapshotOffer {
        dataset: DatasetId([0x33; 16]),
        dataset_name: "projects".to_owned(),
        kind: DatasetKind::Share,
        size: 0,
        snapshot: SnapshotId([0x44; 16]),
        snapshot_name: "day 2".to_owned(),
        time: Timestamp::new(1_800_000_000, 0),
        root: Some(Name([0x55; 32])),
        logical_bytes: 1_000_000,
        files: 42,
        next_inode: 43,
        source: StoreId([0x22; 16]),
    };
    let bases = vec![(SnapshotId([0x66; 16]), Name([0x77; 32]))];
    let offer = Offer { snapshot, bases, window_bytes: 4 << 20, window_objects: 8192 };
    let begin = Begin {
        base: Some(SnapshotId([0x66; 16])),
        window_bytes: 4 << 20,
        window_objects: 8192,
        window_names: 401_408,
    };
    let names = vec![(Kind::SequenceNode, Name([0x88; 32])), (Kind::Chunk, Name([0x99; 32]))];
    let stored = Stored { codec: Codec::Raw, raw_len: 5, bytes: Bytes::from_static(b"hello") };
    vec![
        ("hello", Message::Hello(hello)),
        ("offer", Message::Offer(offer)),
        ("begin", Message::Begin(begin)),
        ("ask", Message::Ask(Ask { first: 1, names })),
        ("prefixes", Message::AskPrefixes(AskPrefixes { first: 3, prefixes: vec![0x0706_0504_0302_0100, 1] })),
        ("answer", Message::Answer(Answer { first: 1, lacking: vec![false, true] })),
        ("challenge", Message::Challenge(Challenge { nonce: [0xaa; 32] })),
        ("prove", Message::Prove(Prove { first: 1, which: vec![true, false, true] })),
        ("ways", Message::ProveWays(ProveWays { first: 1 << 63, ways: vec![vec![0, 200], vec![3]] })),
        ("proof", Message::Proof(Proof { first: 1, digest: [0xbb; 32] })),
        ("working", Message::Working),
        ("object", Message::Object(Object { seq: 0, ask: 2, stored })),
        ("bundle", Message::Bundle(bundle())),
        ("ack", Message::Ack(Ack { objects: 1 })),
        ("commit", Message::Commit(Commit { objects: 1 })),
        ("published", Message::Published(Published { root: Some(Name([0x55; 32])) })),
        ("stop", Message::Stop(Stop { code: StopCode::Full, sentence: "the disk is full".to_owned() })),
    ]
}

/// Two objects that were asked, the second out of turn, and one that was not; two ways and three bases.
fn bundle() -> Bundle {
    let item = |origin, len| Item { origin, len };
    let way = |parent, index| Way { parent, index };
    Bundle {
        seq: 1,
        items: vec![
            item(Origin::Asked(3), 3),
            item(Origin::Asked(300), 5),
            item(Origin::Unasked(Kind::SequenceNode), 2),
        ],
        forget: true,
        ways: vec![way(0, 4), way(1, 200)],
        from_root: true,
        bases: vec![way(2, 0), way(2, 1), way(1, 7)],
        packing: Packing::Zstd,
        bytes: Bytes::from_static(b"packed"),
    }
}

/// The bytes of a block in the page that begins with "```hex NAME".
fn block(name: &str) -> Vec<u8> {
    let begin = format!("```hex {name}\n");
    let start = PAGE.find(&begin).unwrap_or_else(|| panic!("the page has no example {name}")) + begin.len();
    let end = PAGE[start..].find("```").unwrap();
    let digits: String = PAGE[start..start + end].chars().filter(|c| !c.is_whitespace()).collect();
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn bytes_of(message: &Message) -> Vec<u8> {
    let frame = message.encode();
    assert_eq!(frame.len(), frame.head.len() + frame.body.len());
    [&frame.head[..], &frame.body[..]].concat()
}

fn frames_of(channel: Channel, bytes: &[u8], piece: usize) -> Result<Vec<RawFrame>, WireError> {
    let mut decoder = FrameDecoder::new(channel);
    let mut frames = Vec::new();
    for mut piece in bytes.chunks(piece.max(1)) {
        while let Some(frame) = decoder.next(&mut piece)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

/// The one message in these bytes; `None` where they are not one frame (a damaged length may make two of one).
fn decode_one(channel: Channel, bytes: &[u8]) -> Result<Option<Message>, WireError> {
    let mut frames = frames_of(channel, bytes, usize::MAX)?;
    match (frames.pop(), frames.is_empty()) {
        (Some(frame), true) => Message::decode(frame),
        _ => Ok(None),
    }
}

#[test]
fn the_pages_example_is_what_is_written_and_read() {
    let preface = Preface { class: StreamClass::Data, index: 3, session: 7 };
    let bytes: [u8; PREFACE_BYTES] = block("preface").try_into().unwrap();
    assert_eq!(preface.encode(), bytes);
    assert_eq!(Preface::decode(&bytes), Ok(preface));
    let bytes = block("grants");
    let (preface, grants) = bytes.split_first_chunk::<PREFACE_BYTES>().expect("a preface");
    assert_eq!(Preface::decode(preface), Ok(Preface { class: StreamClass::Grants, index: 0, session: 0 }));
    let grants: Vec<_> = grants.chunks(GRANT_BYTES).map(|grant| Grant::decode(grant.try_into().unwrap())).collect();
    assert_eq!(grants, [Ok(Grant("20Mbit".parse().ok())), Ok(Grant(None))]);
    let (bytes, ways) = (block("healing"), vec![vec![], vec![0, 200, 1]]);
    let (preface, asked) = bytes.split_first_chunk::<PREFACE_BYTES>().expect("a preface");
    assert_eq!(Preface::decode(preface), Ok(Preface { class: StreamClass::Heal, index: 0, session: 7 }));
    let below = Below { dataset: DatasetId([0x33; 16]), snapshot: SnapshotId([0x44; 16]), root: Name([0x55; 32]) };
    let stored = Stored { codec: Codec::Raw, raw_len: 5, bytes: Bytes::from_static(b"hello") };
    let there = [HealMessage::Below(below), HealMessage::Seek(Seek { first: 0, ways })];
    let back = [HealMessage::Known(true), HealMessage::Found(Found { number: 0, stored }), HealMessage::Lacking(1)];
    for (page, messages) in [(asked.to_vec(), &there[..]), (block("healed"), &back[..])] {
        let frames = messages.iter().map(HealMessage::encode);
        let bytes: Vec<u8> = frames.flat_map(|frame| [&frame.head[..], &frame.body[..]].concat()).collect();
        assert_eq!(bytes, page, "{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let frames = frames_of(Channel::Data, &page, 7).expect("frames");
        let read: Vec<_> = frames.into_iter().map(|frame| HealMessage::decode(frame).expect("sound")).collect();
        assert!(read.iter().flatten().eq(messages), "{read:?}");
    }
    for (name, message) in example() {
        let hex: String = bytes_of(&message).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes_of(&message), block(name), "{name}: {hex}");
        assert_eq!(decode_one(message.channel(), &block(name)), Ok(Some(message)), "{name}");
    }
}

#[test]
fn frames_arrive_in_any_pieces() {
    let stream: Vec<u8> = example().iter().flat_map(|(_, message)| bytes_of(message)).collect();
    for piece in [1, 2, 7, 8, 9, 100, 10_000] {
        let frames = frames_of(Channel::Data, &stream, piece).unwrap();
        let messages: Vec<Message> = frames.into_iter().map(|frame| Message::decode(frame).unwrap().unwrap()).collect();
        assert!(messages.iter().eq(example().iter().map(|(_, message)| message)), "pieces of {piece}");
    }
}

#[test]
fn every_shorter_payload_is_refused() {
    for (name, message) in example() {
        let whole = bytes_of(&message);
        let fields = message.encode().head.len() - 8;
        for len in 0..fields {
            let payload = Bytes::copy_from_slice(&whole[8..8 + len]);
            let frame = RawFrame { kind: u16::from_le_bytes([whole[0], whole[1]]), flags: 0, payload };
            assert!(Message::decode(frame).is_err(), "{name} cut to {len}");
        }
    }
}

#[test]
fn bytes_behind_the_last_field_are_refused() {
    for (name, message) in example() {
        let whole = bytes_of(&message);
        let payload = [&whole[8..], &[0]].concat().into();
        let frame = RawFrame { kind: u16::from_le_bytes([whole[0], whole[1]]), flags: 0, payload };
        let grows = matches!(message, Message::Hello(_) | Message::Object(_) | Message::Bundle(_));
        assert_eq!(Message::decode(frame).is_ok(), grows, "{name}");
    }
}

#[test]
fn lengths_beyond_their_bounds_are_refused_before_anything_is_kept() {
    for (channel, max) in [(Channel::Control, CONTROL_BYTES_MAX), (Channel::Data, DATA_BYTES_MAX)] {
        for (len, fine) in [(max, true), (max + 1, false), (u32::MAX as usize, false)] {
            let head = [&64u16.to_le_bytes()[..], &0u16.to_le_bytes(), &(len as u32).to_le_bytes()].concat();
            assert_eq!(FrameDecoder::new(channel).next(&mut &head[..]).is_ok(), fine, "{channel:?} {len}");
        }
    }
    let ask = [&0u64.to_le_bytes()[..], &(ASK_NAMES_MAX as u16 + 1).to_le_bytes()].concat();
    assert!(Message::decode(RawFrame { kind: 4, flags: 0, payload: ask.into() }).is_err());
}

#[test]
fn an_unknown_message_is_skipped_where_it_says_so() {
    let frame = |flags| RawFrame { kind: 999, flags, payload: Bytes::from_static(b"whatever") };
    assert_eq!(Message::decode(frame(1)), Ok(None));
    assert_eq!(Message::decode(frame(0)), Err(WireError::Unknown { what: "message", value: 999 }));
}

#[test]
fn what_is_written_can_be_read_whatever_the_text() {
    let long = "ß\n".repeat(2000);
    let stop = Message::Stop(Stop { code: StopCode::Other(700), sentence: long });
    let Ok(Some(Message::Stop(read))) = decode_one(Channel::Control, &bytes_of(&stop)) else { panic!() };
    assert_eq!(read.code, StopCode::Other(700));
    assert!(read.sentence.len() <= SENTENCE_BYTES_MAX && read.sentence.starts_with("ß ß"));
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(kind in 0u16..70, flags in 0u16..3, payload in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::decode(RawFrame { kind, flags, payload: payload.clone().into() });
        let _ = frames_of(Channel::Control, &payload, 13);
    }

    #[test]
    fn damaged_messages_are_refused_or_say_something_else(index in 0usize..17, at in 0usize..1000, bit in 0u8..8) {
        let (_, message) = example().swap_remove(index);
        let mut bytes = bytes_of(&message);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(Some(read)) = decode_one(Channel::Data, &bytes) {
            // What can be read again is written as it was read: one message, one encoding, but for reserved bytes.
            let again = bytes_of(&read);
            prop_assert_eq!(decode_one(Channel::Data, &again), Ok(Some(read)));
        }
    }
}
