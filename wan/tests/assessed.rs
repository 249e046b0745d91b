//! What a rehearsal foretells, and what the same replication then takes: real stores, real links and a simulated line.
//!
//! `cargo test -p narrowboat-wan --test assessed -- --nocapture` prints the table.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::boxes::{Cost, Pair};
use common::rng::Rng;
use common::simulate;
use narrowboat_lines::simnet::Line;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{Call, Create, Credentials, FileTree, SetAttributes};
use narrowboat_storage::tree::spans;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_wan::assess::{Ghost, Path, Rehearsal, Rehearsed, Sampling, rehearse};
use narrowboat_wan::shape::Rate;
use narrowboat_wan::sync::{Limits, Replication, Source};

const ROUND_TRIP: Duration = Duration::from_millis(40);
const RATE: u64 = 20_000_000;
static ROOT: Credentials = Credentials::ROOT;

/// A share with files, and what is done to it day by day.
struct Files {
    tree: Arc<dyn FileTree>,
    files: BTreeMap<String, (Inode, Vec<u8>)>,
    now: i64,
    rng: Rng,
}

impl Files {
    fn new(store: &Store, seed: u64) -> Files {
        let share = store.create_share("files", Policy::Inline, Timestamp(1)).unwrap();
        Files { tree: store.tree(share.row.id).unwrap(), files: BTreeMap::new(), now: 1, rng: Rng::new(seed) }
    }

    fn call(&mut self) -> Call<'static> {
        self.now += 1;
        Call { caller: &ROOT, now: Timestamp(self.now), tag: None }
    }

    fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) {
        if !self.files.contains_key(name) {
            let how = Create::Guarded(SetAttributes::default());
            let call = self.call();
            let made = self.tree.create(&call, Inode::ROOT, name.as_bytes(), &how).unwrap();
            self.files.insert(name.to_owned(), (made.file.inode, Vec::new()));
        }
        let call = self.call();
        let (inode, content) = self.files.get_mut(name).unwrap();
        self.tree.write(&call, *inode, offset as u64, Bytes::copy_from_slice(bytes)).unwrap();
        content.resize(content.len().max(offset + bytes.len()), 0);
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn remove(&mut self, name: &str) {
        let call = self.call();
        self.tree.remove(&call, Inode::ROOT, name.as_bytes()).unwrap();
        self.files.remove(name);
    }

    /// Words, which become a third as large.
    fn text(&mut self, len: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < len {
            let word = self.rng.below(4000);
            text.extend_from_slice(format!("word{word} ").as_bytes());
        }
        text.truncate(len);
        text
    }
}

/// What a day brings.
type Day = fn(&mut Files);

fn first(files: &mut Files) {
    for number in 0..60 {
        let len = if number % 10 == 0 { 1 << 20 } else { 40_000 };
        let bytes = if number % 3 == 0 { files.rng.bytes(len) } else { files.text(len) };
        files.write(&format!("file {number}"), 0, &bytes);
    }
}

fn small_edits(files: &mut Files) {
    for number in [1, 11, 20, 40] {
        let name = format!("file {number}");
        let len = files.files[&name].1.len();
        let (at, bytes) = (files.rng.below(len as u64 - 300) as usize, files.text(200));
        files.write(&name, at, &bytes);
    }
}

fn new_files(files: &mut Files) {
    for number in 0..20 {
        let bytes = files.text(150_000);
        files.write(&format!("new {} {number}", files.now), 0, &bytes);
    }
}

fn saved_as(files: &mut Files) {
    // The same with a paragraph in front: everything moves, and the old one goes.
    for number in [1, 10, 20, 31] {
        let name = format!("file {number}");
        let mut bytes = files.text(500);
        bytes.extend_from_slice(&files.files[&name].1.clone());
        files.remove(&name);
        files.write(&name, 0, &bytes);
    }
}

fn copies_and_deletions(files: &mut Files) {
    let copy = files.files["file 20"].1.clone();
    files.write(&format!("copy of {}", files.now), 0, &copy);
    for number in [2, 3, 4] {
        files.remove(&format!("file {number}"));
    }
}

fn nothing(_: &mut Files) {}

/// A disk of 32 MiB of which pages of 8 KiB are written.
fn disk(files: &mut Files) {
    let bytes = files.rng.bytes(8 << 20);
    for part in 0..4 {
        let (half, text) = (bytes[part << 20..(part + 4) << 20].to_vec(), files.text(4 << 20));
        files.write("disk.img", part * (8 << 20), &half);
        files.write("disk.img", part * (8 << 20) + (4 << 20), &text);
    }
}

fn pages(files: &mut Files) {
    for _ in 0..200 {
        let at = files.rng.below(4096) as usize * 8192;
        let bytes = if files.rng.one_in(2) { files.rng.bytes(8192) } else { files.text(8192) };
        files.write("disk.img", at, &bytes);
    }
}

struct Foretold {
    ghost: Arc<Ghost>,
    how: Rehearsal,
}

impl Foretold {
    fn of(store: &Store, sampling: Sampling) -> Foretold {
        let bytes_per_second = Some(RATE / 8);
        let limits = Limits::default().on_line(bytes_per_second, ROUND_TRIP, 0);
        let realm = store.realm().clone();
        let how = Rehearsal { realm, references: spans, limits, bytes_per_second, round_trip: ROUND_TRIP, sampling };
        Foretold { ghost: Arc::new(Ghost::new(store.pool().clone())), how }
    }

    fn rehearse(&self, store: &Store, what: &Replication) -> Rehearsed {
        let source: Arc<dyn Source> = Arc::new(store.pool().clone());
        rehearse(&source, &self.ghost, what.clone(), &self.how).unwrap()
    }
}

/// How far off, as a share of what it was.
fn off(foretold: u64, taken: u64) -> f64 {
    (foretold as f64 - taken as f64) / taken as f64
}

fn check(name: &str, day: usize, rehearsed: &Rehearsed, cost: &Cost) {
    let (said, did) = (&rehearsed.report, &cost.report);
    let [out, back] = Path::PLAIN.bytes(rehearsed);
    let taken = [cost.bytes_to(false), cost.bytes_to(true)];
    let offs = [off(out, taken[0]), off(back, taken[1])];
    println!(
        "{name} day {day}: chunks {} of {}, payload {} of {}, wire {out} of {} ({:+.2} %), back {back} of {} ({:+.1} %), {:.2} s of {:.2}",
        said.chunks.sent,
        did.chunks.sent,
        said.payload_bytes,
        did.payload_bytes,
        taken[0],
        100.0 * offs[0],
        taken[1],
        100.0 * offs[1],
        rehearsed.took.as_secs_f64(),
        did.seconds
    );
    assert_eq!((said.chunks.sent, said.nodes.sent), (did.chunks.sent, did.nodes.sent));
    // How groups fall together depends on when what arrives, which few bytes show more than many.
    let near = |foretold: u64, taken: u64, share: f64| foretold.abs_diff(taken) <= 500 + (taken as f64 * share) as u64;
    assert!(near(out, taken[0], 0.02) && near(out + back, taken[0] + taken[1], 0.02), "{offs:?}");
}

fn run(name: &str, days: &[Day]) {
    simulate(async {
        let limit = Rate::from_bits(RATE).ok();
        let mut pair = Pair::new(Line::new(4 * RATE, ROUND_TRIP, 0.0), limit).await;
        let mut files = Files::new(&pair.branch.store, 7);
        let foretold = Foretold::of(&pair.branch.store, Sampling::ALL);
        let mut known: Option<Replication> = None;
        for (nth, day) in days.iter().enumerate() {
            day(&mut files);
            let mark = pair.branch.store.pool().mark();
            let mut what = pair.snapshot("files");
            if let Some(known) = &known {
                what.shared = Some((known.snapshot.snapshot, Arc::new(known.mark.clone().unwrap())));
            }
            let rehearsed = foretold.rehearse(&pair.branch.store, &what);
            foretold.ghost.advance(mark);
            let cost = pair.replicate(what.clone()).await;
            check(name, nth, &rehearsed, &cost);
            known = Some(what);
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
        pair.link.shutdown().await;
    });
}

#[test]
fn what_a_day_of_a_share_and_of_a_disk_takes_is_foretold() {
    run("files", &[first, small_edits, new_files, saved_as, copies_and_deletions, nothing, small_edits]);
    run("disk", &[disk, pages, pages, nothing, pages]);
}

#[test]
fn a_sample_tells_how_far_it_can_be_trusted() {
    simulate(async {
        let mut pair = Pair::new(Line::new(4 * RATE, ROUND_TRIP, 0.0), None).await;
        let mut files = Files::new(&pair.branch.store, 7);
        disk(&mut files);
        (0..4).for_each(|_| first(&mut files));
        let what = pair.snapshot("files");
        let store = &pair.branch.store;
        let all = Foretold::of(store, Sampling::ALL).rehearse(store, &what);
        for one_in in [4, 8] {
            let some = Foretold::of(store, Sampling { whole_bytes: 1 << 20, one_in }).rehearse(store, &what);
            let (exact, guess) = (all.report.payload_bytes, some.report.payload_bytes);
            let sampled = some.sampled;
            println!("one in {one_in}: {guess} of {exact} ({:+.2} %), {sampled:?}", 100.0 * off(guess, exact));
            assert_eq!(some.report.chunks, all.report.chunks);
            assert_eq!(sampled.packed_raw + sampled.estimated_raw, all.sampled.packed_raw);
            assert!(sampled.estimated_raw > sampled.packed_raw && all.sampled.estimated_raw == 0);
            assert!(guess.abs_diff(exact) <= 2 * sampled.error, "{sampled:?}");
        }
        pair.link.shutdown().await;
    });
}
