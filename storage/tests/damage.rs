//! Every kind of file by every kind of harm: what comes out is right, or a named error, or built again and reported; never
//! a wrong byte, never a panic.

mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::*;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{Credentials, FileTree};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::units::{Inode, Lsn, Timestamp};
use narrowboat_storage::{Error, Store};

/// Files of the share, by path, and the snapshot's root.
struct Known {
    files: BTreeMap<String, Vec<u8>>,
    root: Option<narrowboat_storage::name::Name>,
}

/// A store that has every kind of file, with a tail in the journal that no root holds.
fn store() -> (SimDisk, Known) {
    let (disk, store, tree) = with_share(1);
    let mut files = BTreeMap::new();
    let mut put = |name: &str, data: Vec<u8>, now: i64| {
        let file = create(&*tree, Inode::ROOT, name, now);
        write(&*tree, file, 0, &data, now);
        commit(&*tree, file).expect("room");
        files.insert(name.to_owned(), data);
    };
    put("bulk", noise(1, 700_000), 2);
    (0..40).for_each(|nth| put(&format!("small-{nth}"), noise(100 + nth, 3000), 3));
    let snapshot = store.create_snapshot("share", "monday", Timestamp(4)).expect("room");
    let root = store.seal(snapshot.id).expect("room").root;
    put("more", noise(2, 400_000), 5);
    // Twice, so that there are two images of the catalogue.
    store.close(Timestamp(6)).expect("room");
    store.set_setting("a", Some(b"b"), Timestamp(7)).expect("room");
    store.close(Timestamp(8)).expect("room");
    put("tail", noise(3, 20_000), 9);
    put("tail of chunks", noise(4, 150_000), 9);
    (disk, Known { files, root })
}

/// What one harmed store gave.
#[derive(Debug, Default)]
struct Outcome {
    /// Opening was refused, by name of the file.
    refused: Option<String>,
    /// Files of the share that could not be read, each with a named error.
    unreadable: usize,
    /// The check or the report of opening named something.
    reported: bool,
}

fn named(error: &Error) -> String {
    match error {
        Error::Damage(damage) => {
            assert!(!damage.file.is_empty() && !damage.expected.is_empty() && !damage.found.is_empty());
            damage.file.clone()
        }
        Error::Refused(narrowboat_storage::error::Refusal::Unsupported(why)) => why.clone(),
        other => panic!("not named as damage: {other:?}"),
    }
}

fn reported(report: &OpenReport) -> bool {
    report.catalogue.rebuilt.is_some()
        || report.pool.index_rebuilt.is_some()
        || !report.pool.damage.is_empty()
        || report.journal.torn.is_some()
        || report.pool.torn_bytes > 0
        || report.pool.sealed > 0
}

/// Opens a harmed store and reads all of it. Panics on a wrong byte.
fn look(disk: &SimDisk, known: &Known) -> Outcome {
    let mut outcome = Outcome::default();
    let (store, report) = match open(disk) {
        Ok(opened) => opened,
        Err(error) => return Outcome { refused: Some(named(&error)), ..outcome },
    };
    outcome.reported = reported(&report);
    let check = store.check(true, &mut |_| true).expect("a sound machine");
    outcome.reported |= !check.is_sound();
    let info = store.dataset_named("share").expect("it is listed, whatever became of it");
    outcome.reported |= info.damage.is_some();
    let tree = store.tree(info.row.id).expect("open");
    for (name, data) in &known.files {
        if let Err(error) = read_named(&*tree, name, data) {
            named(&error);
            outcome.unreadable += 1;
        }
    }
    let snapshot = store.snapshot_named("share", "monday").expect("the catalogue is whole");
    match store.seal(snapshot.id) {
        Ok(sealed) => assert_eq!(sealed.root, known.root, "a sealed root changed"),
        Err(error) => drop(named(&error)),
    }
    outcome
}

fn read_named(tree: &dyn FileTree, name: &str, data: &[u8]) -> narrowboat_storage::Result<()> {
    let root = Credentials::ROOT;
    let inode = tree.lookup(&root, Inode::ROOT, name.as_bytes())?.inode;
    let mut at = 0;
    while at < data.len() {
        let found = tree.read(&root, inode, at as u64, 64 << 10)?;
        let bytes = found.pieces.concat();
        assert!(!bytes.is_empty() && data[at..].starts_with(&bytes), "{name}: wrong bytes at {at}");
        at += bytes.len();
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Harm {
    Flip(u64, u8),
    Truncate(u64),
    ZeroPage(u64),
    Lose,
    /// The file gets the bytes of another one of its kind.
    Swap(String),
}

fn harm(disk: &SimDisk, path: &str, harm: &Harm) {
    let len = disk.contents(path).expect("a file").len() as u64;
    match harm {
        Harm::Flip(at, mask) => disk.rot(path, *at, *mask),
        Harm::Truncate(len) => disk.truncate(path, *len),
        Harm::ZeroPage(at) => disk.overwrite(path, *at, &vec![0; (len - at).min(4096) as usize]),
        Harm::Lose => disk.lose(path),
        Harm::Swap(other) => {
            let bytes = disk.contents(other).expect("a file");
            disk.truncate(path, 0).and_then(|()| disk.overwrite(path, 0, &bytes))
        }
    }
    .expect("a file")
}

/// About `count` places in a file, first and last byte included.
fn places(len: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |nth| (len - 1) * nth / (count - 1)).chain((0..96).filter(move |at| *at < len).step_by(7))
}

fn harms(disk: &SimDisk, path: &str, kin: &[String]) -> Vec<Harm> {
    let len = disk.contents(path).expect("a file").len() as u64;
    // A journal segment is mostly room; its records are at its front.
    let used = if path.starts_with("journal/") { len.min(400_000) } else { len };
    let mut harms: Vec<Harm> = places(used, 24).map(|at| Harm::Flip(at, 1 << (at % 8))).collect();
    harms.extend(places(used, 5).map(Harm::Truncate));
    harms.extend(places(used, 5).map(|at| Harm::ZeroPage(at & !4095)));
    harms.push(Harm::Lose);
    harms.extend(kin.iter().filter(|other| *other != path).take(1).cloned().map(Harm::Swap));
    harms
}

/// Tries every harm on every file of a kind; returns what came out, and the paths.
fn try_all(kind: &str, belongs: impl Fn(&str) -> bool, expect: impl Fn(&Harm, &Outcome) -> Result<(), String>) {
    let (disk, known) = store();
    let files: Vec<String> = disk.paths().into_iter().filter(|path| belongs(path)).collect();
    assert!(!files.is_empty(), "no {kind} among {:?}", disk.paths());
    for path in files.iter().take(3) {
        for one in harms(&disk, path, &files) {
            let disk = disk.fork(7);
            harm(&disk, path, &one);
            let outcome = catch_unwind(AssertUnwindSafe(|| look(&disk, &known)));
            let Ok(outcome) = outcome else { panic!("{kind} {path}, {one:?}: see above") };
            if let Err(why) = expect(&one, &outcome) {
                panic!("{kind} {path}, {one:?}: {why}: {outcome:?}");
            }
        }
    }
}

fn all_is_there(outcome: &Outcome) -> Result<(), String> {
    match outcome.refused.is_none() && outcome.unreadable == 0 {
        true => Ok(()),
        false => Err("everything should be there".into()),
    }
}

/// What is lost is named, by an error or in a report.
fn nothing_is_lost_in_silence(outcome: &Outcome) -> Result<(), String> {
    match outcome.refused.is_some() || outcome.unreadable == 0 || outcome.reported {
        true => Ok(()),
        false => Err("files are unreadable and nobody says so".into()),
    }
}

#[test]
fn either_header_suffices() {
    try_all("header", |path| path.starts_with("store.format"), |_, outcome| all_is_there(outcome));
}

#[test]
fn the_index_is_built_again_whatever_happens_to_it() {
    try_all("index", |path| path == "index.redb", |_, outcome| all_is_there(outcome));
}

#[test]
fn the_catalogue_is_built_again_whatever_happens_to_it() {
    try_all("catalogue", |path| path == "catalogue.redb", |_, outcome| all_is_there(outcome));
}

/// A sound database in an older state: the box ran on upon what the kernel showed after a failed sync, trimmed its journal, and lost power.
#[test]
fn a_catalogue_that_went_back_is_noticed_and_built_again() {
    let (disk, store, tree) = with_share(1);
    let file = create(&*tree, Inode::ROOT, "first", 2);
    write(&*tree, file, 0, &noise(1, 1 << 20), 2);
    commit(&*tree, file).expect("room");
    store.close(Timestamp(3)).expect("room");
    let older = disk.contents("catalogue.redb").expect("a file");
    let disk_row = store.create_volume("disk", 8 << 20, Policy::Inline, Timestamp(4)).expect("room").row;
    let volume = store.volume(disk_row.id).expect("there");
    let image = noise(2, 8 << 20);
    for (nth, piece) in image.chunks(16 << 10).enumerate() {
        volume.write(Timestamp(5), (nth * (16 << 10)) as u64, piece.to_vec().into()).expect("room");
    }
    volume.flush().expect("room");
    store.close(Timestamp(7)).expect("room");
    drop((store, tree, volume));
    disk.truncate("catalogue.redb", older.len() as u64).expect("there");
    disk.overwrite("catalogue.redb", 0, &older).expect("there");
    let (store, report) = open(&disk).expect("opens");
    assert!(report.journal.first > Lsn(1), "nothing was trimmed: {:?}", report.journal);
    assert!(report.catalogue.rebuilt.is_some(), "{report:?}");
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("there");
    read_named(&*tree, "first", &noise(1, 1 << 20)).expect("there");
    let volume = store.volume(store.dataset_named("disk").expect("there").row.id).expect("a volume");
    assert!(volume.read(0, 8 << 20).expect("readable").concat() == image);
    assert!(store.check(true, &mut |_| true).expect("a disk").is_sound());
}

#[test]
fn images_of_the_catalogue_are_only_missed_with_the_catalogue() {
    let images = |path: &str| path.starts_with("catalogue/");
    try_all("image", images, |_, outcome| all_is_there(outcome));
    // Without the catalogue, too: the older image and the journal, or a named error.
    let (disk, known) = store();
    disk.lose("catalogue.redb").expect("a file");
    let files: Vec<String> = disk.paths().into_iter().filter(|path| images(path)).collect();
    for one in harms(&disk, &files[files.len() - 1], &files) {
        let disk = disk.fork(7);
        harm(&disk, &files[files.len() - 1], &one);
        let outcome = look(&disk, &known);
        assert!(nothing_is_lost_in_silence(&outcome).is_ok(), "{one:?}: {outcome:?}");
    }
}

#[test]
fn a_damaged_container_costs_what_was_in_it_and_says_so() {
    let data = |path: &str| path.starts_with("containers/");
    // Where the replay of the journal needs what is damaged, the share is set aside, and the store opens.
    try_all("container", data, |_, outcome| match &outcome.refused {
        Some(file) => Err(format!("refused for {file}")),
        None => nothing_is_lost_in_silence(outcome),
    });
}

#[test]
fn a_damaged_journal_is_refused_by_name_or_ends_where_nothing_vouched_for_more() {
    let segment = |path: &str| path.ends_with(".journal");
    try_all("journal", segment, |one, outcome| match one {
        // Lost or replaced whole: known from the catalogue.
        Harm::Lose | Harm::Swap(_) if outcome.refused.is_none() => Err("nobody noticed".into()),
        _ if outcome.refused.is_some() => Ok(()),
        // Behind the last voucher a record that rots is taken for torn, which is reported; elsewhere it is no loss.
        _ => match outcome.unreadable == 0 || outcome.reported {
            true => Ok(()),
            false => Err("records were lost in silence".into()),
        },
    });
}

#[test]
fn the_index_rebuilt_from_containers_gives_equal_answers() {
    let (disk, known) = store();
    let answers = |store: &Store| {
        let mut names = Vec::new();
        store.pool().for_each_slot(|_, slot| names.push((slot.kind, slot.name)));
        names.sort_unstable();
        let read = |(kind, name): &(_, _)| store.pool().read(*kind, name).expect("sound");
        let bytes: Vec<_> = names.iter().map(read).collect();
        (names, bytes)
    };
    let before = {
        let (store, _) = open(&disk).expect("sound");
        store.close(Timestamp(10)).expect("room");
        answers(&store)
    };
    assert!(before.0.len() > 50);
    disk.lose("index.redb").expect("a file");
    let (store, report) = open(&disk).expect("built again");
    assert!(report.pool.index_rebuilt.is_some());
    assert!(answers(&store) == before);
    drop(store);
    let outcome = look(&disk, &known);
    assert!(all_is_there(&outcome).is_ok() && !outcome.reported, "{outcome:?}");
}

#[test]
fn the_harness_sees_one_wrong_byte() {
    let (disk, mut known) = store();
    assert!(all_is_there(&look(&disk, &known)).is_ok());
    known.files.get_mut("bulk").expect("there")[300_000] ^= 1;
    assert!(catch_unwind(AssertUnwindSafe(|| look(&disk, &known))).is_err());
}
