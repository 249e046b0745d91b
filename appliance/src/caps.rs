//! Caps of the box and of its peers: gathers what was said about each, and tells the link what counts now.
//!
//! What was said comes from the config file and from `narrowboat limit`, which outranks it; the latter is kept in the store's settings:
//!
//! | setting | value |
//! | --- | --- |
//! | `wan.limit` | the box's plain rate, as `narrowboat limit --rate` takes it |
//! | `wan.calendar` | its calendar, as [`Calendar::parse`] takes it |
//! | `wan.override` | its override: JSON with `limit`, and `from` and `until` in nanoseconds since 1970 |
//! | `wan.limit/KEY`, … | the same of a peer; KEY is its fingerprint |
//! | `wan.receive`, `wan.receive.calendar`, `wan.receive.override`, `wan.receive/KEY`, … | the same of what is received |
//!
//! A setting that can't be read pauses what it is about: silence is within every cap. Changes count at once, boundaries of a calendar
//! within [`EVERY`]. Time is what the clock on the wall shows, also after it was set back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Store};
use narrowboat_wan::link::Link;
use narrowboat_wan::peer::{PeerId, PeerRecord};
use narrowboat_wan::shape::{Calendar, Override, Rate, Schedule, parse_limit, print_limit};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::config::{CapRules, Config};
use crate::pace::Pace;

/// How often it is looked whether something else counts by now.
pub const EVERY: Duration = Duration::from_millis(200);

/// The names of the settings of a direction: plain rate, calendar, override.
const SETTINGS: [[&str; 3]; 2] =
    [["wan.limit", "wan.calendar", "wan.override"], ["wan.receive", "wan.receive.calendar", "wan.receive.override"]];

/// Which traffic a cap is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// What is sent: kept here.
    #[default]
    Sent,
    /// What is received: told to the peers, and kept by them.
    Received,
}

impl Way {
    fn settings(self) -> [&'static str; 3] {
        SETTINGS[self as usize]
    }
}

/// What a cap is about: a direction, and a peer or (`None`) the whole box.
type Subject = (Way, Option<PeerId>);

/// The caps of a box.
pub struct Caps {
    store: Arc<Store>,
    zone: TimeZone,
    whole: CapRules,
    peers: BTreeMap<String, CapRules>,
    /// What was said; of the whole box under `None`.
    said: Mutex<BTreeMap<Subject, Schedule>>,
    /// Of peers with a recovery point that lack something.
    paces: Mutex<BTreeMap<PeerId, Pace>>,
}

/// An override as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    limit: String,
    from: i64,
    until: i64,
}

/// What is to be changed of what was said about a cap.
#[derive(Clone, Debug)]
pub enum Change {
    /// The plain rate.
    Plain(Option<Rate>),
    /// The calendar, which was found to be sound.
    Calendar(String),
    /// The override; `None` ends it.
    Override(Option<Override>),
    /// All of it: the config file counts again.
    Forget,
}

impl Caps {
    /// Those of the box that keeps `store`.
    pub fn new(store: Arc<Store>, config: &Config) -> Caps {
        let (zone, whole, peers) = (config.zone(), config.wan.caps(), config.peer.clone());
        Caps { store, zone, whole, peers, said: Mutex::default(), paces: Mutex::default() }
    }

    /// The time zone of calendars that name none.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What was said about the cap of a peer, or of the whole box.
    pub fn schedule(&self, way: Way, peer: Option<&PeerRecord>) -> Schedule {
        self.known(&mut self.lock(), way, peer).clone()
    }

    /// The cap of a peer, or of the whole box, that counts at a moment: what was said about it, or a slower pace.
    pub fn limit_at(&self, way: Way, peer: Option<&PeerRecord>, now: Timestamp) -> Option<Rate> {
        self.counts(&mut self.lock(), way, peer, now)
    }

    /// How old snapshots may be when a peer gets them, in seconds, where that was said.
    pub fn recovery_point(&self, peer: &PeerRecord) -> Option<u64> {
        self.peers.get(peer.name.as_str()).and_then(CapRules::recovery_seconds)
    }

    /// True where some peer has a recovery point.
    pub fn have_recovery_points(&self) -> bool {
        self.peers.values().any(|rules| rules.recovery_seconds().is_some())
    }

    /// The pace of a peer, where it has one.
    pub fn pace(&self, peer: &PeerRecord) -> Option<Pace> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner).get(&peer.id).copied()
    }

    /// Sets or ends the pace of a peer; [`Caps::apply`] makes it count.
    pub fn set_pace(&self, peer: &PeerRecord, pace: Option<Pace>) {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        match pace {
            Some(pace) => drop(paces.insert(peer.id, pace)),
            None => drop(paces.remove(&peer.id)),
        }
    }

    /// Tells the link what counts now.
    pub fn apply(&self, link: &Link) {
        // One after the other: what is said last is what counts.
        let mut said = self.lock();
        let now = clock::wall();
        link.set_box_limit(self.counts(&mut said, Way::Sent, None, now));
        link.set_receive_limit(None, self.counts(&mut said, Way::Received, None, now));
        for peer in link.peers() {
            let received = self.counts(&mut said, Way::Received, Some(&peer.record), now);
            link.set_receive_limit(Some(&peer.record.id), received);
            let limit = self.counts(&mut said, Way::Sent, Some(&peer.record), now);
            if limit != peer.limit && peer.granted.is_none() {
                tracing::debug!(peer = %peer.record.name, cap = print_limit(limit), "another cap counts");
            }
            link.apply_limit(&peer.record.id, limit);
        }
    }

    /// Keeps a change; [`Caps::apply`] makes it count.
    pub fn change(&self, way: Way, peer: Option<&PeerRecord>, change: Change) -> Result<(), Error> {
        let set = |what: &str, value: Option<String>| {
            let name = setting(what, peer);
            if value.is_none() && self.store.setting(&name).is_none() {
                return Ok(());
            }
            self.store.set_setting(&name, value.as_deref().map(str::as_bytes), clock::now())
        };
        let [plain, calendar, once] = way.settings();
        match change {
            Change::Plain(limit) => set(plain, Some(print_limit(limit)))?,
            Change::Calendar(text) => set(calendar, Some(text))?,
            Change::Override(made) => set(once, made.map(|made| Kept::of(&made)))?,
            Change::Forget => way.settings().into_iter().try_for_each(|what| set(what, None))?,
        }
        self.lock().remove(&(way, peer.map(|peer| peer.id)));
        Ok(())
    }

    fn counts(
        &self,
        said: &mut BTreeMap<Subject, Schedule>,
        way: Way,
        peer: Option<&PeerRecord>,
        now: Timestamp,
    ) -> Option<Rate> {
        let limit = self.known(said, way, peer).limit_at(now);
        let pace = peer.filter(|_| way == Way::Sent).and_then(|peer| self.pace(peer)).and_then(|pace| pace.rate);
        [limit, pace].into_iter().flatten().min()
    }

    fn known<'a>(
        &self,
        said: &'a mut BTreeMap<Subject, Schedule>,
        way: Way,
        peer: Option<&PeerRecord>,
    ) -> &'a Schedule {
        said.entry((way, peer.map(|peer| peer.id))).or_insert_with(|| self.gather(way, peer))
    }

    /// Everything that was said about one cap.
    fn gather(&self, way: Way, peer: Option<&PeerRecord>) -> Schedule {
        let nothing = CapRules::default();
        let rules = peer.map_or(&self.whole, |peer| self.peers.get(peer.name.as_str()).unwrap_or(&nothing));
        let (rate, configured) = match way {
            Way::Sent => (&rules.rate, &rules.calendar),
            Way::Received => (&rules.receive, &rules.receive_calendar),
        };
        let recorded = peer.filter(|_| way == Way::Sent).and_then(|peer| peer.limit);
        let recorded = recorded.map(|limit| print_limit(Some(limit)));
        let [plain, calendar, once] = way.settings();
        let said = |what: &str| {
            self.store.setting(&setting(what, peer)).map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        let plain = said(plain).or(recorded).or_else(|| rate.clone());
        let calendar = said(calendar).or_else(|| configured.clone());
        let read = || {
            Ok::<_, String>(Schedule {
                plain: plain.map_or(Ok(None), |text| parse_limit(&text)).map_err(|error| error.to_string())?,
                calendar: Calendar::parse(&calendar.unwrap_or_default(), &self.zone)
                    .map_err(|error| error.to_string())?,
                once: said(once).map(|text| Kept::read(&text)).transpose()?,
            })
        };
        read().unwrap_or_else(|why| {
            tracing::error!(
                why,
                "what was said about a cap can't be read, and pauses: `narrowboat limit --as-configured` (with --receive for what is received) drops it"
            );
            Schedule::plain(Some(Rate::PAUSED))
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Subject, Schedule>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn of(once: &Override) -> String {
        let kept = Kept { limit: print_limit(once.limit), from: once.from.0, until: once.until.0 };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    fn read(text: &str) -> Result<Override, String> {
        let kept: Kept = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let limit = parse_limit(&kept.limit).map_err(|error| error.to_string())?;
        Ok(Override { limit, from: Timestamp(kept.from), until: Timestamp(kept.until) })
    }
}

fn setting(what: &str, peer: Option<&PeerRecord>) -> String {
    peer.map_or_else(|| what.to_owned(), |peer| format!("{what}/{}", peer.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn caps(folder: &std::path::Path, config: &str) -> Caps {
        let config: Config = toml::from_str(config).expect("a config");
        let (store, _) = crate::node::open_store(folder, &config).expect("a store");
        Caps::new(Arc::new(store), &config)
    }

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().expect("a rate"))
    }

    #[test]
    fn what_can_not_be_read_pauses_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let caps = caps(folder.path(), "wan.rate = '20Mbit'");
        let now = clock::wall();
        assert_eq!(caps.limit_at(Way::Sent, None, now), rate("20Mbit"));
        let [plain, calendar, once] = Way::Sent.settings();
        for (what, text) in [(plain, "fast"), (calendar, "at night 4Mbit"), (once, "{}"), (once, "soon")] {
            caps.store.set_setting(what, Some(text.as_bytes()), clock::now()).expect("set");
            caps.lock().clear();
            assert_eq!(caps.limit_at(Way::Sent, None, now), Some(Rate::PAUSED), "{what} {text}");
            caps.change(Way::Sent, None, Change::Forget).expect("dropped");
            assert_eq!(caps.limit_at(Way::Sent, None, now), rate("20Mbit"));
        }
    }

    #[test]
    fn an_override_made_by_a_clock_that_was_wrong_does_not_count_once_it_is_right() {
        let folder = tempfile::tempdir().expect("a folder");
        let caps = caps(folder.path(), "wan.rate = '20Mbit'");
        let at = |hours: i64| Timestamp(1_795_392_000_000_000_000 + hours * HOUR);
        let once = Override { limit: rate("1Mbit"), from: at(10_000), until: at(10_002) };
        caps.change(Way::Sent, None, Change::Override(Some(once))).expect("kept");
        caps.lock().clear();
        let counts = [9_999, 10_000, 10_001, 10_002].map(|hours| caps.limit_at(Way::Sent, None, at(hours)));
        assert_eq!(counts, [rate("20Mbit"), rate("1Mbit"), rate("1Mbit"), rate("20Mbit")]);
    }

    #[test]
    fn what_is_received_has_caps_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let caps =
            caps(folder.path(), "[wan]\nrate = '20Mbit'\nreceive = '6Mbit'\nreceive_calendar = '00:00-24:00 3Mbit'");
        let now = clock::wall();
        let counts = || [Way::Sent, Way::Received].map(|way| caps.limit_at(way, None, now));
        assert_eq!(counts(), [rate("20Mbit"), rate("3Mbit")]);
        caps.change(Way::Received, None, Change::Calendar(String::new())).expect("kept");
        caps.change(Way::Received, None, Change::Plain(rate("1Mbit"))).expect("kept");
        assert_eq!(counts(), [rate("20Mbit"), rate("1Mbit")]);
        caps.change(Way::Received, None, Change::Forget).expect("kept");
        assert_eq!(counts(), [rate("20Mbit"), rate("3Mbit")]);
    }
}
