//! The past of a dataset as a line, drawn on the server: snapshots, marks, and what was written when.
//!
//! Places are percent of the width, sizes are pixels: so a line is as wide as there is room, and nothing in it is distorted. What would lie on
//! top of one another is drawn as one, with its number.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::control::reports::{Moment, Timeline};
use crate::web::show;

/// How far apart dots are at least, in thousandths of the line: closer ones would lie on top of one another.
const APART: i128 = 30;
/// Bars for what was written.
const BARS: i64 = 90;
/// Height of the tallest bar.
const BAR_PIXELS: f64 = 34.0;
/// Where the line's ends are, in percent.
const MARGIN: f64 = 2.0;

/// From when to when a line goes, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub from: i64,
    pub until: i64,
}

/// A moment that has a name, or several that are close.
pub(super) struct Dot {
    /// Percent of the width.
    pub x: String,
    pub count: usize,
    /// Where it leads.
    pub to: To,
    pub title: String,
}

/// Where a dot leads.
pub(super) enum To {
    /// To files at this moment.
    Moment(String),
    /// To these moments alone.
    Closer(Range),
}

/// What was written for a while.
pub(super) struct Bar {
    pub x: String,
    pub width: String,
    /// From the top, in pixels.
    pub y: String,
    pub height: String,
    /// The moment behind it.
    pub until: String,
    pub title: String,
}

/// A time below the line.
pub(super) struct Tick {
    pub x: String,
    pub text: String,
    /// Left out where there is little room.
    pub spare: bool,
}

/// A line that was drawn.
pub(super) struct Drawing {
    pub ticks: Vec<Tick>,
    /// Where it begins and how wide it is: any moment in it can be named.
    pub window: Option<(String, String)>,
    pub bars: Vec<Bar>,
    pub snapshots: Vec<Dot>,
    pub marks: Vec<Dot>,
}

/// Seconds since 1970 of a time in RFC 3339.
pub(super) fn second(rfc3339: &str) -> Option<i64> {
    rfc3339.parse::<Timestamp>().ok().map(|moment| moment.as_second())
}

/// The same in RFC 3339; empty where no calendar has it.
pub(super) fn moment(second: i64) -> String {
    Timestamp::from_second(second).map(|moment| moment.to_string()).unwrap_or_default()
}

impl Range {
    /// Whether a moment lies in it.
    pub(super) fn has(self, second: i64) -> bool {
        (self.from..=self.until).contains(&second)
    }

    fn seconds(self) -> i64 {
        (self.until - self.from).max(1)
    }

    /// The place of a moment among so many.
    fn place(self, second: i64, places: i64) -> i64 {
        let passed = i128::from(second - self.from) * i128::from(places) / i128::from(self.seconds());
        i64::try_from(passed).unwrap_or(0).clamp(0, places - 1)
    }

    fn percent(self, second: i64) -> f64 {
        let part = (second.clamp(self.from, self.until) - self.from) as f64 / self.seconds() as f64;
        MARGIN + part * (100.0 - 2.0 * MARGIN)
    }

    fn x(self, second: i64) -> String {
        format!("{:.2}", self.percent(second))
    }
}

/// Draws a line.
pub(super) fn draw(timeline: &Timeline, range: Range) -> Drawing {
    let of = |kind: &str| {
        let moments = timeline.moments.iter().filter(|moment| moment.kind == kind);
        dots(moments.filter_map(|moment| Some((second(&moment.time)?, moment))), range)
    };
    let window = timeline.window.as_ref().and_then(|window| {
        let (first, last) = (second(&window.first)?, second(&window.last)?);
        let (from, until) = (range.percent(first), range.percent(last));
        (last >= range.from).then(|| (format!("{from:.2}"), format!("{:.2}", (until - from).max(0.4))))
    });
    Drawing { ticks: ticks(range), window, bars: bars(timeline, range), snapshots: of("snapshot"), marks: of("mark") }
}

fn dots<'a>(moments: impl Iterator<Item = (i64, &'a Moment)>, range: Range) -> Vec<Dot> {
    let mut moments: Vec<(i64, &Moment)> = moments.filter(|(second, _)| range.has(*second)).collect();
    moments.sort_by_key(|(second, _)| *second);
    let apart = i128::from(range.seconds()) * APART / 1000;
    let close = moments.chunk_by({
        let mut first = None;
        move |(one, _), (next, _)| {
            let begun = *first.get_or_insert(*one);
            let together = i128::from(*next) - i128::from(begun) <= apart;
            first = if together { Some(begun) } else { None };
            together
        }
    });
    let dot = |close: &[(i64, &Moment)]| {
        let ((first, one), (last, _)) = (*close.first()?, *close.last()?);
        let alone = close.len() == 1;
        Some(Dot {
            x: range.x(first),
            count: close.len(),
            title: match alone {
                true => format!("{}, {}", show::snapshot(&one.name), show::precisely(&one.time)),
                false => {
                    format!("{} from {} to {}", close.len(), show::when(&moment(first)), show::when(&moment(last)))
                }
            },
            to: match alone {
                true => To::Moment(one.name.clone()),
                false => To::Closer(Range { from: first, until: last.max(first + 1) }),
            },
        })
    };
    close.filter_map(dot).collect()
}

fn bars(timeline: &Timeline, range: Range) -> Vec<Bar> {
    let mut places: BTreeMap<i64, (i64, i64, u64)> = BTreeMap::new();
    for step in &timeline.written {
        let (Some(from), Some(until)) = (second(&step.from), second(&step.until)) else { continue };
        if step.bytes == 0 || until < range.from || from > range.until {
            continue;
        }
        let place = places.entry(range.place(from + (until - from) / 2, BARS)).or_insert((from, until, 0));
        *place = (place.0.min(from), place.1.max(until), place.2.saturating_add(step.bytes));
    }
    let most = places.values().map(|(.., bytes)| *bytes).max().unwrap_or(1) as f64;
    let bar = |(from, until, bytes): (i64, i64, u64)| {
        let (left, right) = (range.percent(from), range.percent(until));
        // The root: a little beside much is still to be seen.
        let height = ((bytes as f64 / most).sqrt() * BAR_PIXELS).max(2.0);
        Bar {
            x: format!("{left:.2}"),
            width: format!("{:.2}", (right - left).max(0.35)),
            y: format!("{:.1}", 118.0 - height),
            height: format!("{height:.1}"),
            until: moment(until),
            title: format!(
                "{} written from {} to {}",
                show::size(&bytes),
                show::when(&moment(from)),
                show::when(&moment(until))
            ),
        }
    };
    places.into_values().map(bar).collect()
}

fn ticks(range: Range) -> Vec<Tick> {
    const COUNT: i64 = 7;
    let day = range.seconds() <= 2 * 86_400;
    let tick = |nth: i64| {
        let second = range.from + range.seconds() / (2 * COUNT) * (2 * nth + 1);
        let text = if day {
            show::time_of_day(&moment(second))
        } else {
            show::day(&moment(second), range.seconds() > 300 * 86_400)
        };
        Tick { x: range.x(second), text, spare: nth % 2 == 1 }
    };
    (0..COUNT).map(tick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reports::Written;

    fn named(kind: &str, second: i64) -> Moment {
        Moment {
            kind: kind.into(),
            name: format!("{kind}-{second}"),
            time: moment(second),
            quiet: None,
            consistency: None,
        }
    }

    fn timeline(moments: Vec<Moment>, written: Vec<Written>) -> Timeline {
        Timeline { dataset: "office".into(), window: None, moments, written }
    }

    #[test]
    fn what_is_close_is_one_dot_and_nothing_is_left_out() {
        let range = Range { from: 0, until: 6000 };
        let moments = [0, 10, 20, 3000, 6000, 6001, -1].map(|second| named("snapshot", second)).to_vec();
        let drawing = draw(&timeline(moments, Vec::new()), range);
        let counts: Vec<usize> = drawing.snapshots.iter().map(|dot| dot.count).collect();
        assert_eq!(counts, [3, 1, 1], "and what lies outside is elsewhere");
        assert!(matches!(drawing.snapshots[0].to, To::Closer(Range { from: 0, until: 20 })));
        assert!(matches!(&drawing.snapshots[1].to, To::Moment(name) if name == "snapshot-3000"));
        assert_eq!((drawing.snapshots[2].x.as_str(), drawing.marks.len()), ("98.00", 0));
        let many = (0..10_000).map(|second| named("mark", second)).collect();
        let drawing = draw(&timeline(many, Vec::new()), Range { from: 0, until: 9999 });
        assert!((30..=34).contains(&drawing.marks.len()), "{}", drawing.marks.len());
        assert_eq!(drawing.marks.iter().map(|dot| dot.count).sum::<usize>(), 10_000);
    }

    #[test]
    fn a_little_beside_much_is_still_to_be_seen() {
        let step =
            |from, until, bytes| Written { from: moment(from), until: moment(until), bytes, bytes_per_second: 1.0 };
        let written = vec![step(0, 100, 1), step(500, 600, 1 << 40), step(600, 700, 0), step(5000, 6000, 7)];
        let drawing = draw(&timeline(Vec::new(), written), Range { from: 0, until: 1000 });
        let heights: Vec<&str> = drawing.bars.iter().map(|bar| bar.height.as_str()).collect();
        assert_eq!(heights, ["2.0", "34.0"]);
        assert_eq!((drawing.ticks.len(), drawing.bars[0].until.as_str()), (7, "1970-01-01T00:01:40Z"));
    }

    #[test]
    fn odd_times_break_nothing() {
        let odd = Moment { time: "out of range".into(), ..named("mark", 0) };
        for range in [Range { from: 5, until: 5 }, Range { from: i64::MIN / 4, until: i64::MAX / 4 }] {
            let drawing = draw(&timeline(vec![odd.clone(), named("mark", 5)], Vec::new()), range);
            assert!(drawing.marks.len() == 1 && drawing.ticks.len() == 7);
        }
    }
}
