//! Proof that a table is a namespace: every promise of the module, looked at from every key.
//!
//! One pass in key order, in memory that does not grow with the share; of what differs little from a table that was checked, only what
//! differs. Only where the names and the link counts of some
//! inode disagree are there more passes, to find out which.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::entry::{Entry, Listed};
use super::inode::{Body, FIRST_COOKIE, Record};
use super::key::{self, Key};
use super::read::{read_link, target_pieces};
use super::rename::is_within;
use super::totals::{Totals, totals, totals_after};
use super::value::Place;
use super::{Component, View, damaged};
use crate::error::{Error, Result};
use crate::units::Inode;

/// Pairs that are read at a time.
const BATCH: usize = 1024;
/// Inodes whose names are counted in one pass, when one with a wrong count is looked for.
const WINDOW: u64 = 1 << 20;

/// Checks every promise of this module on a whole table and returns its totals. The first contradiction is returned as
/// damage. Contents are not looked at but for whose they are.
pub fn check(view: &dyn View) -> Result<Totals> {
    let mut pass = Pass { view, current: None, sums: Totals::default(), names: 0 };
    each_pair(view, |key, value| pass.pair(key, value))?;
    pass.leave()?;
    pass.end()
}

/// The same of the table `new`, where `old` was found sound and nothing differs between the two but the keys of the inodes `touched` and the
/// totals. Looks at these inodes alone, and at what their places in the tree depend on.
pub fn check_changed(old: &dyn View, new: &dyn View, mut touched: BTreeSet<Inode>) -> Result<Totals> {
    // Whoever moved, came, went or became something else counts where it was and where it is now.
    let mut parents = BTreeSet::new();
    for inode in &touched {
        let (before, now) = (parent_of(old, *inode)?, parent_of(new, *inode)?);
        if before != now {
            parents.extend(before.into_iter().chain(now));
        }
    }
    touched.append(&mut parents);
    let mut pass = Pass { view: new, current: None, sums: totals(old)?, names: 0 };
    for inode in &touched {
        pass.take_back(old, *inode)?;
    }
    for inode in &touched {
        let (from, to) = key::all_of(*inode);
        each_pair_within(new, from, &to, |key, value| pass.pair(key, value))?;
    }
    pass.leave()?;
    pass.end()
}

/// Whose key that is; nobody's where it is that of the totals.
pub fn owner_of(key: &[u8]) -> Result<Option<Inode>> {
    match Key::parse(key) {
        None => Err(stray(key)),
        Some(Key::Totals) => Ok(None),
        Some(
            Key::Record(inode)
            | Key::Content(inode)
            | Key::Entry(inode, _)
            | Key::Listed(inode, _)
            | Key::Target(inode, _),
        ) => Ok(Some(inode)),
    }
}

fn stray(key: &[u8]) -> Error {
    damaged("a key", "one of the layout, with an inode of its type", format_args!("{key:02x?}"))
}

/// The directory above, of a directory that is there.
fn parent_of(view: &dyn View, inode: Inode) -> Result<Option<Inode>> {
    let Some(value) = view.get(&Key::Record(inode).encode())? else { return Ok(None) };
    match Record::decode(inode, &value)?.body {
        Body::Directory { parent, .. } => Ok(Some(parent)),
        _ => Ok(None),
    }
}

/// Calls `visit` with every pair of the table, in key order.
fn each_pair(view: &dyn View, visit: impl FnMut(&[u8], &Bytes) -> Result<()>) -> Result<()> {
    // Longer than any key: behind them all.
    each_pair_within(view, Vec::new(), &[0xff; key::KEY_BYTES_MAX + 1], visit)
}

/// The same of the keys from `from` on and before `end`.
fn each_pair_within(
    view: &dyn View,
    mut from: Vec<u8>,
    end: &[u8],
    mut visit: impl FnMut(&[u8], &Bytes) -> Result<()>,
) -> Result<()> {
    loop {
        let pairs = view.range(&from, end, BATCH)?;
        for (key, value) in &pairs {
            visit(key, value)?;
        }
        let Some((last, _)) = pairs.last() else { return Ok(()) };
        from.clear();
        from.extend_from_slice(last);
        from.push(0);
    }
}

/// The state of the pass: the inode whose keys go by, and sums over all of them.
struct Pass<'a> {
    view: &'a dyn View,
    current: Option<Current>,
    sums: Totals,
    /// A sum over all inodes of (names that it has − names that it should have) × a number of its own: 0 where all are
    /// right, and by chance once in 2^64.
    names: u64,
}

struct Current {
    inode: Inode,
    record: Record,
    by_name: u64,
    by_cookie: u64,
    subdirectories: u64,
    pieces: u64,
}

impl Pass<'_> {
    /// What the sums come to.
    fn end(self) -> Result<Totals> {
        let Pass { view, sums, names, .. } = self;
        let noted = totals(view)?;
        if noted != sums {
            return Err(damaged(Place::Totals, format_args!("{sums:?}"), format_args!("{noted:?}")));
        }
        match Record::load_named(view, Inode::ROOT, Inode::ROOT)?.body {
            Body::Directory { parent: Inode::ROOT, .. } => {}
            body => return Err(damaged("inode 1", "the root, its own parent", format_args!("{body:?}"))),
        }
        if names != 0 { Err(miscounted(view)?) } else { Ok(sums) }
    }

    /// Takes out of the sums what an inode brought in in a table that is sound.
    fn take_back(&mut self, old: &dyn View, inode: Inode) -> Result<()> {
        let (from, to) = key::all_of(inode);
        each_pair_within(old, from, &to, |key, value| {
            match Key::parse(key) {
                Some(Key::Record(_)) => {
                    let record = Record::decode(inode, value)?;
                    self.names = self.names.wrapping_add(weight(inode).wrapping_mul(names_due(inode, &record)));
                    self.sums = totals_after(self.sums, Some(&record), None)?;
                }
                Some(Key::Entry(dir, _)) => {
                    self.names = self.names.wrapping_sub(weight(Entry::decode(dir, value)?.inode));
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn pair(&mut self, key: &[u8], value: &Bytes) -> Result<()> {
        let stray = || stray(key);
        match Key::parse(key).ok_or_else(stray)? {
            Key::Totals => return Ok(()),
            Key::Record(inode) => {
                self.leave()?;
                return self.enter(inode, Record::decode(inode, value)?);
            }
            key => {
                let (Key::Content(inode) | Key::Entry(inode, _) | Key::Listed(inode, _) | Key::Target(inode, _)) = key
                else {
                    return Err(stray());
                };
                let current = self.current.as_mut().filter(|current| current.inode == inode).ok_or_else(stray)?;
                match (key, &current.record.body) {
                    (Key::Content(_), Body::Regular { .. }) => {}
                    (Key::Entry(dir, name), Body::Directory { .. }) => {
                        let entry = Entry::decode(dir, value)?;
                        self.names = self.names.wrapping_add(weight(entry.inode));
                        current.entry(self.view, name, entry)?;
                    }
                    (Key::Listed(_, cookie), Body::Directory { next_cookie, .. }) => {
                        if !(FIRST_COOKIE..*next_cookie).contains(&cookie) {
                            return Err(damaged(
                                Place::Listed(inode),
                                format_args!("cookies below {next_cookie}"),
                                cookie,
                            ));
                        }
                        current.by_cookie += 1;
                    }
                    (Key::Target(_, piece), Body::Symlink { .. }) if piece < target_pieces(current.record.size) => {
                        current.pieces += 1;
                    }
                    _ => return Err(stray()),
                }
            }
        }
        Ok(())
    }

    /// The keys of an inode begin, with its record.
    fn enter(&mut self, inode: Inode, record: Record) -> Result<()> {
        self.names = self.names.wrapping_sub(weight(inode).wrapping_mul(names_due(inode, &record)));
        self.sums = totals_after(self.sums, None, Some(&record))?;
        if record.is_dir() && !is_within(self.view, inode, Inode::ROOT)? {
            return Err(damaged(Place::Record(inode), "the root above it", "a second root"));
        }
        self.current = Some(Current { inode, record, by_name: 0, by_cookie: 0, subdirectories: 0, pieces: 0 });
        Ok(())
    }

    /// All keys of the current inode have gone by.
    fn leave(&mut self) -> Result<()> {
        let Some(Current { inode, record, by_name, by_cookie, subdirectories, pieces }) = self.current.take() else {
            return Ok(());
        };
        if record.is_dir() {
            let expected = (record.size, record.size, u64::from(record.links));
            let found = (by_name, by_cookie, 2 + subdirectories);
            if expected != found {
                return Err(damaged(
                    Place::Record(inode),
                    format_args!("entries by name, by cookie, links: {expected:?}"),
                    format_args!("{found:?}"),
                ));
            }
        }
        if matches!(record.body, Body::Symlink { .. }) {
            read_link(self.view, inode)?;
            let expected = u64::from(target_pieces(record.size));
            if pieces != expected {
                return Err(damaged(Place::Target(inode), format_args!("{expected} pieces"), pieces));
            }
        }
        Ok(())
    }
}

impl Current {
    /// An entry of the current directory goes by: its file is there, and its listing says the same.
    fn entry(&mut self, view: &dyn View, name: &[u8], entry: Entry) -> Result<()> {
        let dir = self.inode;
        if !matches!(Component::parse(name), Ok(Component::Normal(_))) {
            return Err(damaged(Place::Entry(dir), "a file name", format_args!("{name:02x?}")));
        }
        let listed = match view.get(&Key::Listed(dir, entry.cookie).encode())? {
            Some(value) => Some(Listed::decode(dir, &value)?),
            None => None,
        };
        if listed.as_ref().is_none_or(|listed| listed.inode != entry.inode || listed.name != name) {
            return Err(damaged(Place::Entry(dir), format_args!("{entry:?} listed"), format_args!("{listed:?}")));
        }
        if let Body::Directory { parent, .. } = Record::load_named(view, dir, entry.inode)?.body {
            if parent != dir {
                return Err(damaged(Place::Record(entry.inode), format_args!("parent {dir}"), parent));
            }
            self.subdirectories += 1;
        }
        self.by_name += 1;
        Ok(())
    }
}

/// How many entries must name this inode.
fn names_due(inode: Inode, record: &Record) -> u64 {
    match record.body {
        Body::Directory { .. } => u64::from(inode != Inode::ROOT),
        _ => u64::from(record.links),
    }
}

/// A number of an inode's own, spread over 64 bits (the finaliser of splitmix64).
fn weight(inode: Inode) -> u64 {
    let mut bits = inode.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Some inode has more or fewer names than it should: counts them window by window until it is found.
fn miscounted(view: &dyn View) -> Result<Error> {
    let mut start = Some(1u64);
    while let Some(first) = start {
        let mut counts: BTreeMap<Inode, (u64, u64)> = BTreeMap::new();
        let mut next = None;
        each_pair(view, |key, value| {
            let (inode, due, found) = match Key::parse(key) {
                Some(Key::Record(inode)) => (inode, names_due(inode, &Record::decode(inode, value)?), 0),
                Some(Key::Entry(dir, _)) => (Entry::decode(dir, value)?.inode, 0, 1),
                _ => return Ok(()),
            };
            if inode.0 >= first && inode.0 - first < WINDOW {
                let count = counts.entry(inode).or_default();
                *count = (count.0 + due, count.1 + found);
            } else if inode.0 > first {
                next = Some(next.map_or(inode.0, |least: u64| least.min(inode.0)));
            }
            Ok(())
        })?;
        if let Some((inode, (due, found))) = counts.into_iter().find(|(_, (due, found))| due != found) {
            return Ok(damaged(Place::Record(inode), format_args!("{due} names"), found));
        }
        start = next;
    }
    Ok(damaged("the names", "as many as the link counts say", "another number, in a table that changes"))
}
