use bytes::Bytes;

use super::format::{BLOCK_HEADER_BYTES, BlockHeader, HEADER_BYTES, Header, file_name, parse_file_name};
use super::{Referrer, Writer, path, read};
use crate::catalogue::{Checkpoint, HistoryFile};
use crate::chunk::{ChunkSizes, Cutter};
use crate::dataset;
use crate::dataset::namespace::Key;
use crate::error::{Error, Refusal, Result};
use crate::id::{DatasetId, StoreId};
use crate::journal::Record;
use crate::media::{Media, SimDisk};
use crate::name::Kind;
use crate::tree::map;
use crate::tree::sequence::{self, Content};
use crate::tree::testing::TestObjects;
use crate::units::{Inode, Lsn, Timestamp};

const STORE: StoreId = StoreId(*b"store-0123456789");
const DATASET: DatasetId = DatasetId(*b"dataset-01234567");

fn record(lsn: u64, head: &'static [u8], payload: Bytes) -> Record {
    let (dataset, time) = (DATASET, Timestamp::new(1_700_000_000, lsn as u32));
    Record { lsn: Lsn(lsn), time, dataset, kind: 6, head: Bytes::from_static(head), payload, place: None }
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn all(disk: &SimDisk, file: &HistoryFile, after: u64) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    read(disk, STORE, DATASET, file, Lsn(after), &mut |record| {
        found.push(record);
        Ok(())
    })?;
    Ok(found)
}

/// Small records, large ones, and such that do not compress; written in three goes.
fn written(disk: &SimDisk) -> (HistoryFile, Vec<Record>) {
    let mut records: Vec<Record> = (0..2000).map(|nth| record(10 + 3 * nth, b"some head", noise(nth, 300))).collect();
    records.insert(700, record(10 + 3 * 699 + 1, b"large", noise(9, 3 << 20)));
    records.push(record(9000, b"zeros", vec![0; 4 << 20].into()));
    records.push(record(9001, b"", Bytes::new()));
    let mut writer = Writer::create(disk, STORE, DATASET, Lsn(5)).expect("room");
    writer.write(&records[..500]).expect("room");
    writer.write(&records[500..1000]).expect("room");
    let file = writer.finish().expect("a sound disk");
    assert_eq!((file.first, file.last), (Lsn(5), records[999].lsn));
    let mut writer = Writer::append_to(disk, STORE, DATASET, &file).expect("there").expect("sound");
    writer.write(&records[1000..]).expect("room");
    (writer.finish().expect("a sound disk"), records)
}

#[test]
fn what_is_written_is_read_back_from_any_record_on() {
    let disk = SimDisk::new(1);
    let (file, records) = written(&disk);
    assert!(file.bytes < 4 << 20, "zeros are compressed: {} bytes", file.bytes);
    for after in [0, 9, 10, 2000, 2107, 2108, 8999, 9000, 9001, 10_000] {
        let expected: Vec<_> = records.iter().filter(|record| record.lsn > Lsn(after)).cloned().collect();
        assert!(all(&disk, &file, after).expect("sound") == expected, "behind {after}");
    }
}

#[test]
fn what_was_never_finished_does_not_count_and_is_overwritten() {
    let disk = SimDisk::new(1);
    let (file, mut records) = written(&disk);
    let mut half = Writer::append_to(&disk, STORE, DATASET, &file).expect("there").expect("sound");
    half.write(&[record(9002, b"never counted", noise(7, 100_000))]).expect("room");
    drop(half);
    assert!(all(&disk, &file, 0).expect("sound") == records);
    let mut writer = Writer::append_to(&disk, STORE, DATASET, &file).expect("there").expect("sound");
    records.push(record(9500, b"counts", noise(8, 10)));
    writer.write(&records[records.len() - 1..]).expect("room");
    let file = writer.finish().expect("a sound disk");
    assert!(all(&disk, &file, 0).expect("sound") == records);
    assert_eq!(disk.contents(&path(DATASET, Lsn(5))).expect("there").len() as u64, file.bytes);
}

#[test]
fn every_harm_is_named_and_never_a_wrong_record() {
    let disk = SimDisk::new(1);
    let mut writer = Writer::create(&disk, STORE, DATASET, Lsn(5)).expect("room");
    let records: Vec<_> = (0..40).map(|nth| record(5 + nth, b"head", noise(nth, 60))).collect();
    records.chunks(10).for_each(|part| writer.write(part).expect("room"));
    let file = writer.finish().expect("a sound disk");
    let path = path(DATASET, Lsn(5));
    let harmed = |harm: &dyn Fn(&SimDisk)| {
        let disk = disk.fork(1);
        harm(&disk);
        match all(&disk, &file, 0) {
            Err(Error::Damage(damage)) => assert_eq!(damage.file, path),
            Err(Error::Refused(Refusal::Unsupported(_))) => {}
            other => panic!("not noticed: {:?}", other.map(|records| records.len())),
        }
        // Nothing is added to a file whose frame is not sound; a rotten body shows when it is read.
        drop(Writer::append_to(&disk, STORE, DATASET, &file));
    };
    for at in 0..file.bytes {
        harmed(&|disk| disk.rot(&path, at, 1 << (at % 8)).expect("a file"));
    }
    for len in (0..file.bytes).step_by(7) {
        harmed(&|disk| disk.truncate(&path, len).expect("a file"));
    }
    harmed(&|disk| disk.lose(&path).expect("a file"));
    // A block in the place of another one.
    let bytes = disk.contents(&path).expect("there");
    harmed(&|disk| disk.overwrite(&path, HEADER_BYTES, &bytes[HEADER_BYTES as usize + 1..]).expect("a file"));
    // Another dataset's, another store's, or what begins elsewhere.
    for header in [
        Header::new(STORE, DatasetId([1; 16]), Lsn(5)),
        Header::new(StoreId([1; 16]), DATASET, Lsn(5)),
        Header::new(STORE, DATASET, Lsn(6)),
    ] {
        harmed(&|disk| disk.overwrite(&path, 0, &header.encode()).expect("a file"));
    }
    // What the catalogue says of it is believed only where it is so.
    for wrong in [
        HistoryFile { bytes: file.bytes - 1, ..file },
        HistoryFile { bytes: file.bytes + 1, ..file },
        HistoryFile { last: Lsn(file.last.0 - 1), ..file },
        HistoryFile { last: Lsn(file.last.0 + 1), ..file },
    ] {
        assert!(all(&disk, &wrong, 0).is_err(), "{wrong:?}");
    }
}

#[test]
fn forged_headers_are_refused_within_bounds() {
    let header = BlockHeader {
        crc: 0,
        stored_len: 10,
        raw_len: 10,
        codec: crate::container::codec::Codec::Raw,
        records: 1,
        after: Lsn(4),
        last: Lsn(5),
        salt: 7,
    };
    assert_eq!(BlockHeader::decode(&header.encode().into()), Some(header));
    for wrong in [
        BlockHeader { stored_len: u32::MAX, raw_len: u32::MAX, ..header },
        BlockHeader { stored_len: 11, ..header },
        BlockHeader { raw_len: super::format::RAW_BYTES_MAX as u32 + 1, ..header },
    ] {
        assert_eq!(BlockHeader::decode(&wrong.encode().into()), None, "{wrong:?}");
    }
    let bytes = header.encode();
    for len in 0..bytes.len() {
        assert_eq!(BlockHeader::decode(&Bytes::copy_from_slice(&bytes[..len])), None);
    }
    // As many records as a block claims, or no more than it has.
    let block = Bytes::from(vec![0; 1000]);
    for records in [0, 1, 2, 40, u32::MAX] {
        assert!(super::format::records(&block, &BlockHeader { records, ..header }, DATASET).is_err(), "{records}");
    }
}

#[test]
fn what_a_checkpoint_names_and_the_pool_has_lost_stays_as_it_is() {
    let objects = TestObjects::new();
    let (whole, part) = (noise(1, 4000), noise(2, 4000));
    let cutter = Cutter::new(ChunkSizes::default());
    let content = |bytes: &Bytes| {
        let put: sequence::PutChunks<'_> = &mut |chunks| objects.put_chunks(chunks);
        let patch = sequence::Patch { offset: 0, len: 4000, source: sequence::Source::Bytes(bytes.clone()) };
        sequence::splice(&objects, &cutter, put, &Content::empty(), [patch], 4000).expect("memory").0
    };
    let names = [&whole, &part].map(|bytes| objects.realm().name(Kind::Chunk, bytes));
    let edit = |inode, bytes| (Key::Content(Inode(inode)).encode(), Some(content(bytes).encode()));
    let edits = [edit(7, &whole), edit(8, &part)];
    let root = map::merge(&objects, objects.realm(), None, edits).expect("memory");
    let checkpoint = Checkpoint {
        lsn: Lsn(9),
        time: Timestamp(9),
        until_lsn: Lsn(9),
        until_time: Timestamp(9),
        root,
        next_inode: 9,
        written_bytes: 0,
    };
    let written = |lsn, inode, offset, payload: Bytes| {
        let (kind, head) = dataset::record::Record::Data { inode: Inode(inode), offset }.encode();
        Record { kind, head, ..record(lsn, b"", payload) }
    };
    let records = [written(1, 7, 0, whole), written(2, 8, 1000, part.slice(1000..3000))];
    let left = || {
        let mut records = records.clone();
        let referrer = Referrer::new(&objects, objects.realm(), std::slice::from_ref(&checkpoint));
        referrer.refer(&mut records).expect("memory");
        records.map(|record| record.payload.len())
    };
    assert_eq!(left(), [0, 0], "both are in chunks");
    assert!(objects.forget(Kind::Chunk, &names[0]));
    assert_eq!(left(), [4000, 0], "the journal has the only copy of the first");
    assert!(objects.forget(Kind::Chunk, &names[1]));
    assert_eq!(left(), [4000, 2000]);
}

#[test]
fn file_names_are_read_back() {
    let name = file_name(DATASET, Lsn(0xABC));
    assert_eq!(parse_file_name(&name), Some((DATASET, Lsn(0xABC))));
    for wrong in ["", ".history", "-.history", &name.to_uppercase(), &name.replace("abc", "+bc"), &name[1..]] {
        assert_eq!(parse_file_name(wrong), None, "{wrong}");
    }
}

#[test]
fn the_example_in_the_page_is_what_is_read_and_written() {
    let disk = SimDisk::new(1);
    let mut writer = Writer::create(&disk, STORE, DATASET, Lsn(2)).expect("room");
    writer.write(&[record(3, b"head", Bytes::from_static(b"hello")), record(5, b"head", Bytes::new())]).expect("room");
    let file = writer.finish().expect("a sound disk");
    let ours = disk.contents(&path(DATASET, Lsn(2))).expect("there");
    let page = include_str!("../../../docs/formats/history.md");
    let block = page.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).expect("a hex block");
    let digits: String = block.chars().filter(char::is_ascii_hexdigit).collect();
    let hex: String = ours.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        digits,
        hex,
        "the page should show:\n{}",
        hex.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n")
    );
    let again = SimDisk::new(2);
    again.create_dir_all("history").expect("room");
    let copy = again.create(&path(DATASET, Lsn(2))).expect("room");
    copy.write_at(&[std::io::IoSlice::new(&ours)], 0).expect("room");
    assert_eq!(ours.len() as u64, HEADER_BYTES + BLOCK_HEADER_BYTES + 25 * 2 + 4 + 5 + 4);
    assert_eq!(all(&again, &file, 0).expect("the page's bytes").len(), 2);
}
