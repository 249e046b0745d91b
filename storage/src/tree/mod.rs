//! Stage 7: describing. Trees of content-addressed nodes: maps (keys to values) and sequences (contents).
//!
//! **Presence implies closure:** an object that [`Objects::contains`] has everything below it in the store, too. So a
//! node is put only after all that it names, and two equal roots mean two equal trees, whole.

//!
//! * [`map`]: sorted keys to values. A dataset is one map.
//! * [`sequence`]: what is in a file or volume. A map value that begins with [`CONTENT_TAG`] is a content.
//! * [`verify_map`] and [`verify_content`]: whether a tree is the one that its entries give.
//! * [`references`] and [`walk`]: what an object names, for whoever sends, counts, checks or forgets objects.
//!
//! Both kinds of trees are built by one builder, level by level, and their node ends depend on what a node holds and
//! on nothing else. Nodes are never changed: a change makes new nodes along a path, and shares all others.
//!
//! Never here: where objects are kept, whether a chunk is known, what keys mean.

mod builder;
pub mod map;
pub mod node;
pub mod sequence;
pub mod testing;
mod verify;
mod walk;

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::name::{Kind, Name};

#[cfg(test)]
pub(crate) use verify::wrong;
pub use verify::{verify_content, verify_map};
pub use walk::{Span, references, spans, walk};

/// A map value whose first byte is this is a [`sequence::Content`]: what it names is below the map. No other value may
/// begin with it.
pub const CONTENT_TAG: u8 = 0xC0;

/// What trees need of the store below them: objects by name. Implemented by the pool (containers and index), and by
/// a plain map in tests.
pub trait Objects: Send + Sync {
    /// The bytes of an object, verified against its name. An object that is not there is damage: presence implies
    /// closure, so whoever holds a root may rely on everything below it.
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes>;
    /// A sequence node, read and decoded. A store that keeps decoded nodes at hand spares both.
    fn sequence_node(&self, name: &Name) -> Result<Arc<sequence::Node>> {
        let bytes = self.read(Kind::SequenceNode, name)?;
        sequence::Node::decode(&bytes).map(Arc::new).map_err(|fault| fault.of(Kind::SequenceNode, name))
    }
    /// A map node, read and decoded; likewise.
    fn map_node(&self, name: &Name) -> Result<Arc<map::Node>> {
        let bytes = self.read(Kind::MapNode, name)?;
        map::Node::decode(&bytes).map(Arc::new).map_err(|fault| fault.of(Kind::MapNode, name))
    }
    /// The bytes of several objects of one kind, in the order of their names, each as [`Objects::read`] gives it. For runs that
    /// lie together below, as the chunks of one content do.
    fn read_run(&self, kind: Kind, names: &[Name]) -> Result<Vec<Bytes>> {
        names.iter().map(|name| self.read(kind, name)).collect()
    }
    /// Keeps an object and returns its name. Everything that `content` names must be present already.
    fn put(&self, kind: Kind, content: &[u8]) -> Result<Name>;
    /// True where the object is present, and so everything below it.
    fn contains(&self, kind: Kind, name: &Name) -> Result<bool>;
}
