//! What a hostile peer says, as the bytes of an input decide.

use narrowboat_storage::name::Kind;
use narrowboat_wan::wire::{Bundle, Channel, Commit, Item, Message, Origin, Packing, Way};

use super::side::whole;

/// Takes an input apart; zeros where it is over.
pub struct Cursor<'a>(pub &'a [u8]);

impl Cursor<'_> {
    pub fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> usize {
        usize::from(self.u8()) << 8 | usize::from(self.u8())
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        piece.to_vec()
    }
}

/// Something that no honest peer says there, but well formed as far as it goes.
fn made_up(cursor: &mut Cursor) -> (Channel, Vec<u8>) {
    let frame = |channel, kind: u16, flags: u16, payload: &[u8], claimed: u32| {
        (channel, [&kind.to_le_bytes()[..], &flags.to_le_bytes(), &claimed.to_le_bytes(), payload].concat())
    };
    match cursor.u8() % 4 {
        0 => {
            let (kind, len) = (u16::from(cursor.u8() % 80), usize::from(cursor.u8()));
            let payload = cursor.bytes(len);
            let channel = if kind >= 64 { Channel::Data } else { Channel::Control };
            frame(channel, kind, u16::from(cursor.u8() & 1), &payload, payload.len() as u32)
        }
        1 => {
            let claimed = u32::from_le_bytes([cursor.u8(), cursor.u8(), cursor.u8(), cursor.u8()]);
            frame(if claimed & 1 == 0 { Channel::Control } else { Channel::Data }, 65, 0, &[], claimed)
        }
        2 => (Channel::Control, whole(&Message::Commit(Commit { objects: cursor.u8().into() }).encode())),
        _ => (Channel::Data, whole(&Message::Bundle(bundle(cursor)).encode())),
    }
}

/// A bundle whose content may be a bomb, packed against ways and bases as the input says.
fn bundle(cursor: &mut Cursor) -> Bundle {
    let shape = cursor.u8();
    let count = 1 + usize::from(cursor.u8() % 8);
    let origin = |cursor: &mut Cursor| match cursor.u8() {
        byte if byte & 3 == 0 => Origin::Unasked(Kind::ALL[usize::from(byte >> 2) % Kind::ALL.len()]),
        byte => Origin::Asked(u64::from(byte >> 2)),
    };
    let way = |cursor: &mut Cursor| Way { parent: (cursor.u8() % 16).into(), index: (cursor.u8() % 16).into() };
    let items: Vec<Item> = (0..count)
        .map(|_| {
            let origin = origin(cursor);
            let len = if shape & 1 == 0 { 1 + u32::from(cursor.u8()) } else { 1 + 16 * cursor.u16() as u32 };
            Item { origin, len }
        })
        .collect();
    let len: usize = items.iter().map(|item| item.len as usize).sum();
    let bases: Vec<Way> = (0..cursor.u8() % 8).map(|_| way(cursor)).collect();
    let ways: Vec<Way> =
        if bases.is_empty() { Vec::new() } else { (0..cursor.u8() % 8).map(|_| way(cursor)).collect() };
    let content = vec![shape; len];
    let packed = narrowboat_wan::pack::pack(&content, &[], 3).filter(|_| shape & 2 == 0);
    let (packing, bytes) = match packed {
        Some(mut packed) => {
            if shape & 4 != 0 {
                let at = cursor.u16() % packed.len();
                packed[at] ^= 1 << (cursor.u8() & 7);
            }
            (Packing::Zstd, packed)
        }
        None => (Packing::Raw, content),
    };
    Bundle {
        seq: cursor.u8().into(),
        items,
        forget: shape & 8 != 0,
        from_root: shape & 16 != 0,
        ways,
        bases,
        packing,
        bytes: bytes.into(),
    }
}

/// The hostile peer: what it holds back, and what it has heard the puppet say.
#[derive(Default)]
pub struct Tongue {
    held: Option<(Channel, Vec<u8>)>,
    past: Vec<(Channel, Vec<u8>)>,
}

impl Tongue {
    /// What the victim hears next, as the input says.
    pub fn says(&mut self, cursor: &mut Cursor, next: Option<(Channel, Vec<u8>)>) -> Vec<(Channel, Vec<u8>)> {
        let Some((channel, mut bytes)) = next else { return vec![made_up(cursor)] };
        if self.past.len() < 64 {
            self.past.push((channel, bytes.clone()));
        }
        let mut all: Vec<_> = self.held.take().into_iter().collect();
        match cursor.u8() {
            0..=159 => all.insert(0, (channel, bytes)),
            160..=199 => {
                for _ in 0..=cursor.u8() % 3 {
                    let at = cursor.u16() % bytes.len();
                    bytes[at] = cursor.u8();
                }
                all.push((channel, bytes));
            }
            200..=209 => {}
            210..=219 => all.extend([(channel, bytes.clone()), (channel, bytes)]),
            220..=229 => self.held = Some((channel, bytes)),
            230..=239 => {
                let again = self.past[usize::from(cursor.u8()) % self.past.len()].clone();
                all.extend([again, (channel, bytes)]);
            }
            _ => all.extend([made_up(cursor), (channel, bytes)]),
        }
        all
    }
}
