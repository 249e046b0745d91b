//! Random moments of a real box beside what was written. A share and a disk are changed step by step, the box is killed and
//! started in between, and what comes back for the time of a step is what there was then: all of it, a folder, a file, the
//! disk; restored, cloned, rewound, and out of a box that does not run.
//!
//! `NARROWBOAT_STEPS` makes more steps, `NARROWBOAT_MOMENTS` looks at more of them, `NARROWBOAT_SEED` makes others.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::iscsi::{BLOCK, Initiator, read, unmap, write};
use common::nfs::{Client, Handle, Stable};
use common::seeded::{Seeded, number};
use common::{Served, data_folder, facts, fine, narrowboat, noise};

const DISK_BYTES: usize = 2 << 20;

/// What is in a folder, by path: bytes of files, nothing of folders.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What there was at a time.
struct Step {
    time: String,
    tree: Tree,
    disk: Vec<u8>,
}

/// The present as people write it. Steps lie apart by more than it is exact to.
fn now() -> String {
    std::thread::sleep(Duration::from_millis(10));
    let text = narrowboat::units::rfc3339(narrowboat::clock::now());
    std::thread::sleep(Duration::from_millis(10));
    text
}

/// Somebody who changes a share and a disk, and knows what must be there.
struct Writer {
    client: Client,
    session: Initiator,
    rng: Seeded,
    tree: Tree,
    disk: Vec<u8>,
    made: u64,
}

impl Writer {
    fn new(served: &Served) -> Writer {
        let mut writer = Writer {
            client: served.connect(),
            session: served.log_in("disk"),
            rng: Seeded::new(number("NARROWBOAT_SEED", 1)),
            tree: Tree::new(),
            disk: vec![0; DISK_BYTES],
            made: 0,
        };
        writer.session.greet(0).expect("open");
        writer
    }

    /// Finds the box again after it was started anew.
    fn find(&mut self, served: &Served) {
        (self.client, self.session) = (served.connect(), served.log_in("disk"));
        self.session.greet(0).expect("open");
    }

    fn handle(&mut self, path: &Path) -> Handle {
        let mut at = self.client.mount("/office").expect("the share");
        for name in path {
            at = self.client.lookup(&at, name.as_encoded_bytes()).expect("there").0;
        }
        at
    }

    /// Where a path lies and what it is called there.
    fn place(&mut self, path: &Path) -> (Handle, Vec<u8>) {
        let name = path.file_name().expect("below the root").as_encoded_bytes().to_owned();
        (self.handle(path.parent().expect("below the root")), name)
    }

    fn pick(&mut self, is_folder: bool) -> Option<PathBuf> {
        let fitting: Vec<_> = self.tree.iter().filter(|(_, bytes)| bytes.is_none() == is_folder).collect();
        let nth = self.rng.below(fitting.len().max(1) as u64) as usize;
        fitting.get(nth).map(|(path, _)| (*path).clone())
    }

    fn put(&mut self, path: PathBuf) {
        let (folder, name) = self.place(&path);
        self.made += 1;
        let bytes = noise(self.made, [10, 3000, 60_000][self.rng.below(3) as usize]);
        let file = match self.tree.contains_key(&path) {
            true => self.handle(&path),
            false => self.client.create(&folder, &name).expect("room"),
        };
        self.client.set(&file, None, Some(0)).expect("it is ours");
        self.client.write(&file, 0, &bytes, Stable::File).expect("room");
        self.tree.insert(path, Some(bytes));
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let ((folder, name), (other, new)) = (self.place(from), self.place(to));
        self.client.rename((&folder, &name), (&other, &new)).expect("nothing is in the way");
        let moved: Vec<_> = self.tree.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let below = path.strip_prefix(from).expect("just looked");
            let target = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            let bytes = self.tree.remove(&path).expect("just found");
            self.tree.insert(target, bytes);
        }
    }

    fn change_share(&mut self) {
        self.made += 1;
        let folder = if self.rng.one_in(3) { PathBuf::new() } else { self.pick(true).unwrap_or_default() };
        let file = self.pick(false);
        match (self.rng.below(9), file) {
            (0, _) if folder.components().count() < 3 => {
                let path = folder.join(format!("folder {}", self.made));
                let (parent, name) = self.place(&path);
                self.client.make_dir(&parent, &name).expect("a new name");
                self.tree.insert(path, None);
            }
            (1, _) if !folder.as_os_str().is_empty() => {
                let to = PathBuf::from(format!("moved {}", self.made));
                self.rename(&folder, &to);
            }
            (2, Some(file)) => {
                let (parent, name) = self.place(&file);
                self.client.remove(&parent, &name).expect("there");
                self.tree.remove(&file);
            }
            // Over another one, or to where none is.
            (3..=4, Some(file)) => {
                let to = folder.join(format!("f{}", self.rng.below(3)));
                if to != file {
                    self.rename(&file, &to);
                }
            }
            (5, Some(file)) => self.put(file),
            _ => {
                let name = format!("f{}", self.rng.below(3));
                self.put(folder.join(name));
            }
        }
    }

    fn change_disk(&mut self) {
        let blocks = 1 + self.rng.below(64) as usize;
        let first = self.rng.below((DISK_BYTES / BLOCK - blocks) as u64);
        let range = first as usize * BLOCK..(first as usize + blocks) * BLOCK;
        if self.rng.one_in(5) {
            let (cdb, list) = unmap(first, blocks);
            assert!(self.session.run(0, &cdb, list, 0).expect("open").is_good());
            self.disk[range].fill(0);
            return;
        }
        self.made += 1;
        let bytes = noise(self.made, range.len());
        let done = self.session.run(0, &write(first, blocks, false), bytes.clone(), 0).expect("open");
        assert!(done.is_good(), "{:x?}", done.sense());
        self.disk[range].copy_from_slice(&bytes);
    }

    /// Changes both, several times, and says what there is now.
    fn step(&mut self) -> Step {
        (0..1 + self.rng.below(3)).for_each(|_| self.change_share());
        (0..1 + self.rng.below(3)).for_each(|_| self.change_disk());
        Step { time: now(), tree: self.tree.clone(), disk: self.disk.clone() }
    }
}

/// Everything in a folder of this machine.
fn found_in(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    for entry in fs::read_dir(folder).expect("restored") {
        let path = entry.expect("an entry").path();
        let name = PathBuf::from(path.file_name().expect("a name"));
        match path.is_dir() {
            true => {
                tree.extend(found_in(&path).into_iter().map(|(below, bytes)| (name.join(below), bytes)));
                tree.insert(name, None);
            }
            false => drop(tree.insert(name, Some(fs::read(&path).expect("restored")))),
        }
    }
    tree
}

/// What lies below a folder.
fn below(tree: &Tree, folder: &Path) -> Tree {
    let inside = |(path, bytes): (&PathBuf, &Option<Vec<u8>>)| {
        let below = path.strip_prefix(folder).ok().filter(|below| !below.as_os_str().is_empty())?;
        Some((below.to_owned(), bytes.clone()))
    };
    tree.iter().filter_map(inside).collect()
}

/// Paths of a tree with how much is there, for people.
fn list(tree: &Tree) -> Vec<(&Path, Option<usize>)> {
    tree.iter().map(|(path, bytes)| (path.as_path(), bytes.as_ref().map(Vec::len))).collect()
}

/// Restores what there was at a time, and compares.
fn look_back(data: &Path, step: &Step, rng: &mut Seeded) {
    let time = &step.time;
    let out = tempfile::tempdir().expect("a folder");
    let dest = |name: &str| out.path().join(name).to_str().expect("UTF-8").to_owned();
    fine(data, &["restore", &format!("office@{time}"), &dest("all")]);
    let found = found_in(Path::new(&dest("all")));
    assert!(found == step.tree, "at {time}: {:?}, not {:?}", list(&found), list(&step.tree));
    fine(data, &["restore", &format!("disk@{time}"), &dest("disk")]);
    assert!(fs::read(dest("disk")).expect("an image") == step.disk, "the disk at {time}");
    let nth = rng.below(step.tree.len().max(1) as u64) as usize;
    if let Some((path, bytes)) = step.tree.iter().nth(nth) {
        fine(data, &["restore", &format!("office@{time}:{}", path.display()), &dest("one")]);
        match bytes {
            Some(bytes) => assert!(fs::read(dest("one")).expect("a file") == *bytes, "{path:?} at {time}"),
            None => assert!(found_in(Path::new(&dest("one"))) == below(&step.tree, path), "{path:?} at {time}"),
        }
    }
}

fn disk_of(session: &mut Initiator) -> Vec<u8> {
    session.greet(0).expect("open");
    let half = DISK_BYTES / BLOCK / 2;
    let piece = |first| session.run(0, &read(first, half), Vec::new(), DISK_BYTES / 2).expect("open").data;
    [0, half as u64].map(piece).concat()
}

#[test]
fn random_moments_come_back_as_a_file_a_folder_and_a_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let mut served = Served::start(&data);
    fine(&data, &["share", "create", "office"]);
    fine(&data, &["volume", "create", "disk", "--size", &DISK_BYTES.to_string()]);
    for name in ["office", "disk"] {
        fine(&data, &["window", name, "--keep", "1h"]);
    }
    let (steps, moments) = (number("NARROWBOAT_STEPS", 24), number("NARROWBOAT_MOMENTS", 8));
    let mut writer = Writer::new(&served);
    let mut log = Vec::new();
    for nth in 0..steps {
        log.push(writer.step());
        match nth % 8 {
            // Snapshots make roots: then a moment is a root and what follows it.
            2 => drop(fine(&data, &["snapshot", "create", "office", "--name", &format!("s{nth}")])),
            4 => drop(fine(&data, &["snapshot", "create", "disk", "--name", &format!("s{nth}")])),
            6 => {
                // What was answered stays: by a file's stability over NFS, by the journal's over iSCSI.
                served.kill();
                served = Served::start(&data);
                writer.find(&served);
            }
            _ => {}
        }
    }
    let mut rng = writer.rng.clone();
    let any = |rng: &mut Seeded| rng.below(steps) as usize;
    (0..moments).for_each(|_| look_back(&data, &log[any(&mut rng)], &mut rng));

    let (then, last) = (&log[any(&mut rng)], &log[log.len() - 1]);
    fine(&data, &["clone", &format!("disk@{}", then.time), "past"]);
    assert!(disk_of(&mut served.log_in("past")) == then.disk, "a clone is a target at once");
    for step in [then, last] {
        fine(&data, &["rewind", "disk", "--to", &step.time, "--force"]);
        assert!(disk_of(&mut writer.session) == step.disk, "in place, under its initiator");
        fine(&data, &["rewind", "office", "--to", &step.time, "--force"]);
        let names: Vec<_> =
            writer.client.mount("/office").and_then(|root| writer.client.list(&root)).expect("readable");
        let top = step.tree.keys().filter(|path| path.components().count() == 1).count();
        assert_eq!(names.len(), top, "in place, under its client");
    }
    // Also of a box that does not run, and of moments before the rewinds.
    fine(&data, &["stop"]);
    (0..2).for_each(|_| look_back(&data, &log[any(&mut rng)], &mut rng));
    assert!(facts(&data, &["check", "--deep"])["sound"].as_bool().expect("an answer"));
}

#[test]
fn a_name_means_one_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "1MiB"]);
    fine(&data, &["window", "disk", "--keep", "1h"]);
    let mut session = served.log_in("disk");
    session.greet(0).expect("open");
    let mut put = |byte| assert!(session.run(0, &write(0, 1, false), vec![byte; BLOCK], 0).expect("open").is_good());
    // Names as people give them, some of which look like times.
    let names = ["before the update", "Größe 2026-11-22", "2026-11-22", "24h", "--", "näıve"];
    for (nth, name) in (1..).zip(names) {
        put(nth);
        fine(&data, &["mark", "disk", "--", name]);
        put(100 + nth);
    }
    fine(&data, &["snapshot", "create", "disk", "--name", "monday"]);
    for taken in [&["mark", "disk", "monday"][..], &["snapshot", "create", "disk", "--name", "24h"]] {
        let said = narrowboat(&data, taken);
        assert!(said.code == 1 && said.err.contains("exists already"), "{said:?}");
    }
    let moments = facts(&data, &["timeline", "disk"])["moments"].clone();
    let marks: Vec<_> = moments.as_array().expect("a list").iter().filter(|moment| moment["kind"] == "mark").collect();
    assert_eq!(marks.iter().map(|mark| mark["name"].as_str().expect("a name")).collect::<Vec<_>>(), names);
    assert!(marks.iter().all(|mark| mark["consistency"] == "crash"), "nobody said that they are quiet: {marks:#?}");
    for (nth, name) in (1u8..).zip(names) {
        let dest = folder.path().join(format!("image {nth}"));
        fine(&data, &["restore", &format!("disk@{name}"), dest.to_str().expect("UTF-8")]);
        assert_eq!(fs::read(dest).expect("an image")[..BLOCK], [nth; BLOCK], "{name}");
    }
}

#[test]
fn a_window_that_the_disk_has_no_room_for_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "1MiB"]);
    fine(&data, &["window", "disk", "--keep", "1h"]);
    let mut session = served.log_in("disk");
    session.greet(0).expect("open");
    let mut times = Vec::new();
    for byte in 1..4 {
        assert!(session.run(0, &write(0, 1, true), vec![byte; BLOCK], 0).expect("open").is_good());
        times.push(now());
        fine(&data, &["snapshot", "create", "disk", "--name", &format!("s{byte}")]);
    }
    let reach = || facts(&data, &["timeline", "disk"])["window"].clone();
    assert_eq!(reach()["limit"], "begun");
    fine(&data, &["restore", &format!("disk@{}", times[0]), folder.path().join("kept").to_str().expect("UTF-8")]);
    drop((session, served));
    // No disk has so much to spare: what is missing is missing from the window.
    let config = common::CONFIG.replace("reserve = '64MiB'", "reserve = '4000TiB'");
    fs::write(data.join("narrowboat.toml"), config).expect("a config");
    let served = Served::start(&data);
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while reach()["limit"] != "disk" {
        assert!(std::time::Instant::now() < deadline, "{:#}\n{}", reach(), served.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = fine(&data, &["status"]);
    assert!(status.contains("it ends there because the disk has no room for more"), "{status}");
    assert!(fine(&data, &["timeline", "disk"]).contains("because the disk has no room for more"));
    let dest = folder.path().join("gone");
    let said = narrowboat(&data, &["restore", &format!("disk@{}", times[0]), dest.to_str().expect("UTF-8")]);
    assert!(said.code == 1 && said.err.contains("window"), "what it no longer reaches is refused: {said:?}");
    assert!(!dest.exists());
    // Snapshots stay.
    fine(&data, &["restore", "disk@s1", dest.to_str().expect("UTF-8")]);
    assert_eq!(fs::read(dest).expect("an image")[..BLOCK], [1; BLOCK]);
}
