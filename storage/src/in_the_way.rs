//! Whose the nodes are that can't be read, so that reclaim may let nothing go: which datasets and snapshots have to be healed, or to go.
//!
//! Looks below every root that the catalogue has, each node once however many roots share it, but where there are more than
//! [`KNOWN_MAX`]. Nobody asks while all is sound.

use std::collections::{BTreeSet, HashMap};

use crate::affected::paths_below;
use crate::error::{Refusal, Result};
use crate::name::{Kind, Name};
use crate::pool::{PoolStream, StreamId, Wound};
use crate::store::{KeptRoot, Store};
use crate::tree::{Objects, references};

/// Nodes that are remembered, at some 50 bytes each. Where there are more, some are looked at again.
const KNOWN_MAX: usize = 1 << 20;
/// Roots that are told one by one.
pub const IN_THE_WAY_MAX: usize = 100;
/// Of so many of them it is said which of their files are hit: that reads their trees once more.
const WITH_PATHS: usize = 10;
/// Files that are told of each.
const PATHS_MAX: usize = 10;

/// A root below which something can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTheWay {
    /// Whose it is, and what would let go of it.
    pub of: KeptRoot,
    /// Files that can't be read whole, some of them; a volume's is empty.
    pub paths: Vec<Vec<u8>>,
    /// True where part of the directory tree is lost, so that not all files can be named.
    pub torn: bool,
}

impl Store {
    /// The roots below which one of these nodes lies: what keeps reclaim from letting anything go, at most [`IN_THE_WAY_MAX`]. Empty where nothing
    /// but the journal, a history or somebody who reads names them. `stop` ends it.
    pub fn in_the_way(&self, obstacles: &[Wound], stop: &dyn Fn() -> bool) -> Result<Vec<InTheWay>> {
        let mut found = Vec::new();
        if obstacles.is_empty() {
            return Ok(found);
        }
        let objects = self.stages().pool.on(StreamId::MISC);
        let _in_use = self.stages().pool.in_use();
        let lost: BTreeSet<(Kind, Name)> = obstacles.iter().map(|wound| (wound.kind, wound.name)).collect();
        let mut look = Look { objects: &objects, lost: &lost, known: HashMap::new(), stop };
        for of in self.kept_roots() {
            if found.len() >= IN_THE_WAY_MAX {
                break;
            }
            if !look.is_hit(Kind::MapNode, of.root)? {
                continue;
            }
            let mut one = InTheWay { of, paths: Vec::new(), torn: false };
            if found.len() < WITH_PATHS {
                let hits = paths_below(&objects, &lost, one.of.root)?;
                one.torn = hits.contains(&None);
                one.paths = hits.into_iter().flatten().take(PATHS_MAX).collect();
            }
            found.push(one);
        }
        Ok(found)
    }
}

/// A look below roots, one after the other.
struct Look<'a> {
    objects: &'a PoolStream,
    lost: &'a BTreeSet<(Kind, Name)>,
    /// Which nodes have something lost below them, as far as that was looked at.
    known: HashMap<Name, bool>,
    stop: &'a dyn Fn() -> bool,
}

impl Look<'_> {
    /// True where a node is lost, or one below it. Trees are low, so it may call itself.
    fn is_hit(&mut self, kind: Kind, name: Name) -> Result<bool> {
        if let Some(known) = self.known.get(&name) {
            return Ok(*known);
        }
        if (self.stop)() {
            return Err(Refusal::Busy.into());
        }
        let hit = self.lost.contains(&(kind, name)) || self.is_hit_below(kind, &name)?;
        if self.known.len() < KNOWN_MAX {
            self.known.insert(name, hit);
        }
        Ok(hit)
    }

    fn is_hit_below(&mut self, kind: Kind, name: &Name) -> Result<bool> {
        let below = match self.objects.read(kind, name) {
            Ok(bytes) => references(kind, &bytes).map_err(|fault| fault.of(kind, name))?,
            Err(error) if error.is_of_one() => return Ok(true),
            Err(error) => return Err(error),
        };
        for (kind, name) in below.into_iter().filter(|(kind, _)| kind.is_node()) {
            if self.is_hit(kind, name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
