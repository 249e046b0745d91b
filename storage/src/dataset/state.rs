//! The layers of one dataset, and what a reader sees through them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::extents::Extent;
use super::layer::Layer;
use super::namespace::Key;
use super::stuck::Stuck;
use super::tails::Tails;
use crate::error::{Damage, Refusal, Result};
use crate::name::Name;
use crate::tree::Objects;
use crate::tree::map;
use crate::tree::sequence::Content;
use crate::units::{Inode, Lsn};

/// A root, and the last journal record that is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    pub root: Option<Name>,
    pub lsn: Lsn,
}

/// All layers of a dataset, from the newest changes down to the base root.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub active: Layer,
    /// Oldest first.
    pub frozen: VecDeque<Arc<Layer>>,
    pub base: Base,
    /// The number that the next new file gets. Never goes back.
    pub next_inode: u64,
    /// Files whose record in the active layer is newer than the one in the journal: bytes were written to them.
    pub unjournaled: BTreeSet<Inode>,
    /// Where writers of a volume stopped.
    pub tails: Tails,
    /// True while nobody may change anything, for a moment.
    pub held: bool,
    /// True while it is deleted and can be had back: it answers nothing, and what it has goes on as ever.
    pub withdrawn: bool,
    /// Why the layers can't be drained, if that was found out.
    pub stuck: Option<Stuck>,
    /// Why the dataset answers nothing, if it does not: then it has no layers.
    pub shut: Option<Shut>,
}

/// Why a dataset answers nothing.
#[derive(Clone, Debug)]
pub(crate) enum Shut {
    /// It was deleted: whoever still holds it gets nothing from it.
    Deleted,
    /// What the journal has behind its head could not be applied again. The journal keeps it all.
    Damaged(Damage),
}

/// One part of a range of a file, and where its bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Written since the base root.
    Written(Extent),
    /// In the content below the layers.
    Base { offset: u64, len: u64 },
    /// Nowhere.
    Zeros(u64),
}

/// Where the bytes of a range are, in order, and the content that the `Base` parts refer to.
#[derive(Debug)]
pub(crate) struct Plan {
    pub parts: Vec<Part>,
    pub base: Content,
}

impl State {
    /// Refused where the dataset answers nothing.
    pub fn refuse_if_shut(&self) -> Result<()> {
        if self.withdrawn {
            return Err(Refusal::Stale.into());
        }
        match &self.shut {
            None => Ok(()),
            Some(Shut::Deleted) => Err(Refusal::Stale.into()),
            Some(Shut::Damaged(damage)) => Err(damage.clone().into()),
        }
    }

    /// True where the journal has, or may have, what no root has.
    pub fn owes(&self) -> bool {
        let damaged = matches!(self.shut, Some(Shut::Damaged(_)));
        damaged || !self.active.is_empty() || !self.frozen.is_empty()
    }

    /// A state without layers.
    pub fn at(root: Option<Name>) -> Self {
        State { base: Base { root, lsn: Lsn(0) }, ..State::default() }
    }

    /// The layers, newest first.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev().map(Arc::as_ref))
    }

    /// The value of a key.
    pub fn get(&self, objects: &dyn Objects, key: &[u8]) -> Result<Option<Bytes>> {
        match self.layers().find_map(|layer| layer.edits.get(key)) {
            Some(value) => Ok(value.clone()),
            None => map::get(objects, self.base.root.as_ref(), key),
        }
    }

    /// Up to `limit` keys of `[from, to)` with their values, in order.
    pub fn range(&self, objects: &dyn Objects, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let bounds = || (std::ops::Bound::Included(from), std::ops::Bound::Excluded(to));
        let mut layers: Vec<_> = self.layers().map(|layer| layer.edits.range::<[u8], _>(bounds()).peekable()).collect();
        let mut base = map::range::<&[u8]>(objects, self.base.root.as_ref(), bounds()).peekable();
        let mut found = Vec::new();
        while found.len() < limit {
            let base_key = match base.peek() {
                Some(Ok((key, _))) => Some(key.clone()),
                Some(Err(_)) => None,
                None => None,
            };
            if let Some(Err(error)) = base.next_if(Result::is_err) {
                return Err(error);
            }
            let heads = layers.iter_mut().filter_map(|layer| layer.peek().map(|(key, _)| (*key).clone()));
            let Some(least) = heads.chain(base_key).min() else { break };
            // The newest layer that has the key decides; every source moves past it.
            let mut value = None;
            for layer in &mut layers {
                if let Some((_, edit)) = layer.next_if(|(key, _)| **key == least) {
                    value.get_or_insert_with(|| edit.clone());
                }
            }
            if let Some(Ok((_, old))) = base.next_if(|entry| entry.as_ref().is_ok_and(|(key, _)| *key == least)) {
                value.get_or_insert(Some(old));
            }
            if let Some(Some(value)) = value {
                found.push((least, value));
            }
        }
        Ok(found)
    }

    /// Where the bytes `[from, to)` of a file are.
    pub fn plan(&self, objects: &dyn Objects, inode: Inode, from: u64, to: u64) -> Result<Plan> {
        let mut parts = vec![(from, Part::Base { offset: from, len: to - from })];
        let mut base_limit = u64::MAX;
        for layer in self.layers() {
            let Some(extents) = layer.files.get(&inode) else { continue };
            let mut next = Vec::with_capacity(parts.len());
            for (start, part) in parts {
                match part {
                    Part::Base { len, .. } => {
                        split_gap(extents.range(start, start + len), start, start + len, &mut next)
                    }
                    other => next.push((start, other)),
                }
            }
            parts = next;
            base_limit = base_limit.min(extents.base_limit());
            parts = cut_off(parts, base_limit);
        }
        let base = match map::get(objects, self.base.root.as_ref(), &Key::Content(inode).encode())? {
            Some(value) if parts.iter().any(|(_, part)| matches!(part, Part::Base { .. })) => {
                content_of(inode, &value)?
            }
            _ => Content::empty(),
        };
        Ok(Plan { parts: cut_off(parts, base.len()).into_iter().map(|(_, part)| part).collect(), base })
    }
}

/// Reads a content value.
pub(crate) fn content_of(inode: Inode, value: &Bytes) -> Result<Content> {
    let damaged = |error| Damage::new("the content of a file", 0, format!("a content of inode {inode}"), error);
    Content::decode(value).map_err(|error| damaged(error).into())
}

/// Puts the extents of one layer into a gap; what they leave open stays a gap for the layer below.
fn split_gap(extents: impl Iterator<Item = (u64, Extent)>, from: u64, to: u64, parts: &mut Vec<(u64, Part)>) {
    let mut at = from;
    let gap = |start: u64, end: u64| (start, Part::Base { offset: start, len: end - start });
    for (offset, extent) in extents {
        if at < offset {
            parts.push(gap(at, offset));
        }
        at = offset + extent.len;
        parts.push((offset, Part::Written(extent)));
    }
    if at < to {
        parts.push(gap(at, to));
    }
}

/// Turns gaps beyond `limit` into zeros: what was cut off does not show again.
fn cut_off(parts: Vec<(u64, Part)>, limit: u64) -> Vec<(u64, Part)> {
    let mut result = Vec::with_capacity(parts.len());
    for (start, part) in parts {
        match part {
            Part::Base { len, .. } if start + len > limit => {
                let kept = limit.saturating_sub(start).min(len);
                if kept > 0 {
                    result.push((start, Part::Base { offset: start, len: kept }));
                }
                result.push((start + kept, Part::Zeros(len - kept)));
            }
            other => result.push((start, other)),
        }
    }
    result
}
