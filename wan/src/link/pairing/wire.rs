//! The frames of pairing: fixed upper size, nothing allocated, every length checked. `docs/formats/pairing.md`.

use std::str;

use narrowboat_storage::id::StoreId;

use crate::peer::PeerName;

/// Longest frame, its length field not counted.
pub const FRAME_MAX: usize = 256;
/// A frame as it goes into the stream: two bytes of length, one of type, the body.
pub type Frame = heapless::Vec<u8, { FRAME_MAX + 2 }>;

/// A SPAKE2 message of the Ed25519 group: one byte for the side, 32 for the element.
pub const ELEMENT_LEN: usize = 33;
/// A keyed BLAKE3 hash.
pub const PROOF_LEN: usize = 32;

const MAGIC: [u8; 4] = *b"NBPA";
/// The version of pairing that this is.
pub const VERSION: u16 = 1;

/// What a box says of itself once the code is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// What it calls itself.
    pub name: PeerName,
    /// The store that it keeps.
    pub store: StoreId,
    /// The UDP port that it listens on.
    pub port: u16,
}

/// The greeting of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The version spoken.
    pub version: u16,
    /// Features that the other side may ignore.
    pub optional: u32,
    /// Features that the other side must know.
    pub required: u32,
    /// The realm that the box is in.
    pub realm: [u8; 16],
    /// The SPAKE2 message.
    pub element: [u8; ELEMENT_LEN],
}

/// Why the other side ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The proof does not fit: another code, or somebody in between.
    WrongCode = 1,
    /// No invitation is open, or its attempts are used up.
    NotInvited = 2,
    /// The invitation is too old.
    Expired = 3,
    /// The boxes are in different realms.
    OtherRealm = 4,
    /// Both boxes keep the same store: one is a copy of the other.
    SameStore = 5,
    /// One side needs a feature that the other lacks.
    Unsupported = 6,
    /// The frame was none, or came out of turn.
    Malformed = 7,
    /// The box failed by itself: its disk, for instance.
    Failed = 8,
}

impl Reason {
    const ALL: [Reason; 8] = [
        Reason::WrongCode,
        Reason::NotInvited,
        Reason::Expired,
        Reason::OtherRealm,
        Reason::SameStore,
        Reason::Unsupported,
        Reason::Malformed,
        Reason::Failed,
    ];
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Joiner: here I am.
    Hello(Greeting),
    /// Inviter: here am I.
    Answer(Greeting),
    /// Joiner: I know the code.
    Proof([u8; PROOF_LEN]),
    /// Inviter: so do I, and this is who I am.
    InviterCard(Card, [u8; PROOF_LEN]),
    /// Joiner: and this is who I am.
    JoinerCard(Card, [u8; PROOF_LEN]),
    /// Inviter: you are pinned.
    Done([u8; PROOF_LEN]),
    /// Either: no, and how many attempts are left.
    Refused(Reason, u8),
}

impl Message {
    fn number(&self) -> u8 {
        match self {
            Message::Hello(_) => 1,
            Message::Answer(_) => 2,
            Message::Proof(_) => 3,
            Message::InviterCard(..) => 4,
            Message::JoinerCard(..) => 5,
            Message::Done(_) => 6,
            Message::Refused(..) => 7,
        }
    }

    /// Writes the frame, with its length in front.
    pub fn encode(&self) -> Frame {
        let mut out = Writer(Frame::new());
        out.put(&[0, 0, self.number()]);
        match self {
            Message::Hello(greeting) | Message::Answer(greeting) => {
                out.put(&MAGIC);
                out.put(&greeting.version.to_le_bytes());
                out.put(&greeting.optional.to_le_bytes());
                out.put(&greeting.required.to_le_bytes());
                out.put(&greeting.realm);
                out.put(&greeting.element);
            }
            Message::Proof(proof) | Message::Done(proof) => out.put(proof),
            Message::InviterCard(card, proof) | Message::JoinerCard(card, proof) => {
                out.put(&card_bytes(card));
                out.put(proof);
            }
            Message::Refused(reason, left) => out.put(&[*reason as u8, *left]),
        }
        let Writer(mut frame) = out;
        let len = (frame.len() - 2) as u16;
        frame[..2].copy_from_slice(&len.to_le_bytes());
        frame
    }

    /// Reads a frame without its length. None where it is not one, to the last byte.
    pub fn decode(frame: &[u8]) -> Option<Message> {
        let (number, body) = frame.split_first()?;
        let mut reader = Reader(body);
        let message = match number {
            1 => Message::Hello(reader.greeting()?),
            2 => Message::Answer(reader.greeting()?),
            3 => Message::Proof(reader.array()?),
            4 => Message::InviterCard(reader.card()?, reader.array()?),
            5 => Message::JoinerCard(reader.card()?, reader.array()?),
            6 => Message::Done(reader.array()?),
            7 => {
                let [reason, left] = reader.array()?;
                Message::Refused(Reason::ALL.into_iter().find(|known| *known as u8 == reason)?, left)
            }
            _ => return None,
        };
        reader.0.is_empty().then_some(message)
    }
}

/// The bytes of a card, as they are sent and as they are proved.
pub(super) fn card_bytes(card: &Card) -> Frame {
    let mut out = Writer(Frame::new());
    out.put(&card.store.0);
    out.put(&card.port.to_le_bytes());
    out.put(&[card.name.as_str().len() as u8]);
    out.put(card.name.as_str().as_bytes());
    out.0
}

/// Writes what is known to fit: the longest frame, a card of 82 bytes with its proof, is far below [`FRAME_MAX`].
struct Writer(Frame);

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        let fits = self.0.extend_from_slice(bytes).is_ok();
        assert!(fits, "a frame of pairing is never longer than FRAME_MAX");
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn greeting(&mut self) -> Option<Greeting> {
        if self.array()? != MAGIC {
            return None;
        }
        Some(Greeting {
            version: u16::from_le_bytes(self.array()?),
            optional: u32::from_le_bytes(self.array()?),
            required: u32::from_le_bytes(self.array()?),
            realm: self.array()?,
            element: self.array()?,
        })
    }

    fn card(&mut self) -> Option<Card> {
        let store = StoreId(self.array()?);
        let port = u16::from_le_bytes(self.array()?);
        let [len] = self.array()?;
        let (name, tail) = self.0.split_at_checked(usize::from(len))?;
        self.0 = tail;
        Some(Card { name: str::from_utf8(name).ok()?.parse().ok()?, store, port })
    }
}
