//! The greeting: the first message of each side of a session.

use bytes::Bytes;
use narrowboat_storage::id::StoreId;

use super::frame::Frame;
use super::reader::{Reader, WireError, put_text};
use super::{FEATURES_KNOWN, VERSION_MAX, VERSION_MIN};

const MAGIC: [u8; 4] = *b"NBrp";
const SOFTWARE_BYTES_MAX: usize = 64;

/// What a side does in a session. Independent of who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Has the snapshot.
    Sender = 1,
    /// Gets the snapshot.
    Receiver = 2,
}

/// Who a side is and what it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What this side does in the session.
    pub role: Role,
    /// Oldest protocol version that it speaks.
    pub version_min: u16,
    /// Newest protocol version that it speaks.
    pub version_max: u16,
    /// The realm whose names it understands.
    pub realm: [u8; 16],
    /// Its store.
    pub store: StoreId,
    /// Features that it can use; in force where both sides name them, ignored elsewhere.
    pub features_ignore: u64,
    /// Features that a peer must know before it may send snapshots to this side; it may still receive some.
    pub features_read_only: u64,
    /// Features that a peer must know before there can be any session.
    pub features_refuse: u64,
    /// The software and its version, for people.
    pub software: String,
}

impl Hello {
    /// The greeting of this software for a store.
    pub fn new(role: Role, realm: [u8; 16], store: StoreId) -> Self {
        Hello {
            role,
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            realm,
            store,
            features_ignore: FEATURES_KNOWN,
            features_read_only: 0,
            features_refuse: 0,
            software: concat!("narrowboat ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    pub(super) fn encode(&self, kind: u16) -> Frame {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version_min.to_le_bytes());
        out.extend_from_slice(&self.version_max.to_le_bytes());
        out.push(self.role as u8);
        out.extend_from_slice(&[0; 7]);
        out.extend_from_slice(&self.realm);
        out.extend_from_slice(&self.store.0);
        for features in [self.features_ignore, self.features_read_only, self.features_refuse] {
            out.extend_from_slice(&features.to_le_bytes());
        }
        put_text(&mut out, &self.software, SOFTWARE_BYTES_MAX);
        Frame::build(kind, &out, Bytes::new())
    }

    /// Bytes behind the known fields are ignored: a later version may say more in its greeting.
    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("greeting", payload);
        if reader.array()? != MAGIC {
            return Err(WireError::Magic("greeting"));
        }
        let (version_min, version_max) = (reader.u16()?, reader.u16()?);
        let role = match reader.u8()? {
            1 => Role::Sender,
            2 => Role::Receiver,
            value => return Err(WireError::Unknown { what: "role", value: value.into() }),
        };
        reader.take(7)?;
        Ok(Hello {
            role,
            version_min,
            version_max,
            realm: reader.array()?,
            store: StoreId(reader.array()?),
            features_ignore: reader.u64()?,
            features_read_only: reader.u64()?,
            features_refuse: reader.u64()?,
            software: reader.text("software", SOFTWARE_BYTES_MAX)?,
        })
    }
}
