//! Deadline mode: a peer with a recovery point gets the slowest rate that still meets it, and leaves the rest of the line to people.
//!
//! A recovery point of a day says that no snapshot is older than a day when it is there. What the peer lacks has to be there a recovery point after
//! its first snapshot was taken; from that, from an upper bound of what is left ([`crate::backlog`]) and from the calendars ahead follows a
//! rate. It is found again every few seconds: where less was left than it seemed the rate falls, where the line gives less than its cap the rate
//! rises, up to all that the calendar allows. It never lifts a cap.

use std::time::Duration;

use narrowboat_storage::units::Timestamp;
use narrowboat_wan::link::Link;
use narrowboat_wan::shape::{Rate, Schedule, Slowest, slowest};

use crate::backlog::{Backlog, backlog};
use crate::caps::Way;
use crate::clock;
use crate::node::Node;

/// How often paces are found again.
pub const EVERY: Duration = Duration::from_secs(3);
/// No pace is slower: greetings, and acknowledgements of what the peer sends meanwhile, need some room.
const SLOWEST_BITS: u64 = 256_000;
/// In so many tenths of the time that is left everything shall be there: what was measured is never quite what comes.
const TENTHS: i64 = 9;

/// How fast a peer has to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// When what it lacks has to be there.
    pub deadline: Timestamp,
    /// The rate at which it will be; none where all that the calendar allows is needed.
    pub rate: Option<Rate>,
    /// Bytes on the wire that will not be there in time, for all that the calendar allows.
    pub misses_bytes: u64,
}

impl Pace {
    /// The pace of a peer that lacks `backlog`, with a recovery point of `seconds`, under the caps of the box (`whole`) and its own. None
    /// where it lacks nothing.
    pub fn of(now: Timestamp, seconds: u64, whole: &Schedule, own: &Schedule, backlog: &Backlog) -> Option<Pace> {
        let nanos = i64::try_from(seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
        let deadline = Timestamp(backlog.oldest?.0.saturating_add(nanos));
        let aim = aim(now, deadline);
        if let Slowest::Rate(rate) = slowest(now, aim, whole, own, backlog.left_bytes) {
            let floor = Rate::from_bits(SLOWEST_BITS).unwrap_or(Rate::MIN);
            return Some(Pace { deadline, rate: Some(rate.max(floor)), misses_bytes: 0 });
        }
        let misses_bytes = match slowest(now, deadline, whole, own, backlog.left_bytes) {
            Slowest::Misses(bytes) => bytes,
            Slowest::Rate(_) => 0,
        };
        Some(Pace { deadline, rate: None, misses_bytes })
    }
}

/// By when all shall be there that has to be before a deadline.
fn aim(now: Timestamp, deadline: Timestamp) -> Timestamp {
    let left = deadline.0.saturating_sub(now.0).max(0);
    Timestamp(now.0.saturating_add(left / 10 * TENTHS))
}

/// Each pace was found as if the box's cap were for that peer alone. For what has to be there before each of the deadlines it has to do for all of them: where their rates together
/// are less than that takes they rise alike, and where no rate is enough each gets all that the calendar allows. With each pace comes what its peer lacks.
fn together<T>(now: Timestamp, whole: &Schedule, paces: &mut [(Pace, u64, T)]) {
    paces.sort_by_key(|(pace, ..)| pace.deadline);
    for count in 2..=paces.len() {
        let (due, _) = paces.split_at_mut(count);
        let Some(deadline) = due.last().map(|(pace, ..)| pace.deadline) else { return };
        let bytes = due.iter().fold(0u64, |sum, (_, left, _)| sum.saturating_add(*left));
        let Some(sum) = due.iter().map(|(pace, ..)| Some(u128::from(pace.rate?.bits()))).sum::<Option<u128>>() else {
            continue;
        };
        match slowest(now, aim(now, deadline), whole, &Schedule::plain(None), bytes) {
            Slowest::Rate(needed) if u128::from(needed.bits()) <= sum => {}
            Slowest::Rate(needed) => due.iter_mut().for_each(|(pace, ..)| {
                let risen = |rate: Rate| (u128::from(rate.bits()) * u128::from(needed.bits())).div_ceil(sum.max(1));
                pace.rate = pace.rate.and_then(|rate| Rate::from_bits(u64::try_from(risen(rate)).ok()?).ok());
            }),
            Slowest::Misses(_) => due.iter_mut().for_each(|(pace, ..)| pace.rate = None),
        }
    }
}

/// Finds the paces of all peers that have a recovery point, and lets them count.
pub fn look(node: &Node, link: &Link) {
    let now = clock::wall();
    let whole = node.caps.schedule(Way::Sent, None);
    let mut paces = Vec::new();
    for peer in link.peers() {
        let Some(seconds) = node.caps.recovery_point(&peer.record) else { continue };
        match backlog(node, &peer.record) {
            Ok(backlog) => {
                let pace = Pace::of(now, seconds, &whole, &node.caps.schedule(Way::Sent, Some(&peer.record)), &backlog);
                match pace {
                    Some(pace) => paces.push((pace, backlog.left_bytes, peer.record)),
                    None => node.caps.set_pace(&peer.record, None),
                }
            }
            Err(error) => {
                tracing::warn!(peer = %peer.record.name, %error, "what it lacks is not known: it is served as fast as its cap allows");
                node.caps.set_pace(&peer.record, None);
            }
        }
    }
    together(now, &whole, &mut paces);
    for (pace, _, record) in paces {
        node.caps.set_pace(&record, Some(pace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_wan::shape::Calendar;

    const HOUR: i64 = 3_600_000_000_000;

    /// Hours since Monday, 23 November 2026, 00:00 UTC.
    fn at(hours: i64) -> Timestamp {
        Timestamp(1_795_392_000_000_000_000 + hours * HOUR)
    }

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().expect("a rate"))
    }

    fn lacks(left_bytes: u64, oldest: i64) -> Backlog {
        Backlog { datasets: vec!["office".into()], left_bytes, under_way: 1, oldest: Some(at(oldest)) }
    }

    #[test]
    fn the_rate_spreads_what_is_left_over_the_time_that_is_left() {
        let (whole, own) = (Schedule::plain(rate("20Mbit")), Schedule::plain(None));
        // Taken at 0:00, due at 24:00, asked at 4:00: 18 of 20 hours for 8.1 GB are 1 Mbit/s, and a 64th for the aim below a cap.
        let pace = Pace::of(at(4), 86_400, &whole, &own, &lacks(8_100_000_000, 0)).expect("it lacks some");
        assert_eq!((pace.deadline, pace.misses_bytes), (at(24), 0));
        let bits = pace.rate.expect("there is time").bits();
        assert!((1_000_000..1_020_000).contains(&bits), "{bits}");
        // Hours of pause leave less time.
        let own = Schedule {
            calendar: Calendar::parse("04:00-22:00 pause", &jiff::tz::TimeZone::UTC).expect("sound"),
            ..own
        };
        let late = Pace::of(at(4), 30 * 3600, &whole, &own, &lacks(8_100_000_000, 0)).expect("it lacks some");
        assert!(late.rate.expect("there is time") > pace.rate.expect("there was"), "{late:?}");
    }

    #[test]
    fn peers_under_one_cap_are_paced_together() {
        // By day 2 Mbit/s, by night 20: each for itself counts on all of the day's.
        let day = Calendar::parse("08:00-20:00 2Mbit", &jiff::tz::TimeZone::UTC).expect("sound");
        let (whole, own) = (Schedule { calendar: day, ..Schedule::plain(rate("20Mbit")) }, Schedule::plain(None));
        let alone = |bytes| Pace::of(at(8), 86_400, &whole, &own, &lacks(bytes, 8)).expect("it lacks some");
        let bits =
            |paces: &[(Pace, u64, ())]| paces.iter().map(|(pace, ..)| pace.rate.map(Rate::bits)).collect::<Vec<_>>();
        let of = |all: &[u64]| all.iter().map(|bytes| (alone(*bytes), *bytes, ())).collect::<Vec<_>>();
        let mut paces = of(&[40_000_000_000, 20_000_000_000]);
        let before = bits(&paces);
        together(at(8), &whole, &mut paces);
        let after = bits(&paces);
        assert!(after.iter().zip(&before).all(|(after, before)| after > before), "{before:?} {after:?}");
        let sum: u64 = after.iter().flatten().sum();
        let needed = alone(60_000_000_000).rate.expect("there is time").bits();
        assert!((needed..needed + 2).contains(&sum), "{sum}, {needed} for both");

        let mut much = of(&[60_000_000_000, 59_000_000_000]);
        assert!(bits(&much).iter().all(Option::is_some));
        together(at(8), &whole, &mut much);
        assert_eq!(bits(&much), [None, None], "each would do alone, and both get all there is");

        let mut little = of(&[1_000_000, 2_000_000]);
        let before = bits(&little);
        together(at(8), &whole, &mut little);
        assert_eq!(bits(&little), before);
    }

    #[test]
    fn what_can_not_be_met_gets_all_there_is() {
        let (whole, own) = (Schedule::plain(rate("2Mbit")), Schedule::plain(None));
        let pace = Pace::of(at(20), 86_400, &whole, &own, &lacks(8_100_000_000, 0)).expect("it lacks some");
        let in_time = 2_000_000 / 64 * 63 * 4 * 3600 / 8;
        assert_eq!((pace.rate, pace.misses_bytes), (None, 8_100_000_000 - in_time));
        let over = Pace::of(at(30), 86_400, &whole, &own, &lacks(7, 0)).expect("it lacks some");
        assert_eq!((over.rate, over.misses_bytes), (None, 7));
    }

    #[test]
    fn little_is_not_sent_at_a_crawl_and_nothing_has_no_pace() {
        let free = Schedule::plain(None);
        let pace = Pace::of(at(0), 86_400, &free, &free, &lacks(1, 0)).expect("it lacks some");
        assert_eq!(pace.rate.map(Rate::bits), Some(SLOWEST_BITS));
        assert_eq!(Pace::of(at(0), 86_400, &free, &free, &Backlog::default()), None);
    }
}
