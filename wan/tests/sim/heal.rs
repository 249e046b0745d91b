//! Healing between two real stores on simulated disks, over the conversation alone: either side heals the other, a line that is cut anywhere
//! costs nothing, and a peer that lies, or may not, gives and gets nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DeletedBy, SnapshotRow};
use narrowboat_storage::container::{Class, path};
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::Kind;
use narrowboat_storage::pool::Stored;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::heal::{
    Answerer, Asked, Asker, Below, Entitled, Healer, Heard, Need, Patient, StoreHealer, StorePatient,
};
use narrowboat_wan::sync::Failure;
use narrowboat_wan::sync::seam::Hello;
use narrowboat_wan::wire::{Channel, Frame, FrameDecoder, RawFrame, Role};

use crate::common::rng::Rng;
use crate::common::seeds;
use crate::line::Line;
use crate::real::{Branch, attempt, contents, open, script};
use crate::seeds::all_hold;

/// A line that carries so many frames and then breaks.
struct Wire {
    left: usize,
    there: VecDeque<RawFrame>,
    back: VecDeque<RawFrame>,
}

impl Wire {
    fn raw(&mut self, frame: Frame, channel: Channel) -> Result<RawFrame, Failure> {
        self.left = self.left.checked_sub(1).ok_or(Failure::Lost)?;
        let bytes = [&frame.head[..], &frame.body[..]].concat();
        Ok(FrameDecoder::new(channel).next(&mut &bytes[..])?.expect("a whole frame"))
    }

    fn ask(&mut self, frame: Frame) -> Result<(), Failure> {
        let frame = self.raw(frame, Channel::Control)?;
        self.there.push_back(frame);
        Ok(())
    }

    fn answer(&mut self, frame: Frame) -> Result<(), Failure> {
        let frame = self.raw(frame, Channel::Data)?;
        self.back.push_back(frame);
        Ok(())
    }
}

/// Carries a conversation to its end, or until so many frames were said.
fn converse(
    here: &Store,
    patient: &dyn Patient,
    there: &Store,
    healer: &dyn Healer,
    frames: usize,
) -> Result<(), Failure> {
    let hello = |store: &Store| Hello::new(Role::Sender, store.realm().id(), store.id());
    let mut wire = Wire { left: frames, there: VecDeque::new(), back: VecDeque::new() };
    let ((mut asker, first), (mut answerer, second)) = (Asker::new(hello(here)), Answerer::new(hello(there)));
    let outcome = (|| {
        wire.ask(first)?;
        wire.answer(second)?;
        loop {
            while let Some(frame) = wire.there.pop_front() {
                match answerer.handle(frame)? {
                    Asked::Nothing => {}
                    Asked::Below(below) => {
                        let known = healer.may(&below).map_err(Failure::Store)?;
                        wire.answer(answerer.known(known))?;
                    }
                    Asked::Seek { root, first, ways } => {
                        for (number, way) in (first..).zip(ways) {
                            let stored = healer.at(&root, &way).map_err(Failure::NotAllowed)?;
                            wire.answer(Answerer::answer(number, stored))?;
                        }
                    }
                }
            }
            while let Some(frame) = wire.back.pop_front() {
                match asker.handle(frame)? {
                    Heard::Nothing => {}
                    Heard::Known(known) => patient.known(known).map_err(Failure::Store)?,
                    Heard::Answer(stored) => {
                        patient.took(stored).map_err(|error| Failure::WrongContent(error.to_string()))?;
                    }
                }
            }
            if asker.waits() {
                continue;
            }
            match patient.next().map_err(Failure::Store)? {
                Need::Moment => {}
                Need::Below(below) => wire.ask(asker.below(below))?,
                Need::Seek(ways) => wire.ask(asker.seek(ways))?,
                Need::Nothing => return Ok(()),
            }
        }
    })();
    patient.end().map_err(Failure::Store)?;
    outcome
}

fn anybody() -> Entitled {
    Box::new(|_, _| true)
}

fn candidates(store: &Store) -> Vec<Below> {
    let below = |row: SnapshotRow| {
        let root = row.sealed?.root?;
        Some(Below { dataset: row.dataset, snapshot: row.id, root })
    };
    store.snapshots(None).into_iter().rev().filter_map(below).collect()
}

/// Two stores, with what was replicated from the first to the second.
struct Pair {
    branch: Branch,
    disk: SimDisk,
    there: Arc<Store>,
    there_disk: SimDisk,
    days: Vec<SnapshotId>,
}

fn pair(rng: &mut Rng) -> Pair {
    let disk = SimDisk::new(rng.next());
    let mut branch = Branch::on(rng, &disk);
    let there_disk = SimDisk::new(rng.next());
    let there = open(&there_disk);
    let line = Line { segment_bytes: 4000, bits_per_second: 50_000_000, ..Line::random(rng) };
    let mut days = Vec::new();
    for day in 1..=3 {
        let what = branch.snapshot(day);
        let script = script(line, &branch.store, &there);
        attempt(&branch, &there, &what, script, rng.next()).expect("a line").sender.0.expect("published");
        days.push(what.snapshot.snapshot);
        branch.edit(rng);
    }
    // All of it in sealed containers, as after some days.
    branch.store.pool().scrub(None, 1).expect("a disk");
    there.pool().scrub(None, 1).expect("a disk");
    Pair { branch, disk, there, there_disk, days }
}

fn slots(store: &Store) -> Vec<(Kind, String, u64)> {
    let mut found = Vec::new();
    store.pool().for_each_slot(|id, slot| {
        found.push((slot.kind, path(id, Class::of(slot.kind)), u64::from(slot.offset)));
    });
    found
}

/// Harms some objects, or some containers whole.
fn harm(rng: &mut Rng, store: &Store, disk: &SimDisk) {
    let slots = slots(store);
    for _ in 0..rng.within(1, 12) {
        let (_, file, offset) = &slots[rng.below(slots.len() as u64) as usize];
        disk.rot(file, offset + 80, 1).expect("there");
    }
    if rng.one_in(3) {
        let (_, file, _) = &slots[rng.below(slots.len() as u64) as usize];
        disk.lose(file).expect("there");
    }
    store.pool().scrub(None, u64::MAX).expect("a disk");
    assert!(store.pool().wounded() > 0);
}

fn world(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let pair = pair(&mut rng);
    let (branch, there) = (&pair.branch.store, &pair.there);
    let sides = [(there, &pair.there_disk, branch), (branch, &pair.disk, there)];
    let (hurt, disk, whole) = sides[rng.below(2) as usize];
    harm(&mut rng, hurt, disk);
    let shared = candidates(hurt).into_iter().filter(|below| pair.days.contains(&below.snapshot)).collect::<Vec<_>>();
    let (mut healed, mut broken_off) = (0, None::<StorePatient>);
    for attempt in 0.. {
        let patient = match broken_off.take().filter(|_| !rng.one_in(3)) {
            Some(patient) => {
                patient.again();
                patient
            }
            None => StorePatient::new(hurt.clone(), shared.clone()),
        };
        let before = patient.healed().0;
        let healer = StoreHealer::new(whole.clone(), anybody());
        // Cut anywhere; and in the end not.
        let frames = if attempt < 4 { rng.below(40) as usize } else { usize::MAX };
        let outcome = converse(hurt, &patient, whole, &healer, frames);
        healed += patient.healed().0 - before;
        match outcome {
            Ok(()) => break,
            Err(Failure::Lost) if frames < usize::MAX => broken_off = Some(patient),
            Err(failure) => return Err(failure.to_string()),
        }
    }
    // What no snapshot of both has is nobody's but the one's.
    let left = hurt.pool().wounds();
    let report = hurt.pool().check(true, |_| true).map_err(|error| error.to_string())?;
    if healed == 0 && left.is_empty() || report.is_sound() != left.is_empty() {
        return Err(format!("{healed} healed, {left:?} left: {report:?}"));
    }
    for day in &pair.days {
        let trees = [hurt, whole].map(|store| store.snapshot_tree(*day).map(|tree| contents(&*tree)));
        let [Ok(here), Ok(there)] = trees else { return Err(format!("{day} can't be read")) };
        if here != there {
            return Err(format!("{day} differs"));
        }
    }
    Ok(())
}

#[test]
fn either_side_heals_the_other_through_cuts() {
    all_hold(seeds(25), world);
}

/// What was asked and not answered is asked again, and first; what the peer does not give any more is left.
#[test]
fn a_walk_that_was_broken_off_goes_on_where_it_was() {
    let mut rng = Rng::new(93);
    let pair = pair(&mut rng);
    let (hurt, whole) = (&pair.there, &pair.branch.store);
    while hurt.pool().wounded() < 5 {
        harm(&mut rng, hurt, &pair.there_disk);
    }
    let (patient, healer) =
        (StorePatient::new(hurt.clone(), candidates(hurt)), StoreHealer::new(whole.clone(), anybody()));
    let ask = |patient: &StorePatient| loop {
        match patient.next().expect("a disk") {
            Need::Moment => {}
            Need::Below(below) => patient.known(healer.may(&below).expect("a disk")).expect("a disk"),
            need => return need,
        }
    };
    let Need::Seek(asked) = ask(&patient) else { panic!("nothing is asked for") };
    patient.end().expect("a disk");
    patient.again();
    let Need::Below(walked) = patient.next().expect("a disk") else { panic!("the peer has to be asked") };
    patient.known(healer.may(&walked).expect("a disk")).expect("a disk");
    assert_eq!(patient.next().expect("a disk"), Need::Seek(asked));
    patient.again();
    assert_eq!(patient.next().expect("a disk"), Need::Below(walked));
    patient.known(false).expect("a disk");
    assert!(!matches!(patient.next().expect("a disk"), Need::Seek(_)), "that tree is left");
    converse(hurt, &StorePatient::new(hurt.clone(), candidates(hurt)), whole, &healer, usize::MAX).expect("healed");
}

/// Gives other bytes than what was asked for; or bytes without end; or nothing.
struct Liar {
    honest: StoreHealer,
    lie: Option<Stored>,
}

impl Healer for Liar {
    fn may(&self, below: &Below) -> narrowboat_storage::Result<bool> {
        self.honest.may(below)
    }
    fn at(&self, root: &narrowboat_storage::name::Name, way: &[u32]) -> narrowboat_storage::Result<Option<Stored>> {
        Ok(self.honest.at(root, way)?.and(self.lie.clone()))
    }
}

#[test]
fn a_liar_heals_nothing_and_is_told_from_one_that_has_nothing() {
    let mut rng = Rng::new(91);
    let pair = pair(&mut rng);
    let (hurt, whole) = (&pair.there, &pair.branch.store);
    harm(&mut rng, hurt, &pair.there_disk);
    let before = hurt.pool().wounded();
    let honest = || StoreHealer::new(whole.clone(), anybody());
    let codec = narrowboat_storage::container::codec::Codec::Lz4;
    for lie in [vec![], vec![0; 100], vec![255; 4 << 20]] {
        let lie = Stored { codec, raw_len: 4 << 20, bytes: Bytes::from(lie) };
        let patient = StorePatient::new(hurt.clone(), candidates(hurt));
        let liar = Liar { honest: honest(), lie: Some(lie) };
        let outcome = converse(hurt, &patient, whole, &liar, usize::MAX);
        assert!(outcome.as_ref().is_err_and(Failure::is_refusal), "{outcome:?}");
        assert_eq!((hurt.pool().wounded(), patient.healed().0), (before, 0));
    }
    let patient = StorePatient::new(hurt.clone(), candidates(hurt));
    converse(hurt, &patient, whole, &Liar { honest: honest(), lie: None }, usize::MAX).expect("nobody's fault");
    assert_eq!((hurt.pool().wounded(), patient.healed().0), (before, 0));
}

/// What a peer did not acknowledge it gets nothing of, whatever it knows the names of; nor by a way that leads out of its tree.
#[test]
fn who_may_not_gets_nothing() {
    let mut rng = Rng::new(92);
    let pair = pair(&mut rng);
    let whole = pair.branch.store.clone();
    let secret = pair.days[0];
    let healer = StoreHealer::new(whole.clone(), Box::new(move |_, row| row.id != secret));
    let all = candidates(&whole);
    let of = |id| *all.iter().find(|below| below.snapshot == id).expect("there");
    assert!(healer.may(&of(pair.days[1])).expect("a disk"));
    assert!(!healer.may(&of(secret)).expect("a disk"));
    // A root under the name of another snapshot, or dataset, is none of its own.
    let (mine, theirs) = (of(pair.days[1]), of(secret));
    assert!(!healer.may(&Below { root: theirs.root, ..mine }).expect("a disk"));
    assert!(!healer.may(&Below { dataset: Default::default(), ..mine }).expect("a disk"));
    assert!(!healer.may(&Below { snapshot: SnapshotId([9; 16]), ..mine }).expect("a disk"));
    assert!(healer.at(&mine.root, &[60_000]).is_err());
    whole.delete_snapshot_by_id(mine.snapshot, DeletedBy::Person, Timestamp(1 << 40)).expect("deleted");
    assert!(!healer.may(&mine).expect("a disk"), "what is deleted is gone");
}
