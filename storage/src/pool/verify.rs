//! Reading all that lies in containers, front to back: the engine that checks and scrubs share.
//!
//! What lies together is read together, a MiB at once, and each object is verified against its name and, where it is a node, for what
//! it refers to. Whatever is odd about one is looked at once more, alone: that says what is wrong and where, and remembers it as a wound.
//!
//! A container is the piece that a step takes, and several threads may take them: each needs buffers for a MiB of container and for one
//! object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::container::format::{SLOT_BYTES, Slot};
use crate::container::{Class, codec, path, reader};
use crate::error::{Damage, Result};
use crate::id::ContainerId;
use crate::index::{INDEX_FILE, Location, Record};
use crate::media::MediaFile;
use crate::media::answers::unreadable;
use crate::name::Name;

use super::check::noted;
use super::condemn::Checking;
use super::run::RUN_BYTES_MAX;
use super::{CheckReport, Inner, Pool, Progress};

/// Names that are looked up in the index together.
const NAMES_TOGETHER: usize = 256;

/// A check of all containers that were there when it began. Any number of threads may take steps at once.
pub struct Verifying {
    pool: Pool,
    deep: bool,
    /// All of them, for the comparison with the index.
    containers: BTreeMap<ContainerId, Record>,
    /// The order in which they are looked at: those of nodes first.
    order: Vec<ContainerId>,
    /// Containers of nodes that were not looked at to their end.
    nodes_left: AtomicUsize,
    state: Mutex<State>,
    _stays: Checking,
}

#[derive(Default)]
struct State {
    /// How many of them were taken.
    taken: usize,
    report: CheckReport,
    /// Entries of the index that lead to objects that were found.
    matched: u64,
    /// Containers whose own directory can't be had.
    headless: BTreeSet<ContainerId>,
}

impl Pool {
    /// Begins a check of headers and directories of all containers against the index, both ways. With `deep`, it also reads every
    /// object, verifies it against its name, and sees whether everything that nodes refer to is present. Open containers are sealed
    /// first. Puts and reads go on meanwhile; what is put during the check is not part of it.
    pub fn verify(&self, deep: bool) -> Result<Verifying> {
        let inner = &*self.0;
        let stays = self.checking();
        inner.settle_all()?;
        let mut state = State::default();
        if noted(inner.index.check(), &mut state.report)? == Some(false) {
            state.report.add(Damage::new(INDEX_FILE, 0, "sound pages", "pages that had to be repaired"));
        }
        let containers = inner.indexed.read().unwrap_or_else(PoisonError::into_inner).clone();
        state.report.progress.containers_total = containers.len() as u64;
        let is_data = |id: &ContainerId| containers[id].class == Class::Data;
        let mut order: Vec<ContainerId> = containers.keys().copied().collect();
        order.sort_by_key(is_data);
        let nodes_left = AtomicUsize::new(order.partition_point(|id| !is_data(id)));
        Ok(Verifying {
            pool: self.clone(),
            deep,
            containers,
            order,
            nodes_left,
            state: Mutex::new(state),
            _stays: stays,
        })
    }
}

impl Verifying {
    /// Looks at one container that nobody looked at; false where there is none left. Damage is collected; only what the machine can't do
    /// is an error.
    pub fn step(&self) -> Result<bool> {
        let Some((id, record)) = self.take() else { return Ok(false) };
        let (inner, mut report) = (&*self.pool.0, CheckReport::default());
        let matched = inner.check_container(id, &record, self.deep, &mut report)?;
        let mut state = self.lock();
        match matched {
            Some(matched) => state.matched += matched,
            None => drop(state.headless.insert(id)),
        }
        report.progress.containers = 1;
        state.report.append(report);
        if record.class != Class::Data {
            self.nodes_left.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(true)
    }

    /// True once every container of nodes was looked at.
    pub fn nodes_are_read(&self) -> bool {
        self.nodes_left.load(Ordering::Acquire) == 0
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.lock().report.progress
    }

    /// Ends it: looks at the index from the other side, where all containers were looked at.
    pub fn end(self) -> Result<CheckReport> {
        let inner = &*self.pool.0;
        let State { mut report, mut matched, headless, .. } =
            self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !headless.is_empty() {
            matched += inner.check_by_index(&headless, self.deep, &mut report)?;
        }
        if report.progress.containers == report.progress.containers_total {
            inner.check_entries(&self.containers, matched, &mut report)?;
        }
        Ok(report)
    }

    fn take(&self) -> Option<(ContainerId, Record)> {
        let mut state = self.lock();
        let id = *self.order.get(state.taken)?;
        state.taken += 1;
        Some((id, *self.containers.get(&id)?))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Checks one container; returns how many entries of the index lead to it. Nothing where its own directory can't be had: then only the
    /// index knows what lies there ([`Inner::check_by_index`]).
    pub(super) fn check_container(
        &self,
        id: ContainerId,
        record: &Record,
        deep: bool,
        report: &mut CheckReport,
    ) -> Result<Option<u64>> {
        let path = path(id, record.class);
        let opened =
            self.note_worn(id, unreadable(self.media.as_ref(), self.open_container(id, record, &path, report)));
        let Some((file, slots)) = noted(opened, report)? else { return Ok(None) };
        if slots.len() != record.slots as usize {
            report.add(Damage::new(&path, 0, format!("{} slots", record.slots), slots.len()));
        }
        let mut matched = 0;
        for together in slots.chunks(NAMES_TOGETHER) {
            let names: Vec<_> = together.iter().map(|slot| slot.name).collect();
            let Some(places) = noted(self.index.probe(&names), report)? else { continue };
            let mut due = Vec::with_capacity(together.len());
            for (slot, place) in together.iter().zip(places) {
                if place == Some(Location::of(id, slot)) {
                    matched += 1;
                    match self.recent.get(slot.kind, &slot.name) {
                        // It lies elsewhere, soundly: healed or moved, and the index is not told yet.
                        Some(_) => report.spare += 1,
                        None => due.push(slot),
                    }
                } else if record.complete && place.is_none() {
                    let expected = format!("an entry for {} in {path} at {}", slot.name, slot.offset);
                    report.add(Damage::new(INDEX_FILE, 0, expected, "none"));
                } else {
                    report.spare += 1;
                }
                report.progress.objects += 1;
                report.progress.bytes += if deep { slot.total_bytes() } else { 0 };
            }
            if deep {
                self.check_objects(id, file.as_ref(), &path, &due, report)?;
            }
        }
        Ok(Some(matched))
    }

    fn open_container(
        &self,
        id: ContainerId,
        record: &Record,
        path: &str,
        report: &mut CheckReport,
    ) -> Result<(std::sync::Arc<dyn MediaFile>, Vec<Slot>)> {
        let file = self.files.open(self.media.as_ref(), id, record.class)?;
        let header = reader::read_header(file.as_ref(), path)?;
        if (header.id, header.class, header.store) != (id, record.class, self.store) {
            let expected = format!("container {id} of store {}", self.store);
            return Err(Damage::new(path, 0, expected, format!("{header:?}")).into());
        }
        let directory = reader::read_directory(file.as_ref(), path, id)?;
        let sketches = unreadable(self.media.as_ref(), reader::read_sketches(file.as_ref(), path, &directory.footer));
        noted(self.note_worn(id, sketches), report)?;
        Ok((file, directory.slots))
    }

    /// Reads and verifies objects of one container, in the order in which they lie.
    fn check_objects(
        &self,
        id: ContainerId,
        file: &dyn MediaFile,
        path: &str,
        slots: &[&Slot],
        report: &mut CheckReport,
    ) -> Result<()> {
        let (mut stored, mut content) = (self.scratch.take(), self.scratch.take());
        let mut rest = slots;
        while !rest.is_empty() {
            let (run, behind) = rest.split_at(run_of(rest));
            rest = behind;
            let (first, end) = (u64::from(run[0].offset), run[run.len() - 1].end());
            let len = (end - first) as usize;
            if stored.len() < len {
                stored.resize(len, 0);
            }
            let got = file.read_at(&mut stored[..len], first).unwrap_or(0);
            for slot in run {
                let from = (u64::from(slot.offset) - first) as usize;
                let bytes = stored[..got].get(from..from + slot.total_bytes() as usize);
                if !bytes.is_some_and(|bytes| self.is_whole(path, slot, bytes, &mut content)) {
                    noted(self.check_object(&Location::of(id, slot), slot), report)?;
                }
            }
        }
        self.scratch.give_back(stored);
        self.scratch.give_back(content);
        Ok(())
    }

    /// True where these bytes are the slot with its object, and all that the object refers to is present.
    fn is_whole(&self, path: &str, slot: &Slot, bytes: &[u8], content: &mut Vec<u8>) -> bool {
        if reader::check_slot(path, slot.offset, slot.stored_len, bytes).ok().as_ref() != Some(slot) {
            return false;
        }
        let Ok(content) = codec::decompress_in(slot.codec, slot.raw_len as usize, &bytes[SLOT_BYTES..], content) else {
            return false;
        };
        if self.realm.name(slot.kind, content) != slot.name {
            return false;
        }
        let references = || (self.options.references)(slot.kind, content);
        !slot.kind.is_node() || references().is_ok_and(|all| matches!(self.first_missing(all), Ok(None)))
    }

    /// Checks what the index says to lie in containers whose own directories can't be had; returns how many entries lead there.
    pub(super) fn check_by_index(
        &self,
        containers: &BTreeSet<ContainerId>,
        deep: bool,
        report: &mut CheckReport,
    ) -> Result<u64> {
        let mut matched = 0;
        for first in 0..=u8::MAX {
            let mut rows: Vec<(Location, Name)> = Vec::new();
            let here = |name: &Name, place: Location| containers.contains(&place.container).then_some((place, *name));
            let scanned = self.index.scan(first, |name, place| rows.extend(place.and_then(|place| here(name, place))));
            noted(scanned, report)?;
            matched += rows.len() as u64;
            rows.sort_unstable_by_key(|(place, _)| (place.container, place.offset));
            for (place, name) in rows.iter().filter(|_| deep) {
                noted(self.read_from_disk(place.kind, name), report)?;
                report.progress.objects += 1;
                report.progress.bytes += SLOT_BYTES as u64 + u64::from(place.stored_len);
            }
        }
        Ok(matched)
    }

    fn check_object(&self, place: &Location, slot: &Slot) -> Result<()> {
        let file = path(place.container, Class::of(place.kind));
        let content = self.note_wound(slot.kind, &slot.name, place, self.open_slot(place, slot, &file))?;
        if !slot.kind.is_node() {
            return Ok(());
        }
        match self.first_missing((self.options.references)(slot.kind, &content)?)? {
            None => Ok(()),
            Some((kind, name)) => {
                Err(Damage::new(file, slot.offset.into(), format!("{kind:?} {name} below this node"), "nothing").into())
            }
        }
    }

    /// The object in a slot, which is as the directory says.
    fn open_slot(&self, place: &Location, slot: &Slot, file: &str) -> Result<Bytes> {
        let expected = format!("{slot:?}");
        match self.fetch(place) {
            Ok((found, payload)) if found == *slot => self.open_payload(file, slot, payload),
            Ok((found, _)) => Err(Damage::new(file, slot.offset.into(), expected, format!("{found:?}")).into()),
            Err(error) => Err(error),
        }
    }
}

/// How many slots at the front are read together: as long as they do not take more than one read brings, with what lies between them.
fn run_of(slots: &[&Slot]) -> usize {
    let first = slots.first().map_or(0, |slot| u64::from(slot.offset));
    let fits = |slot: &&&Slot| u64::from(slot.offset) >= first && slot.end() <= first + RUN_BYTES_MAX as u64;
    let fit = slots.iter().take_while(fits).count();
    fit.max(1)
}
