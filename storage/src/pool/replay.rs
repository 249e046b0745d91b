//! Admitting what containers hold that the index does not know: chunks first, then nodes, each only when everything
//! it refers to is present. Containers that were never sealed, or whose end is damaged, are searched slot by slot and
//! sealed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::sync::{Arc, PoisonError};

use crate::container::codec::Codec;
use crate::container::format::{Header, Slot};
use crate::container::reader::{Directory, Scan, Unread};
use crate::container::{Class, dir, path, reader};
use crate::error::{Damage, Environment, Error, Result, io_error};
use crate::id::ContainerId;
use crate::index::{Location, Record};
use crate::media::answers::{damage_or, unreadable};
use crate::media::{Media, MediaFile};
use crate::name::{Kind, Name};

use super::recover::{PoolReport, SET_ASIDE};
use super::{Inner, sync::record_of};

/// Admits what containers hold that the index does not know.
pub(super) struct Replay<'a> {
    inner: &'a Inner,
    report: &'a mut PoolReport,
    /// Nodes that wait for an object, by its name.
    waiting: HashMap<Name, Vec<(ContainerId, Slot)>>,
    /// Node containers, until it is known which of their nodes are admitted.
    undecided: BTreeMap<ContainerId, Record>,
    /// Some container could not be read whole this time.
    left: bool,
}

impl<'a> Replay<'a> {
    pub fn new(inner: &'a Inner, report: &'a mut PoolReport) -> Self {
        Replay { inner, report, waiting: HashMap::new(), undecided: BTreeMap::new(), left: false }
    }

    /// Admits what is in `containers`, which the index does not know.
    pub fn run(mut self, containers: &BTreeMap<ContainerId, Class>) -> Result<()> {
        self.report.replayed = containers.len() as u64;
        for class in Class::ALL {
            for (id, _) in containers.iter().filter(|(_, of)| **of == class) {
                self.container(*id, class)?;
            }
        }
        self.report.not_admitted = self.waiting.values().map(|nodes| nodes.len() as u64).sum();
        let mut undecided = std::mem::take(&mut self.undecided);
        if self.left {
            // What nodes wait for may be there another time: then they are to be looked at again.
            let waits: BTreeSet<ContainerId> = self.waiting.values().flatten().map(|(id, _)| *id).collect();
            undecided.retain(|id, _| !waits.contains(id));
        }
        self.inner.sealed.lock().unwrap_or_else(PoisonError::into_inner).extend(undecided);
        self.index_full_batches()?;
        Ok(())
    }

    fn container(&mut self, id: ContainerId, class: Class) -> Result<()> {
        let path = path(id, class);
        let opened = self.inner.media.open(&path).map_err(|error| io_error("open", &path, error));
        let found = opened.and_then(|file| self.slots(id, class, &path, &file));
        let found = damage_or(self.inner.media.as_ref(), found)?;
        let found = found.unwrap_or_else(|damage| {
            self.report.damage.push(damage);
            self.left = true;
            None
        });
        let Some((slots, record)) = found else { return Ok(()) };
        self.inner.counters.found(
            slots.iter().map(|slot| u64::from(slot.raw_len)).sum(),
            slots.iter().map(|slot| u64::from(slot.stored_len)).sum(),
        );
        match class {
            Class::Data => {
                for slot in slots.iter().filter(|slot| !slot.kind.is_node()) {
                    self.admit(id, slot)?;
                }
                let mut sealed = self.inner.sealed.lock().unwrap_or_else(PoisonError::into_inner);
                sealed.extend(record.map(|record| (id, record)));
                drop(sealed);
                self.index_full_batches()
            }
            Class::Node => {
                self.undecided.extend(record.map(|record| (id, record)));
                slots.iter().filter(|slot| slot.kind.is_node()).try_for_each(|slot| self.node(id, *slot))
            }
        }
    }

    /// Points a name to this copy of its object; of several, the last one that is sound counts. There are several where one was
    /// healed, or moved: containers do not tell which is the newer.
    fn admit(&mut self, id: ContainerId, slot: &Slot) -> Result<()> {
        let place = Location::of(id, slot);
        let inner = self.inner;
        let mut older = inner.recent.get(slot.kind, &slot.name);
        if older.is_none() && inner.index.filter().may_have(slot.name.prefix()) {
            older = inner.index.probe(&[slot.name])?[0];
        }
        if let Some(older) = older.filter(|older| *older != place) {
            if !inner.is_sound(&slot.name, &place) && inner.is_sound(&slot.name, &older) {
                inner.amend(id);
                return Ok(());
            }
            inner.amend(older.container);
        }
        inner.recent.point(&slot.name, place);
        Ok(())
    }

    /// Admits a node, and what waited for it, or lets it wait for the first thing that is missing.
    fn node(&mut self, id: ContainerId, slot: Slot) -> Result<()> {
        let mut ready = vec![(id, slot)];
        while let Some((id, slot)) = ready.pop() {
            match self.missing(id, &slot) {
                Ok(None) => {
                    self.admit(id, &slot)?;
                    ready.extend(self.waiting.remove(&slot.name).unwrap_or_default());
                }
                Ok(Some(missing)) => self.waiting.entry(missing).or_default().push((id, slot)),
                Err(Error::Environment(error)) => return Err(error.into()),
                Err(Error::Damage(damage)) => self.report.damage.push(damage),
                Err(Error::Refused(refusal)) => self.report.damage.push(Damage::new(
                    path(id, Class::Node),
                    slot.offset.into(),
                    "a well-formed node",
                    refusal,
                )),
            }
        }
        Ok(())
    }

    fn missing(&self, id: ContainerId, slot: &Slot) -> Result<Option<Name>> {
        let place = Location::of(id, slot);
        let (found, payload) = unreadable(self.inner.media.as_ref(), self.inner.fetch(&place))?;
        let content = self.inner.open_payload(&path(id, Class::Node), &found, payload)?;
        let references = (self.inner.options.references)(slot.kind, &content)?;
        Ok(self.inner.first_missing(references)?.map(|(_, name)| name))
    }

    fn index_full_batches(&mut self) -> Result<()> {
        loop {
            let (batch, enough) = self.inner.next_batch();
            if !enough {
                return Ok(());
            }
            self.inner.index_containers(batch)?;
        }
    }

    /// The slots of a container that are there, sealing it where it was not; none where it is no container of ours. The
    /// record is missing where it could not be sealed for want of room: it is served as it is, and looked at again.
    fn slots(
        &mut self,
        id: ContainerId,
        class: Class,
        path: &str,
        file: &Arc<dyn MediaFile>,
    ) -> Result<Option<(Vec<Slot>, Option<Record>)>> {
        let header = damage_or(self.inner.media.as_ref(), reader::read_header(file.as_ref(), path))?;
        let dense = header.as_ref().is_ok_and(|header| header.dense);
        let ours = Header { id, class, store: self.inner.store, realm: self.inner.realm.id(), dense };
        if let Ok(header) = &header
            && *header != ours
        {
            let (expected, found) = (format!("{ours:?}"), format!("{header:?}"));
            self.report.damage.push(Damage::new(path, 0, expected, found));
            return Ok(None);
        }
        match (&header, damage_or(self.inner.media.as_ref(), reader::read_directory(file.as_ref(), path, id))?) {
            (Ok(_), Ok(directory)) => {
                let record = self.seal_again(&ours, path, file, &directory)?;
                Ok(Some((directory.slots, record)))
            }
            (_, directory) => self.salvage(&ours, path, file, header.err(), directory.ok()),
        }
    }

    /// Makes the end of a sealed container safe, for whoever wrote it may have been killed before syncing it, or that sync
    /// failed: then the kernel may show it, think it clean, and never bring it to the disk. So it is written once more, from its
    /// beginning. What is before it was safe before it was written.
    fn seal_again(
        &self,
        ours: &Header,
        path: &str,
        file: &Arc<dyn MediaFile>,
        directory: &Directory,
    ) -> Result<Option<Record>> {
        let end = directory.footer.slots_end();
        // Hints, which nobody misses much: what can't be read is left out.
        let sketches = reader::read_sketches(file.as_ref(), path, &directory.footer).unwrap_or_default();
        file.set_len(end).map_err(|error| io_error("cut", path, error))?;
        let sealed = reader::seal_at(file.as_ref(), path, ours.id, &directory.slots, &sketches, end);
        sync(self.inner.media.as_ref(), ours.id, path, file)?;
        match sealed {
            Ok(footer) => Ok(Some(record_of(ours.class, ours.dense, &footer))),
            Err(Error::Environment(Environment::Full)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a sound, sealed container of one that has no sound header or end. `directory` is what its end says, where that is sound.
    fn salvage(
        &mut self,
        ours: &Header,
        path: &str,
        file: &Arc<dyn MediaFile>,
        header: Option<Damage>,
        directory: Option<Directory>,
    ) -> Result<Option<(Vec<Slot>, Option<Record>)>> {
        let len = file.len().map_err(|error| io_error("measure", path, error))?;
        let (scan, steady) = self.scan(path, file)?;
        if !steady || scan.unread.gave_up() || (scan.slots.is_empty() && scan.unread.sectors > 0) {
            return self.leave(ours, path, file, scan, directory);
        }
        if scan.slots.is_empty() {
            return self.nothing_in(ours, path, file, len);
        }
        // What was read may be nowhere but in memory yet; a footer may only vouch for what is safe.
        if write_again(file.as_ref(), path)?.sectors > scan.unread.sectors {
            return self.leave(ours, path, file, scan, directory);
        }
        let ours = &Header { dense: ours.dense || scan.slots.iter().any(|slot| slot.codec == Codec::Zstd), ..*ours };
        self.report.damage.extend(header.filter(|_| directory.is_some()));
        self.report.torn_bytes += scan.gap_bytes + len.saturating_sub(scan.end);
        // What could not be read is not written over, nor cut.
        let end = scan.end.max(scan.unread.until.min(len));
        sync(self.inner.media.as_ref(), ours.id, path, file)?;
        let sealed = file
            .write_at(&[IoSlice::new(&ours.encode())], 0)
            .map_err(|error| io_error("write", path, error))
            .and_then(|()| reader::seal_at(file.as_ref(), path, ours.id, &scan.slots, &scan.sketches, end));
        match sealed {
            Ok(footer) => {
                sync(self.inner.media.as_ref(), ours.id, path, file)?;
                self.report.sealed += 1;
                Ok(Some((scan.slots, Some(record_of(ours.class, ours.dense, &footer)))))
            }
            Err(Error::Environment(Environment::Full)) => Ok(Some((scan.slots, None))),
            Err(error) => Err(error),
        }
    }

    /// What is sound in a container. Where some of it can't be read, that is tried once more: what is left out when it is sealed is left out for
    /// good. False where the disk has but a bad moment: another time it could not read something else.
    fn scan(&self, path: &str, file: &Arc<dyn MediaFile>) -> Result<(Scan, bool)> {
        let name_of = |kind: Kind, content: &[u8]| self.inner.realm.name(kind, content);
        let first = reader::scan(file.as_ref(), path, &name_of)?;
        if first.unread == Unread::default() {
            return Ok((first, true));
        }
        let again = reader::scan(file.as_ref(), path, &name_of)?;
        let steady = (first.unread, &first.slots) == (again.unread, &again.slots);
        let steady = steady || again.unread == Unread::default();
        Ok((again, steady))
    }

    /// Serves a container too much of which can't be read as it is, and writes nothing to it: sound objects may lie in there. The next
    /// opening looks again, unless its end told all that there is.
    fn leave(
        &mut self,
        ours: &Header,
        path: &str,
        file: &Arc<dyn MediaFile>,
        scan: Scan,
        directory: Option<Directory>,
    ) -> Result<Option<(Vec<Slot>, Option<Record>)>> {
        let found = match scan.unread.gave_up() {
            true => "too many sectors that can't be read",
            false => "sectors that can't be read",
        };
        self.report.damage.push(Damage::new(path, scan.unread.until, "bytes that can be read", found));
        sync(self.inner.media.as_ref(), ours.id, path, file)?;
        Ok(Some(match directory {
            Some(directory) => {
                let record = record_of(ours.class, ours.dense, &directory.footer);
                (directory.slots, Some(record))
            }
            None => {
                self.left = true;
                (scan.slots, None)
            }
        }))
    }

    /// A container without a single whole object: a creation that a crash interrupted is removed, anything else is set
    /// aside under another name.
    fn nothing_in(
        &mut self,
        ours: &Header,
        path: &str,
        file: &Arc<dyn MediaFile>,
        len: u64,
    ) -> Result<Option<(Vec<Slot>, Option<Record>)>> {
        let media = self.inner.media.as_ref();
        let is_only = |dense| is_only_header(file.as_ref(), &Header { dense, ..*ours }.encode(), len).unwrap_or(false);
        if is_only(false) || is_only(true) {
            media.remove(path).map_err(|error| io_error("remove", path, error))?;
            self.report.removed += 1;
        } else {
            // Most likely the first bytes that were written to it, torn by a power cut before any sync. Nobody can tell
            // that from a container harmed beyond recognition, so it is kept for a person to look at.
            let aside = format!("{path}{SET_ASIDE}");
            media.rename(path, &aside).map_err(|error| io_error("rename", path, error))?;
            self.report.set_aside += 1;
            self.inner.aside.lock().unwrap_or_else(PoisonError::into_inner).insert(aside, len);
        }
        let dir = dir(ours.id);
        media.sync_dir(&dir).map_err(|error| io_error("sync", &dir, error))?;
        Ok(None)
    }
}

/// True where a file holds nothing but (a part of) its header and zeros.
fn is_only_header(file: &dyn MediaFile, header: &[u8], len: u64) -> io::Result<bool> {
    let mut window = vec![0; 64 << 10];
    let mut at = 0;
    while at < len {
        let got = file.read_at(&mut window, at)?;
        if got == 0 {
            break;
        }
        let sound = |(nth, byte): (usize, &u8)| {
            *byte == 0 || usize::try_from(at).ok().and_then(|at| header.get(at + nth)) == Some(byte)
        };
        if !window[..got].iter().enumerate().all(sound) {
            return Ok(false);
        }
        at += got as u64;
    }
    Ok(true)
}

/// Writes once more what is there: after a sync that failed the kernel may show bytes that are not on the disk and
/// think them clean, so that no later sync would bring them there. Returns what could not be read.
fn write_again(file: &dyn MediaFile, path: &str) -> Result<Unread> {
    let len = file.len().map_err(|error| io_error("measure", path, error))?;
    let mut unread = Unread::default();
    reader::each_readable(file, 0..len, 1 << 20, &mut unread, &mut |at, bytes| {
        match file.write_at(&[IoSlice::new(bytes)], at).map_err(|error| io_error("write", path, error)) {
            // A file system that never writes in place has no room for it: what is there is all there is.
            Ok(()) | Err(Error::Environment(Environment::Full)) => Ok(Some(at + bytes.len() as u64)),
            Err(error) => Err(error),
        }
    })?;
    Ok(unread)
}

fn sync(media: &dyn Media, id: ContainerId, path: &str, file: &Arc<dyn MediaFile>) -> Result<()> {
    file.sync().map_err(|error| io_error("sync", path, error))?;
    let dir = dir(id);
    media.sync_dir(&dir).map_err(|error| io_error("sync", &dir, error))
}
