//! The page's example, and bytes that are not what they should be.

use std::io::IoSlice;
use std::sync::Arc;

use proptest::prelude::*;

use super::codec::{self, Codec, Patience};
use super::format::{FOOTER_BYTES, HEADER_BYTES, Header, SLOT_BYTES, Slot};
use super::reader::{read_directory, read_header, read_sketches, read_slot, scan};
use super::writer::Writer;
use super::*;
use crate::error::{Error, Refusal};
use crate::id::StoreId;
use crate::media::{Media, SimDisk};
use crate::name::Realm;

const PAGE: &str = include_str!("../../../docs/formats/container.md");
const HEADER: Header =
    Header { id: ContainerId(0x2a), class: Class::Data, store: StoreId([0; 16]), realm: [0; 16], dense: false };

fn header() -> Header {
    let mut store = [0; 16];
    store[15] = 0x0f;
    Header { store: StoreId(store), realm: Realm::published().id(), ..HEADER }
}

/// The bytes between ```hex and ``` on the page.
fn example() -> Vec<u8> {
    let hex: String = PAGE.split("```hex").nth(1).unwrap().split("```").next().unwrap().split_whitespace().collect();
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// Writes a container of these contents and returns it with its slots.
fn write(disk: &SimDisk, contents: &[&[u8]], seal: bool) -> (String, Vec<Slot>) {
    disk.create_dir_all(&dir(HEADER.id)).unwrap();
    let writer = Writer::create(disk, &header()).unwrap();
    let mut slots = Vec::new();
    let mut appender = writer.lock();
    for content in contents {
        let mut payload = Vec::new();
        let codec = codec::compress(content, &mut payload, &Patience::default());
        let name = Realm::published().name(Kind::Chunk, content);
        let (offset, stored_len, raw_len) = (appender.len() as u32, payload.len() as u32, content.len() as u32);
        let slot = Slot { name, offset, stored_len, raw_len, key_id: 0, kind: Kind::Chunk, codec };
        appender.append(slot, crate::chunk::Sketch::of(content), &payload);
        slots.push(slot);
    }
    if seal {
        appender.close();
    }
    drop(appender);
    assert_eq!(writer.sync(disk).unwrap().is_some(), seal);
    (path(HEADER.id, Class::Data), slots)
}

#[test]
fn the_example_of_the_page_is_what_is_written_and_read() {
    let disk = SimDisk::new(1);
    let content = b"narrowboat narrowboat narrowboat narrowboat narrowboat narrowboat narrowboat";
    let (path, slots) = write(&disk, &[content], true);
    let bytes = disk.contents(&path).unwrap();
    let shown: Vec<_> =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).collect();
    assert_eq!(example(), bytes, "the page should show\n{}", shown.join("\n"));
    let file = disk.open(&path).unwrap();
    assert_eq!(read_header(file.as_ref(), &path).unwrap(), header());
    let directory = read_directory(file.as_ref(), &path, HEADER.id).unwrap();
    assert_eq!(directory.slots, slots);
    assert_eq!(directory.footer.file_bytes(), bytes.len() as u64);
    let (slot, payload) = read_slot(file.as_ref(), &path, slots[0].offset, slots[0].stored_len).unwrap();
    assert_eq!((slot, slot.codec), (slots[0], Codec::Lz4));
    assert_eq!(codec::decompress(slot.codec, slot.raw_len as usize, &payload).unwrap(), content);
}

#[test]
fn file_names_are_read_as_they_are_written() {
    for (id, class) in [(ContainerId(0), Class::Data), (ContainerId(0xab_cdef), Class::Node)] {
        let path = path(id, class);
        let (folder, name) = path.rsplit_once('/').unwrap();
        assert_eq!((parse_file_name(name), folder.to_owned()), (Some((id, class)), dir(id)));
    }
    for wrong in ["", "a.data", "000000000000002A.data", "000000000000002a.dat", "+00000000000002a.data"] {
        assert_eq!(parse_file_name(wrong), None, "{wrong}");
    }
}

#[test]
fn any_flipped_bit_of_a_sealed_container_is_damage_with_a_place() {
    let disk = SimDisk::new(2);
    let mut noise = vec![0; 2000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let (path, slots) = write(&disk, &[b"one one one one", &[7; 500], b"", &noise], true);
    let len = disk.contents(&path).unwrap().len();
    for at in 0..len {
        let disk = disk.fork(at as u64);
        disk.rot(&path, at as u64, 1 << (at % 8)).unwrap();
        let file = disk.open(&path).unwrap();
        let results = [
            read_header(file.as_ref(), &path).map(|_| ()),
            read_directory(file.as_ref(), &path, HEADER.id).map(|_| ()),
            // Where the directory is sound, so is what it says of the sketches.
            read_directory(file.as_ref(), &path, HEADER.id)
                .map_or(Ok(()), |directory| read_sketches(file.as_ref(), &path, &directory.footer).map(|_| ())),
            slots.iter().try_for_each(|slot| read_slot(file.as_ref(), &path, slot.offset, slot.stored_len).map(|_| ())),
        ];
        let damaged =
            results.iter().filter(|result| matches!(result, Err(Error::Damage(damage)) if damage.file == path));
        assert_eq!(damaged.count(), 1, "bit flipped at {at}: {results:?}");
    }
    for len in (0..len as u64).rev() {
        disk.truncate(&path, len).unwrap();
        assert!(read_directory(disk.open(&path).unwrap().as_ref(), &path, HEADER.id).is_err(), "cut to {len}");
    }
}

#[test]
fn newer_formats_and_unknown_features_are_refused() {
    let reseal = |change: fn(&mut [u8])| {
        let mut bytes = header().encode();
        change(&mut bytes);
        let sum = crc32c::crc32c(&bytes[..92]);
        bytes[92..].copy_from_slice(&sum.to_le_bytes());
        Header::decode("x", &bytes)
    };
    assert_eq!(reseal(|_| ()).unwrap(), header());
    assert_eq!(reseal(|bytes| bytes[16] = 1).unwrap(), header(), "a feature that may be ignored");
    assert_eq!(reseal(|bytes| bytes[32] = 1).unwrap(), Header { dense: true, ..header() });
    assert!(matches!(reseal(|bytes| bytes[8] = 2), Err(Error::Refused(Refusal::Unsupported(_)))));
    assert!(matches!(reseal(|bytes| bytes[32] = 2), Err(Error::Refused(Refusal::Unsupported(_)))));
    assert!(matches!(reseal(|bytes| bytes[10] = 3), Err(Error::Damage(_))));
}

#[test]
fn scanning_finds_what_is_whole_and_believes_no_forgery() {
    let realm = Realm::published();
    let name_of = |kind, content: &[u8]| realm.name(kind, content);
    let disk = SimDisk::new(3);
    // A chunk that contains a sound-looking slot of another name, and one that contains a truly sound one.
    let forged = Slot {
        name: crate::name::Name([1; 32]),
        offset: 0,
        stored_len: 4,
        raw_len: 4,
        key_id: 0,
        kind: Kind::Chunk,
        codec: Codec::Raw,
    };
    let mut noise = vec![0; 300];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let trap = [&noise[..], &forged.encode(b"evil"), b"evil", &noise[..]].concat();
    let contents: [&[u8]; 4] = [b"first", &trap, &[9; 3000], b"last"];
    let (path, slots) = write(&disk, &contents, false);
    let found = |disk: &SimDisk| scan(disk.open(&path).unwrap().as_ref(), &path, &name_of).unwrap();
    let whole = found(&disk);
    assert_eq!((&whole.slots, whole.gap_bytes), (&slots, 0));
    for (nth, slot) in slots.iter().enumerate() {
        for at in [0, 20, SLOT_BYTES as u64 + 1] {
            let disk = disk.fork(1);
            disk.rot(&path, u64::from(slot.offset) + at, 0xFF).unwrap();
            let scan = found(&disk);
            let expected: Vec<_> = slots.iter().filter(|other| *other != slot).copied().collect();
            assert_eq!(scan.slots, expected, "slot {nth} harmed at {at}");
            assert_eq!(scan.gap_bytes, if nth == 3 { 0 } else { slot.total_bytes() });
        }
    }
    for len in 0..disk.contents(&path).unwrap().len() as u64 {
        let disk = disk.fork(len);
        disk.truncate(&path, len).unwrap();
        let expected: Vec<_> = slots.iter().filter(|slot| slot.end() <= len).copied().collect();
        assert_eq!(found(&disk).slots, expected, "cut to {len}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_fail_in_another_way(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in 0..4usize) {
        let mut bytes = bytes;
        let start: &[u8] = [&b"slot"[..], b"narrowCO", b"narrowCE", b""][magic];
        bytes.splice(0..start.len().min(bytes.len()), start.iter().copied());
        let disk = SimDisk::new(1);
        let file: Arc<dyn crate::media::MediaFile> = disk.create("x").unwrap();
        file.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
        let _ = read_header(file.as_ref(), "x");
        let _ = read_directory(file.as_ref(), "x", ContainerId(1));
        let _ = read_slot(file.as_ref(), "x", 0, 100);
        let _ = scan(file.as_ref(), "x", &|_, _| crate::name::Name([0; 32]));
        prop_assert!(bytes.len() >= HEADER_BYTES + FOOTER_BYTES || read_directory(file.as_ref(), "x", ContainerId(1)).is_err());
    }
}
