//! Stage 3: the pump, one step at a time: from layers to chunks, containers and trees.
//!
//! A step merges the oldest frozen layer of one dataset into its base root. Each file that was written to gets its new
//! content by splicing what was written into the old sequence tree; then all changed keys go into the map tree in one
//! merge. Only when everything is synced does the new root become the head, and the layer is let go.
//!
//! A step that fails (a full disk, a fault) changes nothing that anyone sees, and is taken again later. Steps of one
//! dataset exclude one another; steps of different datasets do not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::dataset::extents::{Extent, Extents, Place};
use crate::dataset::layer::{Layer, edit_bytes};
use crate::dataset::live::Dataset;
use crate::dataset::namespace::{Key, Record};
use crate::dataset::state::{Base, content_of};
use crate::error::Result;
use crate::pool::StreamId;
use crate::pressure::Merging;
use crate::store::stream_of;
use crate::tree::sequence::{self, Content, Patch, Source};
use crate::tree::{Objects, map};
use crate::units::Inode;

/// A layer that was merged, and the base that it became.
pub(crate) struct Drained {
    pub layer: Arc<Layer>,
    pub base: Base,
    /// Lets writers in for what was merged, until the layer is let go or the step comes to nothing.
    _merging: Merging,
}

impl Dataset {
    /// Merges the oldest frozen layer into a new root, and syncs it. `None` where nothing is frozen. The caller makes
    /// the root the head and then calls [`Dataset::drained`]; and it sees to it that only one step is under way.
    pub fn drain_oldest(&self) -> Result<Option<Drained>> {
        let (layer, base, stuck) = {
            let state = self.read_state();
            let Some(layer) = state.frozen.front() else { return Ok(None) };
            (layer.clone(), state.base, state.stuck.is_some())
        };
        let objects = self.objects();
        // What nobody waits for lets nobody in.
        let merging = self.stages.pressure.merging(!stuck);
        let mut contents = BTreeMap::new();
        for (inode, extents) in &layer.files {
            if let Some(content) = self.merge_file(&objects, &layer, base, (*inode, extents), &merging)? {
                contents.insert(Bytes::from(Key::Content(*inode).encode()), Some(Bytes::from(content.encode())));
            }
        }
        let edits = merged(layer.edits.iter().inspect(|edit| merging.advance(edit_bytes(*edit))), contents);
        let root = map::merge(&objects, &self.stages.realm, base.root.as_ref(), edits)?;
        Ok(Some(Drained { base: Base { root, lsn: layer.last }, layer, _merging: merging }))
    }

    /// Lets go of the layer that a step merged; its root is below everything from now on.
    pub fn drained(&self, drained: &Drained) {
        let mut state = self.write_state();
        let popped = state.frozen.pop_front();
        assert!(popped.is_some_and(|layer| Arc::ptr_eq(&layer, &drained.layer)), "one step of a dataset at a time");
        state.base = drained.base;
        self.moved(&state, drained.layer.memory_bytes(), 0);
        self.unstick(&mut state);
    }

    /// The new content of one file; `None` where the layer deleted it.
    fn merge_file(
        &self,
        objects: &dyn Objects,
        layer: &Layer,
        base: Base,
        (inode, extents): (Inode, &Extents),
        merging: &Merging,
    ) -> Result<Option<Content>> {
        let record_key = Key::Record(inode).encode();
        let record = match layer.edits.get(record_key.as_slice()) {
            Some(value) => value.clone(),
            None => map::get(objects, base.root.as_ref(), &record_key)?,
        };
        let Some(record) = record else { return Ok(None) };
        let size = Record::decode(inode, &record)?.size;
        let mut content = match map::get(objects, base.root.as_ref(), &Key::Content(inode).encode())? {
            Some(value) => content_of(inode, &value)?,
            None => Content::empty(),
        };
        let mut put = |chunks: &[&[u8]]| self.put_chunks(StreamId(stream_of(self.id)), chunks);
        let cutter = self.cutter();
        if extents.base_limit() < content.len() {
            content = sequence::splice(objects, cutter, &mut put, &content, [], extents.base_limit())?.0;
        }
        // One by one: a layer may have half a million of them.
        let patches = extents.range(0, size).map(|(offset, extent)| {
            merging.advance(extent.cost_bytes());
            Patch { offset, len: extent.len, source: self.source_of(objects, extent) }
        });
        Ok(Some(sequence::splice(objects, cutter, &mut put, &content, patches, size)?.0))
    }

    /// How the splice gets at an extent's bytes: whole chunks by name, what is in memory at once, the rest when needed.
    fn source_of<'a>(&'a self, objects: &'a dyn Objects, extent: Extent) -> Source<'a> {
        match &extent.place {
            Place::Memory { bytes, .. } => Source::Bytes(bytes.clone()),
            Place::Hole => Source::Hole,
            Place::Chunk { chunk, skip } => {
                let whole = extent.len == u64::from(chunk.len);
                Source::Chunk { name: chunk.name, skip: *skip, chunk_len: chunk.len, cut: chunk.cut.filter(|_| whole) }
            }
            Place::Journal { .. } => Source::Later(Box::new(self.reader_of(objects, extent))),
        }
    }

    /// Reads parts of an extent when the splice gets to them.
    fn reader_of<'a>(&'a self, objects: &'a dyn Objects, extent: Extent) -> impl Fn(u64, usize) -> Result<Bytes> + 'a {
        move |from, len| {
            let mut pieces = Vec::with_capacity(1);
            self.fetch_extent(objects, &extent, &mut pieces)?;
            let whole = match pieces.len() {
                1 => pieces.swap_remove(0),
                _ => Bytes::from(pieces.concat()),
            };
            let from = from as usize;
            Ok(whole.slice(from..from + len))
        }
    }
}

/// Two ordered sets of edits as one; where both have a key, the second counts, unless the first deletes it.
fn merged<'a>(
    edits: impl Iterator<Item = (&'a Bytes, &'a Option<Bytes>)>,
    contents: BTreeMap<Bytes, Option<Bytes>>,
) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
    let mut edits = edits.peekable();
    let mut contents = contents.into_iter().peekable();
    std::iter::from_fn(move || match (edits.peek(), contents.peek()) {
        (Some((key, _)), Some((content_key, _))) if *key == content_key => {
            edits.next();
            contents.next()
        }
        (Some((key, _)), Some((content_key, _))) if *key > content_key => contents.next(),
        (Some(_), _) => edits.next().map(|(key, value)| (key.clone(), value.clone())),
        (None, _) => contents.next(),
    })
}
