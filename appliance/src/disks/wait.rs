//! How long `open` waits at boot for disks that come late (docks on USB, disks that spin up slowly) before it puts the array together without them.

use std::time::Duration;

use super::superblock::Census;

/// How long it waits where nobody says otherwise.
pub const DEFAULT_SECONDS: u64 = 30;
/// How often it says so.
const EACH: Duration = Duration::from_secs(5);

/// What is seen of the array's disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The kernel has put it together, or nothing tells how many there should be.
    Enough,
    /// None yet.
    Nothing,
    /// Some.
    Some(Census),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on with those that are here.
    Go,
    /// Look again soon, and say this meanwhile.
    Wait(Option<String>),
}

/// The wait for late disks, as a value: what is seen, and how long it has taken, to what is to be done.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    said: Option<(Seen, Duration)>,
}

impl Patience {
    /// Waits so long at most.
    pub fn new(limit: Duration) -> Patience {
        Patience { limit, said: None }
    }

    /// What is to be done, so long after the beginning.
    pub fn next(&mut self, after: Duration, seen: Seen) -> Next {
        let whole = match seen {
            Seen::Enough => true,
            Seen::Nothing => false,
            Seen::Some(census) => census.here >= census.of,
        };
        if whole || after >= self.limit {
            return Next::Go;
        }
        let news = self.said.is_none_or(|(before, at)| before != seen || after >= at + EACH);
        if !news {
            return Next::Wait(None);
        }
        self.said = Some((seen, after));
        let here = match seen {
            Seen::Some(Census { here, of }) => format!("{here} of {of} disks of the array are here"),
            _ => "no disk of the array is here".into(),
        };
        let left = (self.limit - after).as_secs_f64().ceil();
        Next::Wait(Some(format!("{here}: waiting for the others, {left:.0} s at most")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn some(here: usize) -> Seen {
        Seen::Some(Census { here, of: 3 })
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn all_disks_are_not_waited_for() {
        let mut patience = Patience::new(seconds(30));
        assert_eq!(patience.next(seconds(0), some(3)), Next::Go);
        assert_eq!(patience.next(seconds(0), Seen::Enough), Next::Go);
    }

    #[test]
    fn a_late_disk_ends_the_wait_and_a_missing_one_bounds_it() {
        let mut patience = Patience::new(seconds(30));
        let Next::Wait(Some(said)) = patience.next(seconds(0), Seen::Nothing) else { panic!("does not wait") };
        assert_eq!(said, "no disk of the array is here: waiting for the others, 30 s at most");
        assert_eq!(patience.next(seconds(1), Seen::Nothing), Next::Wait(None), "it was said a second ago");
        let Next::Wait(Some(said)) = patience.next(seconds(2), some(2)) else { panic!("says nothing of news") };
        assert_eq!(said, "2 of 3 disks of the array are here: waiting for the others, 28 s at most");
        assert_eq!(patience.next(seconds(6), some(2)), Next::Wait(None));
        assert!(matches!(patience.next(seconds(7), some(2)), Next::Wait(Some(_))), "it says again that it waits");
        assert_eq!(patience.next(seconds(8), some(3)), Next::Go);
        assert!(matches!(patience.next(seconds(29), some(2)), Next::Wait(_)));
        assert_eq!(patience.next(seconds(30), some(2)), Next::Go, "without the one that does not come");
    }

    #[test]
    fn who_wants_no_wait_has_none() {
        assert_eq!(Patience::new(seconds(0)).next(seconds(0), some(1)), Next::Go);
    }
}
