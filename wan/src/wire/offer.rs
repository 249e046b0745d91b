//! The offer: a snapshot that the sender has, and which earlier ones it could build upon.

use bytes::Bytes;
use narrowboat_storage::catalogue::DatasetKind;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::Name;
use narrowboat_storage::units::Timestamp;

use super::frame::Frame;
use super::reader::{Reader, WireError, put_text};
use super::{BASES_MAX, TITLE_BYTES_MAX};

/// Everything that a peer needs to know of a snapshot, but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// The dataset.
    pub dataset: DatasetId,
    /// Its name, 1 to 255 bytes.
    pub dataset_name: String,
    /// What it is.
    pub kind: DatasetKind,
    /// The size of a volume in bytes; 0 for a share.
    pub size: u64,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its name, 1 to 255 bytes.
    pub snapshot_name: String,
    /// The moment that it shows.
    pub time: Timestamp,
    /// The root of its map tree; none where the map is empty.
    pub root: Option<Name>,
    /// Bytes of content before deduplication.
    pub logical_bytes: u64,
    /// Number of files.
    pub files: u64,
    /// The first inode number that was never given out.
    pub next_inode: u64,
    /// The store where the snapshot was made.
    pub source: StoreId,
}

/// A snapshot, and earlier ones of the same dataset that the receiver may have: the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The snapshot.
    pub snapshot: SnapshotOffer,
    /// Earlier snapshots and their roots, at most [`BASES_MAX`].
    pub bases: Vec<(SnapshotId, Name)>,
    /// Most bytes of objects that the sender will have under way; the receiver's answer may say less.
    pub window_bytes: u64,
    /// Most objects that the sender will have under way; the receiver's answer may say less.
    pub window_objects: u32,
}

impl Offer {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        let snapshot = &self.snapshot;
        let mut out = Vec::with_capacity(256 + self.bases.len() * 48);
        out.extend_from_slice(&snapshot.dataset.0);
        out.extend_from_slice(&snapshot.snapshot.0);
        out.extend_from_slice(&snapshot.source.0);
        out.push(snapshot.kind as u8);
        out.push(snapshot.root.is_some().into());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&snapshot.root.unwrap_or_default().0);
        out.extend_from_slice(&snapshot.time.0.to_le_bytes());
        for number in [snapshot.size, snapshot.logical_bytes, snapshot.files, snapshot.next_inode, self.window_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.window_objects.to_le_bytes());
        put_text(&mut out, &snapshot.dataset_name, TITLE_BYTES_MAX);
        put_text(&mut out, &snapshot.snapshot_name, TITLE_BYTES_MAX);
        let bases = &self.bases[..self.bases.len().min(BASES_MAX)];
        out.extend_from_slice(&(bases.len() as u16).to_le_bytes());
        for (id, root) in bases {
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&root.0);
        }
        Frame::build(kind, &out, Bytes::new())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("offer", payload);
        let dataset = DatasetId(reader.array()?);
        let snapshot = SnapshotId(reader.array()?);
        let source = StoreId(reader.array()?);
        let kind = match reader.u8()? {
            1 => DatasetKind::Share,
            2 => DatasetKind::Volume,
            value => return Err(WireError::Unknown { what: "dataset kind", value: value.into() }),
        };
        let has_root = reader.flag("root flag")?;
        reader.take(6)?;
        let root = reader.name()?;
        let time = Timestamp(reader.i64()?);
        let (size, logical_bytes, files) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let next_inode = reader.u64()?;
        let (window_bytes, window_objects) = (reader.u64()?, reader.u32()?);
        if window_bytes == 0 || window_objects == 0 {
            return Err(WireError::Unknown { what: "window", value: 0 });
        }
        let dataset_name = title(&mut reader, "dataset name")?;
        let snapshot_name = title(&mut reader, "snapshot name")?;
        let bases = bases(&mut reader)?;
        reader.finish()?;
        let root = has_root.then_some(root);
        let snapshot = SnapshotOffer {
            dataset,
            dataset_name,
            kind,
            size,
            snapshot,
            snapshot_name,
            time,
            root,
            logical_bytes,
            files,
            next_inode,
            source,
        };
        Ok(Offer { snapshot, bases, window_bytes, window_objects })
    }
}

fn title(reader: &mut Reader, what: &'static str) -> Result<String, WireError> {
    let text = reader.text(what, TITLE_BYTES_MAX)?;
    if text.is_empty() { Err(WireError::NotText(what)) } else { Ok(text) }
}

fn bases(reader: &mut Reader) -> Result<Vec<(SnapshotId, Name)>, WireError> {
    let count = usize::from(reader.u16()?);
    if count > BASES_MAX {
        return Err(WireError::TooLong { what: "list of bases", len: count as u64, max: BASES_MAX as u64 });
    }
    (0..count).map(|_| Ok((SnapshotId(reader.array()?), reader.name()?))).collect()
}
