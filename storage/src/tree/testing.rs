//! For tests and benches of trees and of those who build on them: objects in memory, with a count of what was asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Objects;
use crate::error::{Damage, Result};
use crate::name::{Kind, Name, Realm};

/// How many cases a property test tries: `normally`, or what the environment variable `NARROWBOAT_SEEDS` says.
pub fn cases(normally: u32) -> u32 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(normally)
}

/// What was asked of [`TestObjects`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tree nodes read.
    pub node_reads: usize,
    /// Chunks read.
    pub chunk_reads: usize,
    /// Tree nodes put, known ones included.
    pub node_puts: usize,
    /// Chunks put, known ones included.
    pub chunk_puts: usize,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(Kind, Name), Bytes>,
    tally: Tally,
}

/// Objects in memory.
pub struct TestObjects {
    realm: Realm,
    state: Mutex<State>,
}

impl TestObjects {
    /// None yet, named in the published realm.
    pub fn new() -> Self {
        TestObjects { realm: Realm::published(), state: Mutex::default() }
    }
    /// The realm that names them.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }
    /// What was asked since the last call of this.
    pub fn take_tally(&self) -> Tally {
        std::mem::take(&mut self.state().tally)
    }
    /// How many different objects there are.
    pub fn count(&self) -> usize {
        self.state().objects.len()
    }
    /// Stores chunks, in the form in which `tree::sequence::splice` wants it.
    pub fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<Name>> {
        chunks.iter().map(|chunk| self.put(Kind::Chunk, chunk)).collect()
    }
    /// Makes an object disappear; true where it was there.
    pub fn forget(&self, kind: Kind, name: &Name) -> bool {
        self.state().objects.remove(&(kind, *name)).is_some()
    }
    /// Puts wrong bytes under a name.
    pub fn corrupt(&self, kind: Kind, name: &Name, bytes: Bytes) {
        self.state().objects.insert((kind, *name), bytes);
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TestObjects {
    fn default() -> Self {
        TestObjects::new()
    }
}

impl Objects for TestObjects {
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        let mut state = self.state();
        if kind.is_node() {
            state.tally.node_reads += 1;
        } else {
            state.tally.chunk_reads += 1;
        }
        let found = state.objects.get(&(kind, *name)).cloned();
        found.ok_or_else(|| Damage::new(format!("{kind:?} {name}"), 0, "an object", "none").into())
    }
    fn put(&self, kind: Kind, content: &[u8]) -> Result<Name> {
        let name = self.realm.name(kind, content);
        let mut state = self.state();
        if kind.is_node() {
            state.tally.node_puts += 1;
        } else {
            state.tally.chunk_puts += 1;
        }
        state.objects.entry((kind, name)).or_insert_with(|| Bytes::copy_from_slice(content));
        Ok(name)
    }
    fn contains(&self, kind: Kind, name: &Name) -> Result<bool> {
        Ok(self.state().objects.contains_key(&(kind, *name)))
    }
}

/// The bytes of the example called `title` in a format page: the hexadecimal digits of the code block that begins with
/// ` ```hex TITLE`, with anything behind a `#` left out.
pub fn hex_of_example(page: &str, title: &str) -> Vec<u8> {
    let fence = format!("```hex {title}\n");
    let Some((_, block)) = page.split_once(&fence) else { panic!("the page has no example {title:?}") };
    let digits: String = block
        .lines()
        .take_while(|line| !line.starts_with("```"))
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|digit| !digit.is_whitespace())
        .collect();
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    bytes.unwrap_or_else(|| panic!("the example {title:?} is not hexadecimal"))
}
