//! Images of the catalogue: files that hold all rows as they were at one LSN.

use std::io::IoSlice;

use bytes::Bytes;

use super::rows::{Change, decode_changes, encode_changes};
use crate::codec::{Malformed, Put, Reader};
use crate::error::{Damage, Refusal, Result, io_error};
use crate::id::StoreId;
use crate::media::{Media, read_exact_at};
use crate::units::Lsn;

pub(super) const FOLDER: &str = "catalogue";
const MAGIC: &[u8; 8] = b"NARROW\0K";
const VERSION: u16 = 1;
const SUFFIX: &str = ".image";
/// The newest image, and one to fall back on.
const KEPT: usize = 2;
/// Larger than any catalogue can grow: what claims to be larger is not read.
const LEN_MAX: u64 = 1 << 30;

/// Writes an image beside the others, safe when it returns, and removes all but the newest two.
pub(super) fn write(media: &dyn Media, store: StoreId, lsn: Lsn, changes: &[Change]) -> Result<()> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.put_u16(VERSION);
    [0, 0, 0].into_iter().for_each(|features| bytes.put_u64(features));
    bytes.extend_from_slice(&store.0);
    bytes.put_u64(lsn.0);
    bytes.extend_from_slice(&encode_changes(changes));
    let sum = crc32c::crc32c(&bytes);
    bytes.put_u32(sum);

    let path = format!("{FOLDER}/{:016x}{SUFFIX}", lsn.0);
    let new = format!("{path}.new");
    let _ = media.remove(&new);
    let file = media.create(&new).map_err(|error| io_error("create", &new, error))?;
    file.write_at(&[IoSlice::new(&bytes)], 0).map_err(|error| io_error("write", &new, error))?;
    file.sync().map_err(|error| io_error("sync", &new, error))?;
    media.rename(&new, &path).map_err(|error| io_error("rename", &new, error))?;
    media.sync_dir(FOLDER).map_err(|error| io_error("sync", FOLDER, error))?;
    for old in images(media)?.iter().rev().skip(KEPT) {
        media.remove(old).map_err(|error| io_error("remove", old, error))?;
    }
    Ok(())
}

/// The newest image that is sound. Damaged ones are passed over; where all are, the newest one's damage is the answer.
pub(super) fn newest(media: &dyn Media, store: StoreId) -> Result<Option<(Lsn, Vec<Change>)>> {
    let mut first_damage = None;
    for path in images(media)?.iter().rev() {
        match read(media, store, path) {
            Ok(image) => return Ok(Some(image)),
            Err(error) => drop(first_damage.get_or_insert(error)),
        }
    }
    first_damage.map_or(Ok(None), Err)
}

/// Paths of all images, oldest first: names of one length sort by LSN.
fn images(media: &dyn Media) -> Result<Vec<String>> {
    let names = media.list(FOLDER).map_err(|error| io_error("list", FOLDER, error))?;
    Ok(names.into_iter().filter(|name| name.ends_with(SUFFIX)).map(|name| format!("{FOLDER}/{name}")).collect())
}

fn read(media: &dyn Media, store: StoreId, path: &str) -> Result<(Lsn, Vec<Change>)> {
    let file = media.open(path).map_err(|error| io_error("open", path, error))?;
    let len = file.len().map_err(|error| io_error("measure", path, error))?;
    if !(62..=LEN_MAX).contains(&len) {
        return Err(Damage::new(path, 0, "an image of the catalogue", format!("a file of {len} bytes")).into());
    }
    let mut bytes = read_exact_at(&*file, 0, len as usize).map_err(|error| io_error("read", path, error))?;
    let sum = bytes.split_off(bytes.len() - 4);
    if crc32c::crc32c(&bytes).to_le_bytes() != sum[..] {
        return Err(Damage::new(path, 0, "an image of the catalogue", "another checksum").into());
    }
    let bytes = Bytes::from(bytes);
    decode(path, store, &bytes).map_err(|error| match error {
        Ok(malformed) => Damage::new(path, malformed.at as u64, "an image of the catalogue", malformed).into(),
        Err(error) => error,
    })
}

fn decode(path: &str, store: StoreId, bytes: &Bytes) -> Result<(Lsn, Vec<Change>), Result<Malformed, crate::Error>> {
    let mut reader = Reader::new(bytes, "an image of the catalogue");
    let wrong = |expected: &str| Err(Damage::new(path, 0, expected, "another").into());
    if reader.take(MAGIC.len()).map_err(Ok)? != MAGIC[..] {
        return Err(wrong("the magic of a catalogue image"));
    }
    let version = reader.u16().map_err(Ok)?;
    let features = [reader.u64().map_err(Ok)?, reader.u64().map_err(Ok)?, reader.u64().map_err(Ok)?];
    if version > VERSION || features[1] != 0 || features[2] != 0 {
        let why = format!("{path} was written by a newer version of this program; update the box");
        return Err(Err(Refusal::Unsupported(why).into()));
    }
    if StoreId(reader.array().map_err(Ok)?) != store {
        return Err(wrong("this store's id"));
    }
    let lsn = Lsn(reader.u64().map_err(Ok)?);
    let rest = reader.take(reader.left()).map_err(Ok)?;
    Ok((lsn, decode_changes(&rest).map_err(Ok)?))
}
