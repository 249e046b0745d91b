//! Looking at paths again and again, and writing down what was found.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::looks::{Broken, Path};
use super::scan::{self, Found};
use super::scratch::Scratch;
use super::spans::{self, Row};
use crate::units::ByteSize;

/// How often it is told how far a look is.
const TELL: Duration = Duration::from_secs(1);
/// How often it is looked how much room is taken.
const LOOK_BYTES: u64 = 64 << 20;
/// So much of a round's rows is garbage before it is given back.
const RECLAIM_ROUNDS: u64 = 50;

/// What is to be looked at, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// The paths, each a dataset of its own.
    pub paths: Vec<PathBuf>,
    /// Where it is kept.
    pub work: PathBuf,
    /// How long from the beginning of one round to that of the next; a single one where nobody says.
    pub every: Option<Duration>,
    /// For how long; until it is ended where nobody says.
    pub lasting: Option<Duration>,
    /// How much room it may take.
    pub room: Option<u64>,
    /// The line that it is for: how hard is packed depends on it.
    pub path: Path,
}

/// What is told meanwhile.
#[derive(Debug)]
pub enum Told<'a> {
    /// How far a look at a path is, and how long it has taken.
    Looking(&'a str, &'a Found, Duration),
    /// A look has come to its end.
    Looked(&'a Row, &'a Found),
    /// A path could not be looked at, and why. It is looked at again next time.
    Passed(&'a str, &'a scan::Broken),
}

/// Looks until it is done.
///
/// # Errors
/// What keeps all paths from being looked at. A single one that is not there is told and passed over; where none can be looked at at all in the only round, that is an error.
pub fn run(order: &Order, tell: &mut dyn FnMut(Told)) -> Result<(), Broken> {
    // The machine is there for others. A system that refuses this has a reason of its own.
    let _ = rustix::process::nice(10);
    let mut scratch = Scratch::open(&order.work, order.path)?;
    let began = Instant::now();
    for nth in 0u64.. {
        let round = Instant::now();
        look_at_all(order, &mut scratch, tell)?;
        if nth % RECLAIM_ROUNDS == RECLAIM_ROUNDS - 1 {
            scratch.reclaim()?;
        }
        let Some(every) = order.every else { return Ok(()) };
        if order.lasting.is_some_and(|lasting| began.elapsed() + every > lasting) {
            return Ok(());
        }
        std::thread::sleep(every.saturating_sub(round.elapsed()));
    }
    Ok(())
}

fn look_at_all(order: &Order, scratch: &mut Scratch, tell: &mut dyn FnMut(Told)) -> Result<(), Broken> {
    let mut passed = None;
    for path in &order.paths {
        let name = path.display().to_string();
        match look(order, scratch, path, &name, tell) {
            Ok(()) => {}
            Err(Broken::Scan(broken @ scan::Broken::Path(..))) => {
                tell(Told::Passed(&name, &broken));
                passed = Some(broken);
            }
            Err(broken) => return Err(broken),
        }
    }
    match passed {
        Some(broken) if order.every.is_none() => Err(broken.into()),
        _ => Ok(()),
    }
}

fn look(
    order: &Order,
    scratch: &mut Scratch,
    path: &std::path::Path,
    name: &str,
    tell: &mut dyn FnMut(Told),
) -> Result<(), Broken> {
    let began = Instant::now();
    let (mut told, mut next_look) = (Instant::now(), 0);
    let store = scratch.meter();
    let room = order.room.unwrap_or(u64::MAX);
    let mut going = |found: &Found| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            tell(Told::Looking(name, found, began.elapsed()));
        }
        if found.changed >= next_look {
            next_look = found.changed + LOOK_BYTES;
            let taken = store()?;
            if taken > room {
                return Err(scan::Broken::Room(format!(
                    "{} are taken of the {} that were allowed: nothing is known of {name} yet. Allow more with --room, or leave it out",
                    ByteSize(taken),
                    ByteSize(room)
                )));
            }
        }
        Ok(())
    };
    let (row, found) = scratch.round(path, &mut going)?;
    let folder = scratch.folder();
    spans::add(folder, &row).map_err(|error| Broken::State(format!("{}: {error}", folder.display())))?;
    tell(Told::Looked(&row, &found));
    Ok(())
}
