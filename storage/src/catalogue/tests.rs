use super::*;
use crate::media::SimDisk;
use crate::name::Name;
use crate::units::Timestamp;

fn dataset(number: u8) -> DatasetRow {
    DatasetRow {
        id: DatasetId([number; 16]),
        name: format!("share-{number}"),
        kind: DatasetKind::Share,
        policy: Policy::Inline,
        read_only: false,
        created: Timestamp(7),
        origin: (number == 2).then_some(StoreId([9; 16])),
        size: 0,
    }
}

fn snapshot(number: u8) -> SnapshotRow {
    let sealed = Sealed { root: Some(Name([3; 32])), next_inode: 9, logical_bytes: 100, files: 4 };
    SnapshotRow {
        id: SnapshotId([number; 16]),
        dataset: DatasetId([1; 16]),
        name: format!("monday-{number}"),
        time: Timestamp(number.into()),
        lsn: Lsn(5),
        sealed: (number.is_multiple_of(2)).then_some(sealed),
        held: number == 3,
    }
}

const WINDOW_OF_ONE: Window = Window { nanoseconds: 3600 * 1_000_000_000, bytes: 1 << 30 };

fn checkpoint(number: u8) -> Checkpoint {
    Checkpoint {
        lsn: Lsn(number.into()),
        time: Timestamp(10 * i64::from(number)),
        until_lsn: Lsn(u64::from(number) + 1),
        until_time: Timestamp(10 * i64::from(number) + 5),
        root: (number == 2).then_some(Name([number; 32])),
        next_inode: 7,
        written_bytes: 4096,
    }
}

fn mark() -> Mark {
    Mark { dataset: DatasetId([1; 16]), label: "quiet".into(), time: Timestamp(12), lsn: Lsn(2), quiet: true }
}

fn history() -> History {
    let file = |first, last, bytes| HistoryFile { first: Lsn(first), last: Lsn(last), bytes };
    History { from: Lsn(1), upto: Lsn(40), files: vec![file(2, 9, 300), file(20, 33, 4096)] }
}

fn steps() -> [Step; 2] {
    [Step { upto: Lsn(41), bytes: 100 }, Step { upto: Lsn(50), bytes: 1 << 20 }]
}

fn deleted() -> Deleted {
    Deleted { until: 604_801, time: Timestamp(12), by: DeletedBy::Retention }
}

fn all_changes() -> Vec<Change> {
    vec![
        Change::dataset(&dataset(1)),
        Change::dataset(&dataset(2)),
        Change::head(DatasetId([1; 16]), Head { root: Some(Name([1; 32])), lsn: Lsn(4), next_inode: 3 }),
        Change::snapshot(&snapshot(1)),
        Change::snapshot(&snapshot(2)),
        Change::snapshot(&snapshot(3)),
        Change::peer("head-office", Some(b"record")),
        Change::setting("limit", Some(b"20Mbit")),
        Change::calls(DatasetId([1; 16]), &[(CallTag([1; 16]), Inode(5)), (CallTag([2; 16]), Inode(6))]),
        Change::window(DatasetId([1; 16]), Some(WINDOW_OF_ONE)),
        Change::checkpoints(DatasetId([1; 16]), &[checkpoint(1), checkpoint(2)]),
        Change::mark(&mark()),
        Change::history(DatasetId([1; 16]), Some(&history())),
        Change::steps(DatasetId([1; 16]), Some(&steps())),
        Change::deleted_dataset(DatasetId([9; 16]), Some(deleted())),
        Change::deleted_snapshot(SnapshotId([9; 16]), Some(deleted())),
    ]
}

fn open(disk: &SimDisk) -> (Catalogue, CatalogueReport) {
    Catalogue::open(Arc::new(disk.clone()), StoreId([7; 16]), true).expect("opens")
}

fn expect_all(catalogue: &Catalogue) {
    assert_eq!(catalogue.datasets(), [dataset(1), dataset(2)]);
    assert_eq!(catalogue.dataset_named("share-2"), Some(dataset(2)));
    assert_eq!(catalogue.head(DatasetId([1; 16])).lsn, Lsn(4));
    assert_eq!(catalogue.snapshots(None), [snapshot(1), snapshot(2), snapshot(3)]);
    assert_eq!(catalogue.peers(), [("head-office".to_owned(), Bytes::from_static(b"record"))]);
    assert_eq!(catalogue.setting("limit").as_deref(), Some(&b"20Mbit"[..]));
    assert_eq!(catalogue.calls(DatasetId([1; 16])).len(), 2);
    assert_eq!(catalogue.window(DatasetId([1; 16])), Some(WINDOW_OF_ONE));
    assert_eq!(catalogue.checkpoints(DatasetId([1; 16])), [checkpoint(1), checkpoint(2)]);
    assert_eq!(catalogue.marks(DatasetId([1; 16])), [mark()]);
    assert_eq!(catalogue.histories(), [(DatasetId([1; 16]), history())]);
    assert_eq!(catalogue.steps(DatasetId([1; 16])).expect("counted"), steps());
}

#[test]
fn rows_come_back_after_a_restart() {
    let disk = SimDisk::new(1);
    open(&disk).0.apply(&all_changes()).expect("room");
    let (catalogue, report) = open(&disk);
    assert_eq!(report, CatalogueReport::default());
    expect_all(&catalogue);
    let gone = [&Change::no_dataset(DatasetId([1; 16]))[..], &[Change::no_snapshot(SnapshotId([1; 16]))]].concat();
    catalogue.apply(&gone).expect("room");
    catalogue.apply(&gone).expect("twice is once");
    drop(catalogue);
    let catalogue = open(&disk).0;
    assert_eq!(catalogue.datasets(), [dataset(2)]);
    assert_eq!(catalogue.head(DatasetId([1; 16])), Head::default());
    assert!(catalogue.calls(DatasetId([1; 16])).is_empty());
    assert_eq!((catalogue.history(DatasetId([1; 16])), catalogue.steps(DatasetId([1; 16]))), (None, None));
    assert_eq!(catalogue.snapshots(None).len(), 2);
}

#[test]
fn a_lost_or_damaged_database_is_built_again_from_the_newest_sound_image() {
    for damage in 0..4 {
        let disk = SimDisk::new(damage);
        let catalogue = open(&disk).0;
        catalogue.apply(&all_changes()).expect("room");
        catalogue.write_image(Lsn(70)).expect("room");
        catalogue.apply(&[Change::setting("later", Some(b"1"))]).expect("room");
        catalogue.write_image(Lsn(80)).expect("room");
        drop(catalogue);
        match damage {
            0 => disk.lose(FILE).expect("a file"),
            1 => disk.truncate(FILE, 700).expect("a file"),
            _ => (0..4096).step_by(3).for_each(|at| disk.rot(FILE, at, 0x5A).expect("a file")),
        }
        let newest = if damage == 3 { 70 } else { 80 };
        if damage == 3 {
            disk.rot("catalogue/0000000000000050.image", 60, 1).expect("a file");
        }
        let (catalogue, report) =
            Catalogue::open(Arc::new(disk.clone()), StoreId([7; 16]), false).expect("built again");
        assert_eq!(report.rebuilt.map(|(lsn, _)| lsn), Some(Lsn(newest)), "damage {damage}");
        expect_all(&catalogue);
        assert_eq!(catalogue.setting("later").is_some(), newest == 80);
    }
}

#[test]
fn only_two_images_are_kept_and_all_damaged_is_an_error() {
    let disk = SimDisk::new(1);
    let catalogue = open(&disk).0;
    (1..=5).for_each(|lsn| catalogue.write_image(Lsn(lsn)).expect("room"));
    drop(catalogue);
    let images: Vec<_> = disk.paths().into_iter().filter(|path| path.ends_with(".image")).collect();
    assert_eq!(images, ["catalogue/0000000000000004.image", "catalogue/0000000000000005.image"]);
    images.iter().for_each(|path| disk.truncate(path, 61).expect("a file"));
    disk.lose(FILE).expect("a file");
    let opened = Catalogue::open(Arc::new(disk), StoreId([7; 16]), false);
    assert!(matches!(opened.err(), Some(Error::Damage(_))));
}

#[test]
fn the_page_has_the_bytes_we_write() {
    let changes =
        [Change::head(DatasetId([1; 16]), Head { root: None, lsn: Lsn(5), next_inode: 2 }), Change::setting("x", None)];
    let page = include_str!("../../../docs/formats/catalogue.md");
    let time = [
        Change::window(DatasetId([1; 16]), Some(WINDOW_OF_ONE)),
        Change::checkpoints(DatasetId([1; 16]), &[checkpoint(1)]),
        Change::mark(&mark()),
    ];
    let past =
        [Change::history(DatasetId([1; 16]), Some(&history())), Change::steps(DatasetId([1; 16]), Some(&steps()))];
    let quarantine = [
        Change::deleted_snapshot(SnapshotId([2; 16]), Some(deleted())),
        Change::deleted_dataset(DatasetId([1; 16]), Some(Deleted { by: DeletedBy::Person, ..deleted() })),
    ];
    for (nth, changes) in [&changes[..], &time[..], &past[..], &quarantine[..]].into_iter().enumerate() {
        let block = page.split("```hex").nth(nth + 1).and_then(|rest| rest.split("```").next()).expect("a hex block");
        let hex: String = block.chars().filter(char::is_ascii_hexdigit).collect();
        let ours: String = encode_changes(changes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, ours);
    }
}

#[test]
fn cut_or_changed_changes_never_panic() {
    let bytes = encode_changes(&all_changes());
    assert_eq!(decode_changes(&bytes).expect("our own bytes"), all_changes());
    for at in 0..bytes.len() {
        assert!(decode_changes(&bytes.slice(..at)).is_err(), "cut at {at}");
        for flip in [1, 0x80, 0xFF] {
            let mut changed = bytes.to_vec();
            changed[at] ^= flip;
            let _ = decode_changes(&changed.into());
        }
    }
}

#[test]
fn every_change_that_returned_survives_a_power_cut_at_any_sync() {
    for sync in 0..40 {
        let disk = SimDisk::new(sync);
        let catalogue = open(&disk).0;
        disk.cut_power_at_sync(disk.syncs() + sync);
        let mut stable = 0;
        for number in 0..12_u8 {
            if catalogue.apply(&[Change::setting(&format!("{number:02}"), Some(&[number]))]).is_err() {
                break;
            }
            stable = number + 1;
        }
        drop(catalogue);
        disk.cut_power_at_sync(u64::MAX);
        disk.power_cut();
        disk.power_on();
        let catalogue = open(&disk).0;
        for number in 0..stable {
            assert!(catalogue.setting(&format!("{number:02}")).is_some(), "setting {number}, cut at sync {sync}");
        }
    }
}

#[test]
fn harm_anywhere_in_the_database_is_noticed_on_opening() {
    let disk = SimDisk::new(1);
    let catalogue = open(&disk).0;
    catalogue.apply(&all_changes()).expect("room");
    catalogue.write_image(Lsn(7)).expect("room");
    drop(catalogue);
    let len = disk.contents(FILE).expect("a file").len() as u64;
    let mut rebuilt = 0;
    for at in (0..len).step_by(len as usize / 100) {
        for harm in 0..3u8 {
            let disk = disk.fork(at);
            match harm {
                0 => disk.rot(FILE, at, 0x10).expect("a file"),
                1 => disk.overwrite(FILE, at, &[0xA5; 100]).expect("a file"),
                _ => disk.truncate(FILE, at).expect("a file"),
            }
            let opened = Catalogue::open(Arc::new(disk), StoreId([7; 16]), false);
            let (catalogue, report) = opened.unwrap_or_else(|error| panic!("harm {harm} at {at}: {error}"));
            expect_all(&catalogue);
            rebuilt += u32::from(report.rebuilt.is_some());
        }
    }
    assert!(rebuilt > 100, "{rebuilt} of 300 harms met bytes that matter");
}

#[test]
fn a_full_disk_refuses_changes_and_forgets_none() {
    let disk = SimDisk::new(1);
    let catalogue = open(&disk).0;
    catalogue.apply(&all_changes()).expect("room");
    disk.fill(0);
    let large = Change::setting("large", Some(&[5; 4 << 20]));
    let refused = catalogue.apply(std::slice::from_ref(&large));
    assert!(matches!(refused, Err(Error::Environment(crate::error::Environment::Full))), "{refused:?}");
    expect_all(&catalogue);
    assert_eq!(catalogue.setting("large"), None);
    disk.set_capacity(1 << 40);
    catalogue.apply(&[large]).expect("room again");
    drop(catalogue);
    let catalogue = open(&disk).0;
    expect_all(&catalogue);
    assert_eq!(catalogue.setting("large").map(|value| value.len()), Some(4 << 20));
}

#[test]
fn a_failed_sync_is_never_followed_by_one_that_is_believed() {
    let disk = SimDisk::new(1);
    let catalogue = open(&disk).0;
    catalogue.apply(&all_changes()).expect("room");
    disk.fail_sync_at(disk.syncs() + 1);
    for _ in 0..2 {
        let refused = catalogue.apply(&[Change::setting("x", Some(b"1"))]);
        assert!(matches!(refused, Err(Error::Environment(crate::error::Environment::Poisoned(_)))), "{refused:?}");
    }
    expect_all(&catalogue);
}

#[test]
fn a_history_out_of_order_is_not_believed() {
    let wrong = |change: &dyn Fn(&mut History)| {
        let mut history = history();
        change(&mut history);
        let bytes = encode_changes(&[Change::history(DatasetId([1; 16]), Some(&history))]);
        assert!(decode_changes(&bytes).is_err(), "{history:?}");
    };
    wrong(&|history| history.upto = Lsn(32));
    wrong(&|history| history.from = Lsn(2));
    wrong(&|history| history.files.swap(0, 1));
    wrong(&|history| history.files[0].last = Lsn(1));
    wrong(&|history| history.files[0].last = Lsn(20));
    wrong(&|history| *history = History { from: Lsn(9), upto: Lsn(8), files: Vec::new() });
}

#[test]
fn what_was_deleted_is_passed_over_and_kept() {
    let disk = SimDisk::new(1);
    let (catalogue, _) = open(&disk);
    catalogue.apply(&all_changes()).expect("room");
    catalogue.apply(&[Change::deleted_snapshot(SnapshotId([1; 16]), Some(deleted()))]).expect("room");
    let names = |rows: Vec<SnapshotRow>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names(catalogue.snapshots(None)), ["monday-2", "monday-3"]);
    assert!(catalogue.snapshot(SnapshotId([1; 16])).is_none() && catalogue.any_snapshot(SnapshotId([1; 16])).is_some());
    catalogue.apply(&[Change::deleted_dataset(DatasetId([1; 16]), Some(deleted()))]).expect("room");
    assert!(catalogue.snapshots(None).is_empty() && catalogue.dataset_named("share-1").is_none());
    assert!(catalogue.dataset(DatasetId([1; 16])).is_none());
    assert_eq!((catalogue.all_datasets().len(), catalogue.all_snapshots(None).len()), (2, 3));
    drop(catalogue);
    let (catalogue, _) = open(&disk);
    assert_eq!(catalogue.dataset_deleted(DatasetId([1; 16])), Some(deleted()));
    // What an earlier version deleted for good leaves rows that stand for nothing.
    assert_eq!(catalogue.deleted_snapshots().len(), 1);
    catalogue.apply(&catalogue.stray_deletions()).expect("room");
    assert_eq!(catalogue.dataset_deleted(DatasetId([9; 16])), None);
    catalogue.apply(&Change::no_dataset(DatasetId([1; 16]))).expect("room");
    catalogue.apply(&catalogue.stray_deletions()).expect("room");
    assert_eq!(catalogue.dataset_deleted(DatasetId([1; 16])), None);
    assert_eq!(catalogue.snapshots(None).len(), 2, "a row of an earlier version");
}

fn many(value: Option<&[u8]>) -> Vec<Change> {
    (0..20_000).map(|nth| Change::setting(&format!("{nth:08}"), value)).collect()
}

/// A catalogue most of whose rows are gone, on this disk.
fn loose(disk: &SimDisk) -> Catalogue {
    let (catalogue, _) = Catalogue::open(Arc::new(disk.clone()), StoreId([9; 16]), true).unwrap();
    catalogue.apply(&all_changes()).unwrap();
    catalogue.apply(&many(Some(&[7; 300]))).unwrap();
    catalogue.apply(&many(None)).unwrap();
    catalogue
}

/// Rows that come and go for years must not leave a file behind that is as large as all of them together.
#[test]
fn the_room_of_rows_that_are_gone_is_given_back() {
    let disk = SimDisk::new(1);
    let catalogue = loose(&disk);
    let bytes = || disk.contents(FILE).unwrap().len();
    let before = bytes();
    assert!(before > 4 << 20, "{before}");
    let rows = catalogue.contents.read().unwrap().raw.clone();
    catalogue.give_back_room().unwrap();
    assert!(bytes() < 1 << 20, "{} bytes after {before}", bytes());
    catalogue.apply(&[Change::setting("more", Some(b"rows"))]).unwrap();
    catalogue.apply(&[Change::setting("more", None)]).unwrap();
    drop(catalogue);
    let (again, report) = Catalogue::open(Arc::new(disk.clone()), StoreId([9; 16]), false).unwrap();
    assert_eq!((report, &again.contents.read().unwrap().raw), (CatalogueReport::default(), &rows));
    // What is small, or full, is left alone.
    let syncs = disk.syncs();
    again.give_back_room().unwrap();
    again.apply(&many(Some(&[7; 300]))).unwrap();
    let written = disk.syncs();
    again.give_back_room().unwrap();
    assert!(written > syncs && disk.syncs() == written);
}

#[test]
fn a_power_cut_at_every_sync_of_a_compaction_costs_no_row() {
    let calm = SimDisk::new(1);
    let catalogue = loose(&calm);
    let rows = catalogue.contents.read().unwrap().raw.clone();
    let before = calm.syncs();
    catalogue.give_back_room().unwrap();
    let syncs = before + 1..=calm.syncs();
    assert!(syncs.clone().count() > 2);
    for n in syncs {
        let disk = SimDisk::new(n);
        let catalogue = loose(&disk);
        disk.cut_power_at_sync(n);
        drop(catalogue.give_back_room());
        drop(catalogue);
        disk.power_on();
        let (again, report) = Catalogue::open(Arc::new(disk.clone()), StoreId([9; 16]), false).unwrap();
        assert_eq!(report, CatalogueReport::default(), "sync {n}");
        assert_eq!(again.contents.read().unwrap().raw, rows, "sync {n}");
        again.give_back_room().unwrap();
        assert!(disk.contents(FILE).unwrap().len() < 1 << 20, "sync {n}");
    }
}
