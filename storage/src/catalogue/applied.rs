//! How far the journal's changes of the catalogue are in it. Images are behind none of it: a database that is behind an image has gone
//! back to an older state, as after a sync that failed, a restart upon what the kernel still showed, and a power cut.

use super::{Catalogue, Change, Contents, FILE};
use crate::error::{Damage, Result};
use crate::units::Lsn;

/// The setting that remembers it.
const APPLIED: &str = "journal.applied";

impl Contents {
    pub(super) fn applied(&self) -> Result<Lsn> {
        let Some(value) = self.settings.get(APPLIED) else { return Ok(Lsn(0)) };
        let bytes = <[u8; 8]>::try_from(&value[..]);
        let bytes = bytes.map_err(|_| Damage::new(FILE, 0, "an LSN of eight bytes", value.len()))?;
        Ok(Lsn(u64::from_le_bytes(bytes)))
    }

    /// Damage where there is an image of a later state.
    pub(super) fn expect_newer_than(&self, image: Lsn) -> Result<()> {
        let applied = self.applied()?;
        if image <= applied {
            return Ok(());
        }
        let expected = format!("the catalogue of record {image}, as its image, or a later one");
        Err(Damage::new(FILE, 0, expected, format!("that of record {applied}")).into())
    }
}

impl Catalogue {
    /// The journal's changes of the catalogue are in it up to this record.
    pub fn applied(&self) -> Result<Lsn> {
        self.read(Contents::applied)
    }
}

impl Change {
    /// The change that remembers how far the journal's changes of the catalogue were applied.
    pub fn applied(lsn: Lsn) -> Change {
        Change::setting(APPLIED, Some(&lsn.0.to_le_bytes()))
    }
}
