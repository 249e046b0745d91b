//! What is done with bytes that a peer could send: streams of frames, whatever the messages in them; probes and grants.

use std::time::Duration;

use bytes::Bytes;
use narrowboat_wan::probe::{Dispersion, Loss, Plan, Row, TRAIN_BYTES_MAX, TRAIN_PACKETS_MAX};
use narrowboat_wan::wire::{
    Channel, FrameDecoder, GRANT_BYTES, Grant, HealMessage, Message, PREFACE_BYTES, PROBE_MESSAGE_BYTES, Preface,
    ProbeMark, ProbeMessage, RawFrame, WireError,
};

/// A stream of frames, however it is cut: what comes out is a message or a refusal, and written again it is read as the same.
pub fn frames(input: &[u8]) -> usize {
    let [flags, piece, stream @ ..] = input else { return 0 };
    if let Some((preface, _)) = stream.split_first_chunk::<PREFACE_BYTES>() {
        let _ = Preface::decode(preface).map(|known| assert_eq!(Preface::decode(&known.encode()), Ok(known)));
    }
    let channel = if flags & 1 == 0 { Channel::Control } else { Channel::Data };
    let mut decoder = FrameDecoder::new(channel);
    let mut count = 0;
    for mut piece in stream.chunks(usize::from(*piece).max(1)) {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => match read(frame, channel) {
                    Ok(messages) => count += messages,
                    Err(_) => return count,
                },
                Ok(None) => break,
                Err(_) => return count,
            }
        }
    }
    count
}

/// What one frame says: in a session, or in a healing, which has streams of its own. How many messages that is.
fn read(frame: RawFrame, channel: Channel) -> Result<usize, WireError> {
    match Message::decode(frame.clone()) {
        Ok(Some(message)) => {
            assert_eq!(again(&message), Some(message));
            return Ok(1);
        }
        Ok(None) => return Ok(0),
        Err(_) => {}
    }
    let Some(message) = HealMessage::decode(frame)? else { return Ok(0) };
    let written = message.encode();
    let bytes = [&written.head[..], &written.body[..]].concat();
    let read = FrameDecoder::new(channel).next(&mut &bytes[..]).ok().flatten();
    assert_eq!(read.map(HealMessage::decode), Some(Ok(Some(message))));
    Ok(1)
}

/// A message as it is read after it was written.
fn again(message: &Message) -> Option<Message> {
    let frame = message.encode();
    let bytes = [&frame.head[..], &frame.body[..]].concat();
    let read = FrameDecoder::new(message.channel()).next(&mut &bytes[..]);
    Message::decode(read.ok()??).ok()?
}

/// Messages and marks of a probe, and grants, one behind the other; and what a survey makes of what it is told: whatever that is, it sends
/// no more than its bounds.
pub fn probe(input: &[u8]) -> usize {
    let (mut count, mut plan, mut arrivals) = (0, Plan::default(), Vec::new());
    for piece in input.chunks_exact(PROBE_MESSAGE_BYTES) {
        let Some((bytes, _)) = piece.split_first_chunk::<PROBE_MESSAGE_BYTES>() else { continue };
        if let Some((grant, _)) = piece.split_first_chunk::<GRANT_BYTES>()
            && let Ok(grant) = Grant::decode(*grant)
        {
            assert_eq!(Grant::decode(grant.encode()), Ok(grant));
            count += 1;
        }
        if let Ok(mark) = ProbeMark::decode(&Bytes::copy_from_slice(piece)) {
            assert_eq!(ProbeMark::decode(&Bytes::copy_from_slice(&mark.encode())), Ok(mark));
            arrivals.push((mark.number, Duration::from_micros(u64::from(bytes[30]) << 8 | u64::from(bytes[31]))));
            count += 1;
        }
        let Ok(message) = ProbeMessage::decode(bytes) else { continue };
        assert_eq!(ProbeMessage::decode(&message.encode()), Ok(message));
        count += 1;
        if let ProbeMessage::Heard { seen, .. } = message
            && let Some(packets) = plan.next(1200)
        {
            assert!(packets <= TRAIN_PACKETS_MAX);
            plan.heard(packets, 1200, seen);
        }
    }
    let packets = input.len() as u32 % 600;
    let loss = Loss::of(packets, arrivals.iter().map(|(number, _)| *number));
    assert!(loss.is_sound() && (0.0..=1.0).contains(&loss.share()));
    arrivals.sort_by_key(|(_, at)| *at);
    plan.heard(packets, 1200, Dispersion::of(&arrivals, packets, 1200));
    assert!(plan.spent_bytes() <= 2 * TRAIN_BYTES_MAX + u64::from(packets) * 1200);
    let row = Row::over(plan.capacity().map(|capacity| capacity.bits_per_second), 100);
    assert!(row.packets <= 500 && row.interval >= Duration::from_millis(10));
    count
}

/// What the page shows of probes and grants.
pub fn probe_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = ["probe", "mark", "grants"].map(example).into();
    seeds[2].resize(PROBE_MESSAGE_BYTES, 0);
    seeds.push(seeds.concat());
    seeds
}

/// An example of the page.
fn example(name: &str) -> Vec<u8> {
    let block = PAGE.split("```hex ").find_map(|block| block.strip_prefix(name)?.strip_prefix('\n'));
    let digits: Vec<u8> =
        block.expect("an example").bytes().take_while(|c| *c != b'`').filter(u8::is_ascii_hexdigit).collect();
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).expect("text"), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}

const PAGE: &str = include_str!("../../docs/formats/replication-protocol.md");

/// The examples of the page, each message once, and all of each kind of stream together.
pub fn frames_seeds() -> Vec<Vec<u8>> {
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).expect("text"), 16).expect("digits");
    let mut streams = [vec![0, 7], vec![1, 7]];
    let mut seeds = Vec::new();
    for block in PAGE.split("```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a name");
        // These are no frames.
        if matches!(name, "preface" | "grants" | "probe" | "mark") {
            continue;
        }
        let digits: Vec<u8> = rest.bytes().take_while(|c| *c != b'`').filter(u8::is_ascii_hexdigit).collect();
        let mut bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        if name == "healing" {
            // The preface of its stream, which is no frame, stands before it.
            bytes.drain(..PREFACE_BYTES);
        }
        let data = usize::from(matches!(name, "object" | "bundle" | "healed"));
        seeds.push([&[data as u8, 255], &bytes[..]].concat());
        streams[data].extend_from_slice(&bytes);
    }
    seeds.extend(streams);
    seeds
}
