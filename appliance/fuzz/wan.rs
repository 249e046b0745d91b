//! What is done with bytes that a peer could send: streams of frames, whatever the messages in them.

use narrowboat_wan::wire::{Channel, FrameDecoder, Message, PREFACE_BYTES, Preface};

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
                Ok(Some(frame)) => match Message::decode(frame) {
                    Ok(Some(message)) => {
                        count += 1;
                        assert_eq!(again(&message), Some(message));
                    }
                    Ok(None) => {}
                    Err(_) => return count,
                },
                Ok(None) => break,
                Err(_) => return count,
            }
        }
    }
    count
}

/// A message as it is read after it was written.
fn again(message: &Message) -> Option<Message> {
    let frame = message.encode();
    let bytes = [&frame.head[..], &frame.body[..]].concat();
    let read = FrameDecoder::new(message.channel()).next(&mut &bytes[..]);
    Message::decode(read.ok()??).ok()?
}

/// The examples of the page, each message once, and all of each kind of stream together.
pub fn frames_seeds() -> Vec<Vec<u8>> {
    const PAGE: &str = include_str!("../../docs/formats/replication-protocol.md");
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
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        let data = usize::from(matches!(name, "object" | "bundle"));
        seeds.push([&[data as u8, 255], &bytes[..]].concat());
        streams[data].extend_from_slice(&bytes);
    }
    seeds.extend(streams);
    seeds
}
