//! What an initiator sent with a command: pieces, as they came off the wire.
//!
//! Writes hand the pieces on as they are. Whoever wants to look at them as one run (parameter lists, comparisons) gets them
//! joined, which copies where there are several.

use std::cell::OnceCell;
use std::ops::Deref;

use bytes::Bytes;

/// Bytes in pieces, none of them empty.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pieces: Vec<Bytes>,
    joined: OnceCell<Bytes>,
}

impl Data {
    /// Takes pieces in their order.
    pub fn new(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        Data { pieces, joined: OnceCell::new() }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// True where nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The first `len` bytes, or all there are, without copying any.
    pub fn first(&self, len: usize) -> Vec<Bytes> {
        let mut left = len;
        let part = |piece: &Bytes| {
            let piece = piece.slice(..piece.len().min(left));
            left -= piece.len();
            piece
        };
        self.pieces.iter().map(part).filter(|piece| !piece.is_empty()).collect()
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Data::new(vec![bytes])
    }
}

impl Deref for Data {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        self.joined.get_or_init(|| match &self.pieces[..] {
            [only] => only.clone(),
            several => several.concat().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_without_copying_and_joined_when_asked() {
        let whole = Bytes::from_static(b"abcdefgh");
        let data = Data::new(vec![whole.slice(..3), Bytes::new(), whole.slice(3..)]);
        assert_eq!((data.len(), &data[..], data.is_empty()), (8, &b"abcdefgh"[..], false));
        let first = data.first(5);
        assert_eq!(first, [&b"abc"[..], b"de"]);
        assert_eq!(first[1].as_ptr(), whole[3..].as_ptr());
        assert_eq!((data.first(3), data.first(99).concat()), (vec![whole.slice(..3)], whole.to_vec()));
        assert!(data.first(0).is_empty() && Data::default().is_empty() && Bytes::is_empty(&Data::default()));
    }
}
