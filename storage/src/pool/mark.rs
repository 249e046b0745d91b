//! What was surely kept after a moment: for whoever knows that a peer had everything of then.
//!
//! Containers are numbered and only grow, so a number and a few lengths tell all that was there at a moment from most of what
//! came later. Wrong in one direction only, as long as nothing is moved: what is called new is new, and what was put in
//! while the moment was taken, or is moved to another container, is called what it is not; hence for hints alone.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::container::Class;
use crate::error::{Refusal, Result};
use crate::id::ContainerId;
use crate::name::{Kind, Name};

use super::Pool;

/// A moment in the life of a pool. Written as text: the number of the next container, then `:` and, for each that was
/// open, its number, `=` and its length, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// No container with this number or a higher one existed.
    pub next: u64,
    /// How long those were that could still grow.
    pub open: BTreeMap<u64, u64>,
}

impl Mark {
    /// True where something that lies at `offset` of a container was not there yet.
    fn precedes(&self, container: ContainerId, offset: u32) -> bool {
        container.0 >= self.next || self.open.get(&container.0).is_some_and(|len| u64::from(offset) >= *len)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.next)?;
        for (nth, (id, len)) in self.open.iter().enumerate() {
            write!(out, "{}{id}={len}", if nth > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Mark {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = || Refusal::Invalid(format!("{text:?} is no mark of a pool"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let (next, open) = text.split_once(':').ok_or_else(wrong)?;
        let pairs = open.split(',').filter(|pair| !pair.is_empty());
        let open = pairs.map(|pair| {
            let (id, len) = pair.split_once('=').ok_or_else(wrong)?;
            Ok((number(id)?, number(len)?))
        });
        Ok(Mark { next: number(next)?, open: open.collect::<Result<_, Refusal>>()? })
    }
}

impl Pool {
    /// This moment: everything that was put before the call was there.
    pub fn mark(&self) -> Mark {
        let streams = &self.0.streams;
        // Lengths first: what is created meanwhile has a number below `next`, and so counts as having been there.
        let writers = Class::ALL.into_iter().flat_map(|class| streams.unsafe_writers(class));
        let open = writers.map(|writer| (writer.id().0, writer.lock().len())).collect();
        Mark { next: streams.next_id(), open }
    }

    /// Which of these objects were kept after `mark`, in their order. False for what is not here.
    pub fn kept_since(&self, mark: &Mark, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        let places = self.0.find(kind, names)?;
        Ok(places.iter().map(|place| place.is_some_and(|at| mark.precedes(at.container, at.offset))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_they_are_written() {
        for open in [vec![], vec![(3, 64)], vec![(3, 64), (7, 1 << 40)]] {
            let mark = Mark { next: 9, open: open.into_iter().collect() };
            assert_eq!(mark.to_string().parse::<Mark>().unwrap(), mark);
        }
        for text in ["", "9", "9:3", "x:", "9:3=", ":", "9:3=4=5"] {
            assert!(text.parse::<Mark>().is_err(), "{text}");
        }
    }
}
