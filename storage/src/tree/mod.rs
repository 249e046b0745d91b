//! Stage 7: describing. Trees of content-addressed nodes: maps (keys to values) and sequences (contents).
//!
//! **Presence implies closure:** an object that [`Objects::contains`] has everything below it in the store, too. So a
//! node is put only after all that it names, and two equal roots mean two equal trees, whole.

mod builder;
pub mod map;
pub mod node;
pub mod testing;

/// A map value whose first byte is this names a content: what it names is below the map.
pub const CONTENT_TAG: u8 = 0xC0;

use bytes::Bytes;

use crate::error::Result;
use crate::name::{Kind, Name};

/// What trees need of the store below them: objects by name. Implemented by the pool (containers and index), and by
/// a plain map in tests.
pub trait Objects: Send + Sync {
    /// The bytes of an object, verified against its name. An object that is not there is damage: presence implies
    /// closure, so whoever holds a root may rely on everything below it.
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes>;
    /// Keeps an object and returns its name. Everything that `content` names must be present already.
    fn put(&self, kind: Kind, content: &[u8]) -> Result<Name>;
    /// True where the object is present, and so everything below it.
    fn contains(&self, kind: Kind, name: &Name) -> Result<bool>;
}
