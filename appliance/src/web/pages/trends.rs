//! How the box did, as charts.

use std::sync::Arc;

use crate::clock;
use crate::control::Failed;
use crate::control::reports::Status;
use crate::trends::{Point, Report, Span};
use crate::web::chart::{Bound, Chart, Fold, Line, Plot, Unit};
use crate::web::visitor::Signed;

/// The time that charts are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Over {
    pub(super) const ALL: [Over; 5] = [Over::Hour, Over::Day, Over::Week, Over::Month, Over::Year];

    /// By its name in an address; a week where that says nothing.
    pub(super) fn named(name: &str) -> Over {
        Over::ALL.into_iter().find(|over| over.name() == name).unwrap_or(Over::Week)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Over::Hour => "hour",
            Over::Day => "day",
            Over::Week => "week",
            Over::Month => "month",
            Over::Year => "year",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Over::Hour => 3600,
            Over::Day => 86_400,
            Over::Week => 7 * 86_400,
            Over::Month => 31 * 86_400,
            Over::Year => 366 * 86_400,
        }
    }

    fn span(self) -> Span {
        match self {
            Over::Hour | Over::Day => Span::Days,
            Over::Week | Over::Month => Span::Months,
            Over::Year => Span::Years,
        }
    }
}

/// What there is to draw of that time.
pub(super) async fn report(signed: &Signed, over: Over) -> Result<Arc<Report>, Failed> {
    signed.web.live.trends(&signed.visitor, over.span()).await
}

/// Draws it: what is free, what is saved, the lines, and how far peers are behind.
pub(super) fn charts(report: &Report, status: &Status, over: Over) -> Vec<Chart> {
    let drawing = Drawing { report, over, now: u64::try_from(clock::wall().seconds()).unwrap_or_default() };
    let mut charts = vec![drawing.room(), drawing.saved()];
    if !status.peers.is_empty() {
        charts.extend([drawing.moved(status), drawing.lag()]);
    }
    charts
}

/// The same without what is saved.
pub(super) fn few(report: &Report, status: &Status, over: Over) -> Vec<Chart> {
    let drawing = Drawing { report, over, now: u64::try_from(clock::wall().seconds()).unwrap_or_default() };
    let mut charts = vec![drawing.room()];
    if !status.peers.is_empty() {
        charts.extend([drawing.moved(status), drawing.lag()]);
    }
    charts
}

/// Of the lines alone.
pub(super) fn of_peers(report: &Report, status: &Status, over: Over) -> Vec<Chart> {
    let drawing = Drawing { report, over, now: u64::try_from(clock::wall().seconds()).unwrap_or_default() };
    vec![drawing.moved(status), drawing.lag()]
}

struct Drawing<'a> {
    report: &'a Report,
    over: Over,
    now: u64,
}

impl Drawing<'_> {
    fn plot(&self, title: &'static str, id: &'static str, unit: Unit, lines: Vec<Line>, bound: Option<Bound>) -> Chart {
        let (from, step) = (self.now.saturating_sub(self.over.seconds()), self.report.step_seconds.max(1));
        Plot { title, id, unit, from, to: self.now, step, lines, bound }.draw()
    }

    fn line(&self, name: &'static str, fold: Fold, of: impl Fn(&Point) -> Option<f64>) -> Line {
        let values = self.report.points.iter().filter_map(|point| Some((point.time, of(point)?)));
        Line { name, fold, values: values.collect() }
    }

    fn room(&self) -> Chart {
        let used = |point: &Point| Some(point.disk_bytes.saturating_sub(point.disk_free_bytes) as f64);
        let lines = vec![
            self.line("Used on the disk", Fold::Last, used),
            self.line("Of it, by this box", Fold::Last, |point| Some(point.folder_bytes as f64)),
        ];
        let size = self.report.points.last().map(|point| point.disk_bytes as f64).filter(|size| *size > 0.0);
        self.plot("Room on the disk", "room", Unit::Bytes, lines, size.map(|value| Bound { name: "Size", value }))
    }

    fn saved(&self) -> Chart {
        let by = |part: fn(&Point) -> u64| {
            move |point: &Point| {
                let whole = point.protected_bytes.max(point.logical_bytes) as f64;
                (part(point) > 0).then(|| whole / part(point) as f64)
            }
        };
        let lines = vec![
            self.line("Deduplicated and compressed", Fold::Last, by(|point| point.stored_bytes)),
            self.line("Deduplicated alone", Fold::Last, by(|point| point.unique_bytes)),
        ];
        self.plot("What is saved", "saved", Unit::Ratio, lines, None)
    }

    fn moved(&self, status: &Status) -> Chart {
        let step = self.report.step_seconds.max(1) as f64;
        // A step that is not over yet has moved less than it will have.
        let over = |point: &Point| point.time + self.report.step_seconds <= self.now;
        let rate = |point: &Point, bytes: u64| over(point).then(|| bytes as f64 * 8.0 / step);
        let lines = vec![
            self.line("Sent to peers", Fold::Mean, |point| rate(point, point.sent_bytes)),
            self.line("Received", Fold::Mean, |point| rate(point, point.received_bytes)),
        ];
        // The box's own, or that of its only peer.
        let own = status.cap.as_ref().and_then(|cap| cap.limit);
        let only = if let [peer] = &status.peers[..] { peer.limit } else { None };
        let cap = own.into_iter().chain(only).min().map(|bits| Bound { name: "Limit now", value: bits as f64 });
        self.plot("The lines", "moved", Unit::BitsPerSecond, lines, cap)
    }

    fn lag(&self) -> Chart {
        let lines = vec![self.line("The peer that is furthest behind", Fold::Most, |point| {
            point.lag_seconds.map(|seconds| seconds as f64)
        })];
        self.plot("How old copies are", "lag", Unit::Seconds, lines, None)
    }
}
