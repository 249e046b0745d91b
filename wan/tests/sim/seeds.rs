//! One seed, one world: a branch makes a few snapshots and replicates each over a bad line that is cut, to a head
//! office that already has other data and loses its power.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::name::{Kind, Realm};
use narrowboat_wan::sync::seam::{Mark, Ref, Sink, SnapshotOffer, Stored};
use narrowboat_wan::sync::{Compression, Limits};
use narrowboat_wan::wire::{FEATURE_BUNDLES, FEATURE_PREFIXES, FEATURE_PROOFS};

use crate::common::rng::Rng;
use crate::common::seeds;
use crate::common::store::MemoryStore;
use crate::common::tree::{Dataset, Size};
use crate::line::Line;
use crate::world::{BRANCH, Ended, Flaw, Script, Tamper, attempt, replication};

/// So many attempts of a replication meet faults; then the line holds.
const FAULTY_ATTEMPTS: u64 = 6;

/// Runs worlds and names the seeds that failed.
pub fn all_hold(seeds: std::ops::Range<u64>, world: impl Fn(u64) -> Result<(), String>) {
    for seed in seeds {
        if let Err(what) = world(seed) {
            panic!("seed {seed}: {what}\nrepeat with NARROWBOAT_SEED={seed}");
        }
    }
}

fn random_limits(rng: &mut Rng) -> Limits {
    Limits {
        window_bytes: rng.within(500, 40_000),
        window_objects: rng.within(1, 200) as u32,
        window_names: Limits::NAMES_MIN + rng.below(20_000) as u32,
        read_ahead_bytes: rng.within(1, 100_000) as usize,
        patience: Some(Duration::from_secs(600)),
        compression: [Compression::Adaptive, Compression::AsStored, Compression::Level(3)][rng.below(3) as usize],
        delta: rng.below(4) > 0,
        prefixes: rng.below(4) > 0,
        resemblance: rng.below(4) > 0,
        names_ahead: [0, 1, 60, 2048][rng.below(4) as usize],
        group_bytes: rng.within(32 << 10, 4 << 20) as usize,
        rate_expected: rng.one_in(2).then(|| rng.within(1000, 100_000_000)),
    }
}

/// The two boxes of a world.
pub struct Boxes {
    pub rng: Rng,
    pub realm: Realm,
    pub line: Line,
    pub source: Arc<MemoryStore>,
    pub sink: Arc<MemoryStore>,
    pub dataset: Dataset,
    pub size: Size,
    pub flaw: Flaw,
    /// Snapshots that were replicated.
    pub done: Vec<SnapshotOffer>,
    /// What the branch had when the last of these was made, and whether anything was sent since that did not come to its end.
    pub proved: Option<Mark>,
}

impl Boxes {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let size = Size { files: rng.below(40), chunks_max: rng.within(1, 16), chunk_bytes_max: rng.within(50, 3000) };
        let realm = Realm::published();
        let dataset = Dataset::random(&mut rng, size);
        let line = Line::random(&mut rng);
        let (source, sink) = (MemoryStore::new(&realm), MemoryStore::new(&realm));
        let mut boxes =
            Boxes { rng, realm, line, source, sink, dataset, size, flaw: Flaw::None, done: Vec::new(), proved: None };
        boxes.other_branches();
        boxes
    }

    /// The head office has what other branches sent: partly the same.
    fn other_branches(&mut self) {
        if self.rng.one_in(2) {
            let mut other = self.dataset.clone();
            other.edit(&mut self.rng, self.size, 10);
            other.snapshot(&self.sink, 200, BRANCH);
        }
    }

    /// A script with this world's line.
    pub fn script(&mut self) -> Script<'static> {
        let mut script = Script::honest(self.line, self.realm.id());
        script.limits = [random_limits(&mut self.rng), random_limits(&mut self.rng)];
        // Now and then one of the two is older, and knows no bundles or no prefixes.
        for hello in &mut script.hellos {
            if self.rng.one_in(4) {
                hello.features_ignore = [0, FEATURE_BUNDLES, FEATURE_BUNDLES | FEATURE_PREFIXES, FEATURE_PROOFS]
                    [self.rng.below(4) as usize];
            }
        }
        script.flaw = self.flaw;
        script
    }

    /// What of a snapshot the head office lacks.
    pub fn lacking(&self, snapshot: &SnapshotOffer) -> BTreeSet<Ref> {
        self.source.closure(snapshot.root).difference(&self.sink.refs()).copied().collect()
    }

    /// What of a snapshot the head office has, though the branch kept it only after `mark`.
    fn known_and_newer(&self, snapshot: &SnapshotOffer, mark: &Mark) -> BTreeSet<Ref> {
        use narrowboat_wan::sync::Source;
        let newer = |(kind, name): &Ref| self.source.kept_since(mark, *kind, &[*name]).unwrap() == [true];
        let known =
            self.source.closure(snapshot.root).intersection(&self.sink.refs()).copied().collect::<BTreeSet<_>>();
        known.into_iter().filter(newer).collect()
    }

    fn stored_bytes(&self, objects: &BTreeSet<Ref>) -> u64 {
        use narrowboat_wan::sync::Source;
        objects.iter().map(|(kind, name)| self.source.stored(*kind, name).unwrap().bytes.len() as u64).sum()
    }

    /// One attempt; afterwards every invariant must hold, however it ended.
    pub fn attempt(&mut self, snapshot: &SnapshotOffer, script: Script) -> Result<Ended, String> {
        let seed = self.rng.next();
        let mut what = replication(snapshot, &self.done);
        // Only the first attempt goes without questions.
        let base = self.done.last().map(|base| base.snapshot);
        what.shared = base.zip(self.proved.take().map(Arc::new));
        let ended = attempt(&self.source, &self.sink, what, script, seed)?;
        self.sink.check()?;
        let published = self.sink.published(&snapshot.snapshot);
        if published.as_ref().is_some_and(|published| published != snapshot) {
            return Err("another snapshot was published than the one that was offered".to_owned());
        }
        if ended.receiver.0.is_ok() && published.is_none() {
            return Err("the receiver says that it published, and did not".to_owned());
        }
        Ok(ended)
    }

    /// Replicates until it succeeds, through cuts and restarts, and holds each attempt to what it may send.
    fn replicate(&mut self, snapshot: &SnapshotOffer) -> Result<(), String> {
        let at_first = self.stored_bytes(&self.lacking(snapshot));
        let (mut sent_bytes, mut allowed_bytes) = (0, at_first);
        for number in 0.. {
            let lacking = self.lacking(snapshot);
            // What other branches sent meanwhile may be sent once more where nothing is asked.
            let unasked = match &self.proved {
                Some(mark) => self.known_and_newer(snapshot, mark),
                None => BTreeSet::new(),
            };
            allowed_bytes += self.stored_bytes(&unasked);
            // And the top is sent also where another branch's tree has the same: only then is it this one's.
            let top = u64::from(snapshot.root.is_some_and(|root| self.sink.refs().contains(&(Kind::MapNode, root))));
            let may_be_sent = (lacking.len() + unasked.len()) as u64 + top;
            if top > 0 {
                allowed_bytes +=
                    self.stored_bytes(&snapshot.root.map(|root| (Kind::MapNode, root)).into_iter().collect());
            }
            let mut script = self.script();
            let window = script.limits.iter().map(|limits| limits.window_bytes).min().unwrap_or(0);
            if number < FAULTY_ATTEMPTS && !self.rng.one_in(3) {
                script.cut_us = Some(self.random_cut(at_first));
            }
            let cut = script.cut_us.is_some();
            let ended = self.attempt(snapshot, script)?;
            let report = &ended.sender.1;
            sent_bytes += report.stored_bytes;
            let sent = report.chunks.sent + report.nodes.sent;
            if sent > may_be_sent {
                return Err(format!("{sent} objects were sent, {} were lacking", lacking.len()));
            }
            if sent_bytes > allowed_bytes {
                return Err(format!("{sent_bytes} bytes were sent, {allowed_bytes} were allowed"));
            }
            match (ended.sender.0, cut) {
                (Ok(()), _) => return self.succeeded(snapshot, sent, lacking.len() as u64..=may_be_sent),
                (Err(_), true) => {}
                (Err(failure), false) => return Err(format!("failed without a fault: {failure}")),
            }
            if self.rng.one_in(2) {
                self.sink.possessions.forget();
                let keep = self.rng.below(self.sink.unsynced() as u64 + 1) as usize;
                self.sink.restart(keep);
                self.sink.check()?;
            }
            // A break costs at most the window that was under way, and the rest of one object.
            allowed_bytes += window + self.size.chunk_bytes_max.max(4096);
        }
        Ok(())
    }

    /// A moment at which the attempt is under way, most likely.
    fn random_cut(&mut self, bytes: u64) -> u64 {
        let transfer = (bytes + 2000) * 8_000_000 / self.line.bits_per_second + 12 * self.line.one_way_us;
        self.rng.below(transfer)
    }

    fn succeeded(&mut self, snapshot: &SnapshotOffer, sent: u64, right: RangeInclusive<u64>) -> Result<(), String> {
        if !right.contains(&sent) {
            return Err(format!("{sent} objects were sent, {right:?} were lacking"));
        }
        let there = self.sink.published(&snapshot.snapshot).ok_or("not published")?;
        if there.root != snapshot.root || self.sink.closure(there.root) != self.source.closure(snapshot.root) {
            return Err("the roots differ".to_owned());
        }
        // A published snapshot survives a power cut.
        self.sink.restart(0);
        self.sink.check()?;
        self.done.push(snapshot.clone());
        self.proved = self.rng.one_in(2).then(|| self.source.mark());
        Ok(())
    }
}

fn world(seed: u64, flaw: Flaw) -> Result<(), String> {
    let mut boxes = Boxes::new(seed);
    boxes.flaw = flaw;
    let days = boxes.rng.within(1, 3) as u8;
    for day in 1..=days {
        let snapshot = boxes.dataset.snapshot(&boxes.source, day, BRANCH);
        boxes.replicate(&snapshot)?;
        let edits = boxes.rng.below(12);
        let size = boxes.size;
        boxes.dataset.edit(&mut boxes.rng, size, edits);
    }
    Ok(())
}

#[test]
fn every_world_ends_in_equal_roots() {
    all_hold(seeds(1000), |seed| world(seed, Flaw::None));
}

/// The harness can see: a receiver that publishes before everything is there is found out.
#[test]
fn canary_a_hasty_receiver_is_found_out() {
    assert!((0..50).any(|seed| world(seed, Flaw::Hasty).is_err()));
}

/// The harness can see: a receiver that admits without verifying keeps damaged content, which the check finds.
#[test]
fn canary_a_credulous_receiver_is_found_out() {
    let damaged = |seed| {
        let mut boxes = Boxes::new(seed);
        boxes.flaw = Flaw::Credulous;
        let snapshot = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
        let mut objects = 0;
        let mut damage = |_, frame: narrowboat_wan::wire::Frame| {
            let mut bytes = [&frame.head[..], &frame.body[..]].concat();
            if !frame.body.is_empty() {
                objects += 1;
                if objects == 3 {
                    *bytes.last_mut().unwrap() ^= 1;
                }
            }
            vec![bytes]
        };
        let tamper: Tamper = &mut damage;
        let mut script = Script::honest(boxes.line, boxes.realm.id());
        script.flaw = boxes.flaw;
        script.tamper = Some(tamper);
        // It takes objects one by one.
        script.hellos[1].features_ignore = 0;
        boxes.attempt(&snapshot, script).is_err()
    };
    assert!((0..20).any(damaged));
}

/// The harness can see: its own check of a store notices a node without what it refers to.
#[test]
fn canary_an_incomplete_store_is_noticed() {
    let boxes = Boxes::new(3);
    let snapshot = boxes.dataset.snapshot(&boxes.source, 1, BRANCH);
    boxes.source.check().unwrap();
    let all = boxes.source.closure(snapshot.root);
    let (kind, name) = all.iter().find(|(kind, _)| *kind == Kind::Chunk).unwrap();
    boxes.source.withdraw(&(*kind, *name));
    assert!(boxes.source.check().is_err());
    let nonsense = Stored { codec: narrowboat_wan::sync::seam::Codec::Raw, raw_len: 1, bytes: vec![1].into() };
    boxes.sink.admit(*kind, name, nonsense).unwrap();
    assert!(boxes.sink.check().is_err());
}
