//! Identifiers: random 128-bit ones for things that travel between boxes, counted 64-bit ones for containers.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::error::Refusal;

/// Where identifiers come from. Clones draw from one source, so none is drawn twice.
#[derive(Clone)]
pub struct IdSource(Arc<Mutex<StdRng>>);

impl IdSource {
    /// Identifiers that are unique everywhere, for use.
    pub fn unique() -> IdSource {
        IdSource(Arc::new(Mutex::new(StdRng::from_seed(rand::random()))))
    }

    /// Identifiers that follow from a seed, for tests: one seed, one world. Sources of one seed give the same ones, so every
    /// opening of a store needs a seed of its own.
    pub fn seeded(seed: u64) -> IdSource {
        IdSource(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    pub(crate) fn draw<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut bytes);
        bytes
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSource")
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A new identifier.
            pub fn new(source: &IdSource) -> Self {
                $name(source.draw())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Refusal;
            /// Reads the 32 hexadecimal digits that `Display` writes.
            fn from_str(text: &str) -> Result<Self, Refusal> {
                parse_hex(text).map($name)
            }
        }
    };
}

random_id!(
    /// Names a store for its whole life.
    StoreId
);
random_id!(
    /// Names a dataset on every box that has it.
    DatasetId
);
random_id!(
    /// Names a snapshot on every box that has it.
    SnapshotId
);

/// Names a container within its store. Counted up, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub u64);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `2 * N` hexadecimal digits.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], Refusal> {
    let wrong = || Refusal::Invalid(format!("expected {} hexadecimal digits, found {text:?}", 2 * N));
    if text.len() != 2 * N || !text.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}
