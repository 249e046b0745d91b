//! The disks below the data folder: made one *array* with redundancy (mdraid), encrypted (LUKS2), with a file system on it, kept healthy, and opened at boot.
//! Why it is done below the store and not in it: decision 33. For administrators: docs/disks.md. What is written: docs/formats/array.md.
//!
//! ```text
//! data folder      ext4
//!    opened        LUKS2: everything above this line is ciphertext on the disks
//!    array         mdraid: mirror, parity or double parity
//!  partition ...   one on each disk, named narrowboat-ID
//!   disk ...
//! ```
//!
//! * [`facts`], [`layout`], [`plan`], [`choose`], [`takeover`], [`wait`]: what there is and what is asked for, to steps or a sentence on why not. No disk is touched.
//! * [`state`], [`describe`], [`luks`], [`superblock`]: how an array is, what it is made of, what opens it; read from sysfs, from JSON and from the disks.
//! * [`place`], [`smart`]: where a data folder lies, and how well disks take themselves to be.
//! * [`make`], [`open`], [`replace`], [`keys`], [`tpm`]: the steps done, by the programs of [`tools`].
//!
//! A secret is never in an argument, a message or a log. An array that was not made to its end is made again from its beginning: its mark comes last.

pub mod choose;
pub mod describe;
pub mod facts;
#[cfg(test)]
mod headers;
pub mod keys;
pub mod layout;
pub mod luks;
pub mod make;
pub mod open;
pub mod place;
pub mod plan;
pub mod replace;
pub mod smart;
pub mod state;
pub mod superblock;
pub mod takeover;
pub mod tools;
pub mod tpm;
pub mod wait;

use std::path::Path;

use crate::control::Failed;
use describe::Description;
use facts::{Facts, Found, OnArray};
use state::ArrayState;

/// Where the kernel tells about itself.
pub const SYS: &str = "/sys";

/// What the decrypted device is called.
const OPENED: &str = "narrowboat";

/// Lies in the folder on which the array is mounted, and is seen only while it is not.
pub const NOT_OPEN: &str = "array-is-not-open";

/// An array that is known by the first half of its id.
pub(crate) fn array_of(facts: &Facts, id: &str) -> Result<Found, Failed> {
    let array = facts.arrays().into_iter().find(|array| array.id == id);
    array.ok_or_else(|| Failed::environment(format!("the array {id} is no longer on the disks of this machine")))
}

/// What lies on an array, where the kernel has put it together.
pub fn running(array: &Found) -> Result<&OnArray, Failed> {
    array
        .device
        .as_ref()
        .ok_or_else(|| Failed::refused(format!("the array {} is not open: `narrowboat disks open` first", array.id)))
}

/// How the array below a data folder is, where there is one: cheap enough for every `status`.
pub fn below(data: &Path) -> Option<ArrayState> {
    let sys = Path::new(SYS);
    state::read(sys, &state::below(sys, data)?, Description::load(data).as_ref())
}

/// How the array is that was found on the disks, mounted or not.
pub fn state_of(array: &OnArray) -> Option<ArrayState> {
    let description = array.mounted.as_ref().and_then(|at| Description::load(Path::new(at)));
    state::read(Path::new(SYS), array.path.strip_prefix("/dev/")?, description.as_ref())
}
