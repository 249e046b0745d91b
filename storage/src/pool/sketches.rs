//! The sketches of chunks that are kept: hints for whoever looks for what resembles them.

use std::collections::BTreeMap;

use crate::chunk::Sketch;
use crate::container::{Class, path, reader};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::index::Location;
use crate::name::{Kind, Name};

use super::{Inner, Pool};

impl Pool {
    /// The sketches of chunks, in the order of their names; [`Sketch::NONE`] for what is not here, has none, lies in a container of
    /// before there were sketches, or where they can't be read. Neighbours are cheap together: each container's
    /// sketches are read once a call.
    pub fn sketches(&self, names: &[Name]) -> Result<Vec<Sketch>> {
        let inner = &*self.0;
        let mut sketches = vec![Sketch::NONE; names.len()];
        let mut by_container: BTreeMap<ContainerId, Vec<(usize, Location)>> = BTreeMap::new();
        for (nth, place) in inner.find(Kind::Chunk, names)?.into_iter().enumerate() {
            if let Some(place) = place {
                by_container.entry(place.container).or_default().push((nth, place));
            }
        }
        for (id, wanted) in by_container {
            if let Some(writer) = inner.streams.find(id) {
                wanted.iter().for_each(|(nth, place)| sketches[*nth] = writer.sketch(place.offset));
                continue;
            }
            let of_offset = match inner.sketches_of(id) {
                Ok(of_offset) => of_offset,
                // Whoever needs its objects will say so.
                Err(Error::Damage(_)) => continue,
                Err(error) => return Err(error),
            };
            for (nth, place) in wanted {
                let found = of_offset.binary_search_by_key(&place.offset, |(offset, _)| *offset);
                sketches[nth] = found.map_or(Sketch::NONE, |at| of_offset[at].1);
            }
        }
        Ok(sketches)
    }
}

impl Inner {
    /// The sketches of a sealed container, by the offset of their slots.
    fn sketches_of(&self, id: ContainerId) -> Result<Vec<(u32, Sketch)>> {
        let (file, path) = (self.files.open(self.media.as_ref(), id, Class::Data)?, path(id, Class::Data));
        let directory = reader::read_directory(file.as_ref(), &path, id)?;
        let sketches = reader::read_sketches(file.as_ref(), &path, &directory.footer)?;
        Ok(directory.slots.iter().map(|slot| slot.offset).zip(sketches).collect())
    }
}
