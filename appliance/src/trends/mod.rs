//! How the box did over hours, weeks and years: sampled every minute, kept in rings that never grow, and asked where that leads.

pub mod forecast;
mod ring;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::control::Failed;
use crate::control::reports::Status;
use forecast::Forecast;
use ring::{Ring, Shape, Slot, VALUES};

/// Their folder in the data folder.
const FOLDER: &str = "trends";
/// How often a sample is taken.
pub const EVERY: Duration = Duration::from_secs(60);
/// No lag, for nothing is sent to anybody.
const NO_LAG: u64 = u64::MAX;

/// Which of the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Span {
    /// Two days, by five minutes.
    Days,
    /// Two months, by hours.
    Months,
    /// Five years, by days.
    Years,
}

impl Span {
    const ALL: [Span; 3] = [Span::Days, Span::Months, Span::Years];

    fn shape(self) -> Shape {
        match self {
            Span::Days => Shape { seconds: 300, slots: 576 },
            Span::Months => Shape { seconds: 3600, slots: 1440 },
            Span::Years => Shape { seconds: 86_400, slots: 1826 },
        }
    }

    fn file(self) -> &'static str {
        match self {
            Span::Days => "fine.ring",
            Span::Months => "hours.ring",
            Span::Years => "days.ring",
        }
    }
}

/// What a box held and moved in a step of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "TrendPoint")]
pub struct Point {
    /// When the step began, in seconds since 1970.
    pub time: u64,
    /// What clients saw.
    pub logical_bytes: u64,
    /// The same over all snapshots.
    pub protected_bytes: u64,
    /// What was left after deduplication.
    pub unique_bytes: u64,
    /// What was left after compression.
    pub stored_bytes: u64,
    /// All of the data folder.
    pub folder_bytes: u64,
    /// The size of the disk.
    pub disk_bytes: u64,
    /// What was free of it.
    pub disk_free_bytes: u64,
    /// What was sent to peers in the step.
    pub sent_bytes: u64,
    /// What was received from them.
    pub received_bytes: u64,
    /// By how many seconds the peer was behind that was furthest behind.
    pub lag_seconds: Option<u64>,
    /// Objects that were known to be damaged.
    pub damaged_objects: u64,
}

/// Points of a span, and where they lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Trends")]
pub struct Report {
    /// The length of a step in seconds.
    pub step_seconds: u64,
    /// The oldest first; steps in which the box did not run are missing.
    pub points: Vec<Point>,
    /// Where the disk leads, going by the last two months; nothing where nobody knows yet.
    #[serde(default)]
    pub forecast: Option<Forecast>,
    /// After how many days it is full; nothing where it does not fill, or nobody knows yet.
    pub full_in_days: Option<f64>,
}

/// The rings of a box.
pub struct Trends(Mutex<Known>);

struct Known {
    rings: Vec<(Span, Ring)>,
    /// What had been sent and received at the last sample, since the box started.
    moved: Option<(u64, u64)>,
}

impl Trends {
    /// Opens those of a data folder. A folder that can't have them is none the worse for it.
    pub fn open(data: &Path) -> Trends {
        let folder = data.join(FOLDER);
        let open = |span: Span| Ok((span, Ring::open(&folder.join(span.file()), span.shape())?));
        let rings =
            fs::create_dir_all(&folder).and_then(|()| Span::ALL.into_iter().map(open).collect::<io::Result<_>>());
        let rings = rings.unwrap_or_else(|error| {
            tracing::warn!(%error, "there will be no trends");
            Vec::new()
        });
        Trends(Mutex::new(Known { rings, moved: None }))
    }

    /// Takes a sample, at `time` in seconds since 1970.
    pub fn sample(&self, status: &Status, time: u64) {
        let mut known = self.lock();
        let sum = |of: fn(&crate::control::reports::Peer) -> u64| status.peers.iter().map(of).sum::<u64>();
        let moved = (sum(|peer| peer.wire_bytes_sent), sum(|peer| peer.wire_bytes_received));
        // A peer that went took its count along; of what moved meanwhile nobody knows.
        let before = known.moved.replace(moved).unwrap_or(moved);
        let since = (moved.0.saturating_sub(before.0), moved.1.saturating_sub(before.1));
        let lags = status.peers.iter().flat_map(|peer| &peer.lag).map(|lag| lag.seconds.max(0.0) as u64);
        let point = Point {
            time,
            logical_bytes: status.written_bytes(),
            protected_bytes: status.protected_bytes,
            unique_bytes: status.unique_bytes,
            stored_bytes: status.stored_bytes,
            folder_bytes: status.folder_bytes,
            disk_bytes: status.disk_bytes,
            disk_free_bytes: status.disk_free_bytes,
            sent_bytes: since.0,
            received_bytes: since.1,
            lag_seconds: lags.max(),
            damaged_objects: status.damaged_objects as u64,
        };
        for (span, ring) in &known.rings {
            if let Err(error) = add(ring, &point) {
                tracing::debug!(?span, %error, "a sample could not be kept");
            }
        }
    }

    /// All points of a span, and where they lead.
    pub fn report(&self, span: Span) -> Result<Report, Failed> {
        let now = u64::try_from(clock::wall().seconds()).unwrap_or_default();
        let known = self.lock();
        let read = |wanted: Span| {
            let ring = known.rings.iter().find(|(span, _)| *span == wanted).map(|(_, ring)| ring.all(now));
            let slots = ring.unwrap_or_else(|| Ok(Vec::new()));
            let failed = |error: io::Error| Failed::environment(format!("the trends can't be read: {error}"));
            Ok::<_, Failed>(slots.map_err(failed)?.into_iter().map(Point::from).collect::<Vec<_>>())
        };
        let months = read(Span::Months)?;
        let forecast = forecast::forecast(&months);
        let points = if span == Span::Months { months } else { read(span)? };
        let full_in_days = forecast.and_then(|forecast| forecast.full_in_days);
        Ok(Report { step_seconds: span.shape().seconds.into(), points, forecast, full_in_days })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is held is of the latest sample; what moved adds up; of lags the longest counts.
fn add(ring: &Ring, point: &Point) -> io::Result<()> {
    let mut point = point.clone();
    if let Some(before) = ring.get(point.time)?.map(Point::from) {
        point.sent_bytes += before.sent_bytes;
        point.received_bytes += before.received_bytes;
        point.lag_seconds = point.lag_seconds.max(before.lag_seconds);
    }
    ring.put(point.time, point.values())
}

impl Point {
    fn values(&self) -> [u64; VALUES] {
        [
            self.logical_bytes,
            self.protected_bytes,
            self.unique_bytes,
            self.stored_bytes,
            self.folder_bytes,
            self.disk_bytes,
            self.disk_free_bytes,
            self.sent_bytes,
            self.received_bytes,
            self.lag_seconds.unwrap_or(NO_LAG),
            self.damaged_objects,
        ]
    }
}

impl From<Slot> for Point {
    fn from(Slot { time, values }: Slot) -> Point {
        let [logical_bytes, protected_bytes, unique_bytes, stored_bytes, folder_bytes, disk_bytes, ..] = values;
        let [.., disk_free_bytes, sent_bytes, received_bytes, lag, damaged_objects] = values;
        Point {
            time,
            logical_bytes,
            protected_bytes,
            unique_bytes,
            stored_bytes,
            folder_bytes,
            disk_bytes,
            disk_free_bytes,
            sent_bytes,
            received_bytes,
            lag_seconds: (lag != NO_LAG).then_some(lag),
            damaged_objects,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reports::{Lag, Peer};

    #[test]
    fn what_moved_adds_up_and_what_is_held_is_the_latest() {
        let data = tempfile::tempdir().expect("a folder");
        let trends = Trends::open(data.path());
        let now = u64::try_from(clock::wall().seconds()).expect("after 1970") / 86_400 * 86_400;
        let lag = |seconds: f64| Lag {
            dataset: "a".into(),
            newest_there: "b".into(),
            time: String::new(),
            seconds,
            snapshots_behind: 0,
        };
        for (minute, sent, seconds) in [(0, 1000, 5.0), (1, 1500, 90.0), (2, 1700, 7.0), (6, 1800, 8.0), (7, 50, 9.0)] {
            let peer = Peer { wire_bytes_sent: sent, lag: vec![lag(seconds)], ..Peer::default() };
            let status = Status { stored_bytes: 100 + minute, peers: vec![peer], ..Status::default() };
            trends.sample(&status, now - 3600 + 60 * minute);
        }
        let fine = trends.report(Span::Days).expect("readable");
        assert_eq!(fine.points.len(), 2);
        assert_eq!(
            (fine.points[0].sent_bytes, fine.points[0].stored_bytes, fine.points[0].lag_seconds),
            (700, 102, Some(90))
        );
        assert_eq!(
            (fine.points[1].sent_bytes, fine.points[1].stored_bytes),
            (100, 107),
            "a count that began anew is none"
        );
        let hours = trends.report(Span::Months).expect("readable");
        assert_eq!((hours.points.len(), hours.points[0].sent_bytes, hours.points[0].lag_seconds), (1, 800, Some(90)));
        drop(trends);
        let again = Trends::open(data.path());
        assert_eq!(again.report(Span::Years).expect("readable").points.len(), 1, "a restart loses nothing");
        again.sample(&Status::default(), now - 1800);
        assert_eq!(again.report(Span::Days).expect("readable").points[2].lag_seconds, None);
    }
}
