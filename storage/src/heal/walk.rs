//! The walk of a healing: depth first, one node open on each level.

use super::{Healing, Limits, Lost, Step, Tree, WAY_MAX, sound};
use crate::error::{Error, Result};
use crate::name::{Kind, Name};
use crate::pool::Stored;
use crate::store::Store;
use crate::tree;

/// A node that is being walked.
pub(super) struct Frame {
    kind: Kind,
    name: Name,
    /// What it refers to, repetitions included.
    below: Vec<(Kind, Name)>,
    /// The place that is next.
    next: usize,
    /// What came for it; stored when all below it is.
    came: Option<Stored>,
}

impl Tree {
    pub fn must_ask(&self, limits: &Limits) -> bool {
        !self.pending.is_empty() && (self.wanted || self.pending.len() >= limits.asks)
    }

    pub fn ask(&mut self, limits: &Limits) -> Step {
        let later = self.pending.split_off(self.pending.len().min(limits.asks.max(1)));
        let asked = std::mem::replace(&mut self.pending, later);
        self.wanted = self.wanted && !self.pending.is_empty();
        self.asked = asked.iter().rev().cloned().collect();
        Step::Ask(asked)
    }

    /// The way to what the node that is open last has at a place.
    fn way(&self, place: usize) -> Vec<u32> {
        let above = self.frames.iter().rev().skip(1).rev().map(|frame| frame.next.saturating_sub(1));
        above.chain([place]).map(|place| u32::try_from(place).unwrap_or(u32::MAX)).collect()
    }

    fn is_pending(&self, kind: Kind, name: &Name) -> bool {
        self.pending.iter().any(|lost| lost.kind == kind && lost.name == *name)
    }
}

impl Healing {
    /// Goes on by one node. False at the end of the tree.
    pub(super) fn visit(&mut self, store: &Store, tree: &mut Tree) -> Result<bool> {
        if !tree.begun {
            if self.is_over(store, tree)? || self.lacking.contains(&(Kind::MapNode, tree.root)) {
                return Ok(false);
            }
            return self.open(store, tree, Kind::MapNode, tree.root, Vec::new()).map(|()| true);
        }
        let Some(frame) = tree.frames.last_mut() else { return Ok(false) };
        while let Some((kind, name)) = frame.below.get(frame.next).copied() {
            if kind.is_node() && !self.seen.contains(&name.half()) && !self.lacking.contains(&(kind, name)) {
                let place = frame.next;
                let way = tree.way(place);
                self.open(store, tree, kind, name, way)?;
                return Ok(true);
            }
            frame.next += 1;
        }
        if frame.came.is_some() && !tree.pending.is_empty() {
            // What it refers to comes first.
            tree.wanted = true;
            return Ok(true);
        }
        let Some(frame) = tree.frames.pop() else { return Ok(false) };
        self.close(store, tree, &frame)?;
        Ok(!self.is_over(store, tree)?)
    }

    /// Opens a node, or asks for it: then this is called again for it.
    fn open(&mut self, store: &Store, tree: &mut Tree, kind: Kind, name: Name, way: Vec<u32>) -> Result<()> {
        let came = tree.came.remove(&name);
        let content = match &came {
            Some((_, content)) => Some(content.clone()),
            None if store.pool().is_wounded(kind, &name) => None,
            None => sound(store.pool().read_as_it_lies(kind, &name))?,
        };
        let Some(content) = content else {
            if way.len() > WAY_MAX {
                self.give_up(store, kind, name);
            } else {
                if !tree.is_pending(kind, &name) {
                    tree.pending.push(Lost { kind, name, way });
                }
                tree.wanted = true;
            }
            return Ok(());
        };
        let Ok(below) = tree::references(kind, &content) else {
            // Its bytes are what they were, and no node: nobody's are better.
            self.give_up(store, kind, name);
            return Ok(());
        };
        match tree.frames.last_mut() {
            Some(parent) => parent.next += 1,
            None => tree.begun = true,
        }
        let frame = Frame { kind, name, below, next: 0, came: came.map(|(stored, _)| stored) };
        tree.frames.push(frame);
        self.collect(store, tree)
    }

    /// What the node that was just opened refers to and is lost.
    fn collect(&mut self, store: &Store, tree: &mut Tree) -> Result<()> {
        let Some(frame) = tree.frames.last() else { return Ok(()) };
        let (pool, mut lost) = (store.pool(), Vec::new());
        // Below a node that lies here all is present; what is damaged of it is known, or found when it is read.
        let mut present = vec![true; frame.below.len()];
        if frame.came.is_some() {
            for kind in Kind::ALL {
                let places: Vec<_> = (0..frame.below.len()).filter(|place| frame.below[*place].0 == kind).collect();
                let names: Vec<_> = places.iter().map(|place| frame.below[*place].1).collect();
                for (place, found) in places.iter().zip(pool.contains_batch(kind, &names)?) {
                    present[*place] = found;
                }
            }
        }
        for (place, (kind, name)) in frame.below.iter().enumerate() {
            if present[place] && !pool.is_wounded(*kind, name) || self.lacking.contains(&(*kind, *name)) {
                continue;
            }
            if !tree.came.contains_key(name) && !tree.is_pending(*kind, name) {
                lost.push((place, *kind, *name));
            }
        }
        for (place, kind, name) in lost {
            let way = tree.way(place);
            if way.len() > WAY_MAX {
                self.give_up(store, kind, name);
            } else if !tree.is_pending(kind, &name) {
                tree.pending.push(Lost { kind, name, way });
            }
        }
        Ok(())
    }

    /// All below a node was walked.
    fn close(&mut self, store: &Store, tree: &mut Tree, frame: &Frame) -> Result<()> {
        if let Some(stored) = &frame.came {
            match self.store(store, tree.stream, frame.kind, &frame.name, stored) {
                Ok(()) => {}
                // Something below it is not to be had.
                Err(Error::Refused(_)) => self.give_up(store, frame.kind, frame.name),
                Err(error) => return Err(error),
            }
        }
        self.see(&frame.name);
        Ok(())
    }
}
