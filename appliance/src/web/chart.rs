//! Charts, drawn here as SVG, for every browser and for who sees none.
//!
//! The drawing holds lines alone and is stretched to its place; words stand beside it as text of the page, so that they are as large on a telephone. Lines
//! differ by their strokes, not by their colours, and the figures are a table below.

use std::fmt::Write;

use askama::Template;

use super::show;

/// The drawing, in units of its own.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;
/// Most steps that a line has: more are put together.
const STEPS_MAX: u64 = 240;
/// Rows of the table, about.
const ROWS: u64 = 16;
const DAY: u64 = 86_400;

/// What becomes of values that are put together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// The latest counts: of what is held.
    Last,
    /// What they are on average: of what moved.
    Mean,
    /// The largest counts.
    Most,
}

/// What values are, and how they are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    BitsPerSecond,
    Seconds,
    /// So many to one.
    Ratio,
}

/// A line: values by when their step began.
pub(super) struct Line {
    pub name: &'static str,
    pub fold: Fold,
    pub values: Vec<(u64, f64)>,
}

/// A level that lines are measured by.
pub(super) struct Bound {
    pub name: &'static str,
    pub value: f64,
}

/// What a chart is of.
pub(super) struct Plot {
    pub title: &'static str,
    /// Unique on its page.
    pub id: &'static str,
    pub unit: Unit,
    /// The time that is shown, in seconds since 1970.
    pub from: u64,
    pub to: u64,
    /// How long a step is.
    pub step: u64,
    pub lines: Vec<Line>,
    pub bound: Option<Bound>,
}

/// A chart as a page shows it.
#[derive(Template)]
#[template(path = "chart.html")]
pub(super) struct Chart {
    title: &'static str,
    id: &'static str,
    /// All of it in a sentence, for who does not see it.
    says: String,
    legend: Vec<Key>,
    paths: Vec<(usize, String, Option<String>)>,
    bound: Option<f64>,
    heights: [String; 3],
    times: [String; 3],
    rows: Vec<(String, Vec<String>)>,
    width: f64,
    height: f64,
}

/// A line in the legend.
struct Key {
    /// Which stroke; nothing for the bound.
    nth: Option<usize>,
    name: &'static str,
    now: String,
}

impl Plot {
    /// Draws it.
    pub(super) fn draw(self) -> Chart {
        let length = self.to.saturating_sub(self.from).max(1);
        let step = self.longer(length.div_ceil(STEPS_MAX));
        let lines: Vec<Vec<(u64, f64)>> = self.lines.iter().map(|line| self.folded(line, step)).collect();
        let values = lines.iter().flatten().map(|(_, value)| *value);
        // A bound far above all of it would press them flat: it is told, and not drawn.
        let most = values.fold(0.0, f64::max);
        let drawn = self.bound.as_ref().map(|bound| bound.value).filter(|bound| *bound <= most * 20.0 || most == 0.0);
        let top = self.unit.nice(drawn.unwrap_or_default().max(most));
        let y = |value: f64| HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT;
        let x = |time: u64| (time.saturating_sub(self.from)) as f64 / length as f64 * WIDTH;
        let paths = lines.iter().enumerate().map(|(nth, values)| {
            let runs: Vec<&[(u64, f64)]> = values.chunk_by(|a, b| b.0 - a.0 <= step * 3 / 2).collect();
            let area = (nth == 0).then(|| runs.iter().map(|run| area(run, &x, &y)).collect());
            (nth + 1, runs.iter().map(|run| path(run, &x, &y)).collect(), area)
        });
        let paths = paths.collect();
        Chart {
            title: self.title,
            id: self.id,
            says: self.says(&lines),
            legend: self.legend(&lines),
            paths,
            bound: drawn.map(y),
            heights: [top, top / 2.0, 0.0].map(|value| self.unit.text(value)),
            times: [self.from, self.from + length / 2, self.to].map(|time| self.time(time, length)),
            rows: self.rows(length),
            width: WIDTH,
            height: HEIGHT,
        }
    }

    /// So many whole steps that they are at least as long as this: else some would hold two values and some none.
    fn longer(&self, than: u64) -> u64 {
        than.div_ceil(self.step).max(1) * self.step
    }

    /// A line's values by longer steps.
    fn folded(&self, line: &Line, step: u64) -> Vec<(u64, f64)> {
        let within = line.values.iter().filter(|(time, _)| (self.from..=self.to).contains(time));
        let within: Vec<(u64, f64)> = within.copied().collect();
        let groups = within.chunk_by(|a, b| (a.0 - self.from) / step == (b.0 - self.from) / step);
        let folded = groups.filter_map(|group| {
            let (first, last) = (group.first()?, group.last()?);
            let value = match line.fold {
                Fold::Last => last.1,
                Fold::Mean => group.iter().map(|(_, value)| value).sum::<f64>() / group.len() as f64,
                Fold::Most => group.iter().map(|(_, value)| *value).fold(0.0, f64::max),
            };
            Some((first.0, value))
        });
        folded.collect()
    }

    fn legend(&self, lines: &[Vec<(u64, f64)>]) -> Vec<Key> {
        let now = |values: &[(u64, f64)]| values.last().map_or("–".into(), |(_, value)| self.unit.text(*value));
        let keys = self.lines.iter().zip(lines).enumerate();
        let keys = keys.map(|(nth, (line, values))| Key { nth: Some(nth + 1), name: line.name, now: now(values) });
        let bound = self.bound.as_ref();
        let bound = bound.map(|bound| Key { nth: None, name: bound.name, now: self.unit.text(bound.value) });
        keys.chain(bound).collect()
    }

    fn says(&self, lines: &[Vec<(u64, f64)>]) -> String {
        let mut says = String::new();
        for (line, values) in self.lines.iter().zip(lines) {
            let Some((_, last)) = values.last() else { continue };
            let least = values.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
            let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
            let [least, most, last] = [least, most, *last].map(|value| self.unit.text(value));
            write!(says, "{}: from {least} to {most}, last {last}. ", line.name).unwrap_or_default();
        }
        if let Some(bound) = &self.bound {
            write!(says, "{}: {}.", bound.name, self.unit.text(bound.value)).unwrap_or_default();
        }
        says.trim_end().to_owned()
    }

    /// The figures, the newest first.
    fn rows(&self, length: u64) -> Vec<(String, Vec<String>)> {
        let step = self.longer(length / ROWS);
        let lines: Vec<Vec<(u64, f64)>> = self.lines.iter().map(|line| self.folded(line, step)).collect();
        let mut steps: Vec<u64> = lines.iter().flatten().map(|(time, _)| (time - self.from) / step).collect();
        steps.sort_unstable();
        steps.dedup();
        let cell = |values: &[(u64, f64)], nth: u64| {
            let found = values.iter().find(|(time, _)| (time - self.from) / step == nth);
            found.map_or("–".into(), |(_, value)| self.unit.text(*value))
        };
        let row = |nth: &u64| {
            let begun = show::at(self.from + nth * step, if step < DAY { "%-d %b, %H:%M" } else { "%-d %b %Y" });
            (begun, lines.iter().map(|values| cell(values, *nth)).collect())
        };
        steps.iter().rev().map(row).collect()
    }

    fn time(&self, time: u64, length: u64) -> String {
        const HALF_A_YEAR: u64 = 183 * DAY;
        let format = if length <= DAY { "%H:%M" } else { "%-d %b" };
        show::at(time, if length > HALF_A_YEAR { "%b %Y" } else { format })
    }
}

fn path(run: &[(u64, f64)], x: &dyn Fn(u64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let mut path = String::new();
    for (nth, (time, value)) in run.iter().enumerate() {
        write!(path, "{}{:.0} {:.1}", if nth == 0 { 'M' } else { 'L' }, x(*time), y(*value)).unwrap_or_default();
    }
    // One alone is a dot.
    path + if run.len() == 1 { "h.1" } else { "" }
}

fn area(run: &[(u64, f64)], x: &dyn Fn(u64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return String::new() };
    format!("{}L{:.0} {HEIGHT}L{:.0} {HEIGHT}Z", path(run, x, y).replace("h.1", ""), x(last.0), x(first.0))
}

impl Unit {
    /// A value as it is written.
    fn text(self, value: f64) -> String {
        match self {
            Unit::Bytes => show::size(&(value as u64)),
            Unit::BitsPerSecond => show::rate(&(value as u64)),
            Unit::Seconds => show::coarse(&(value as u64)),
            Unit::Ratio => format!("{value:.1} to 1"),
        }
    }

    /// The next round value that is not below this one.
    fn nice(self, value: f64) -> f64 {
        const TIMES: [f64; 10] =
            [60.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0, 86_400.0, 172_800.0];
        let step = match self {
            Unit::Seconds if value <= TIMES[9] => {
                return TIMES.into_iter().find(|top| value <= *top).unwrap_or(TIMES[9]);
            }
            Unit::Seconds => 86_400.0,
            Unit::Bytes => 1024_f64.powf(value.max(1.0).log(1024.0).floor()),
            Unit::BitsPerSecond => 1000.0,
            Unit::Ratio => 1.0,
        };
        let value = (value / step).max(1.0);
        let ten = 10_f64.powf(value.log10().floor());
        let round = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0].into_iter().find(|top| value <= top * ten).unwrap_or(10.0);
        step * round * ten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(unit: Unit, values: Vec<(u64, f64)>, bound: Option<f64>) -> Plot {
        let lines = vec![
            Line { name: "Used", fold: Fold::Last, values: values.clone() },
            Line { name: "Moved", fold: Fold::Mean, values },
        ];
        let bound = bound.map(|value| Bound { name: "The disk", value });
        Plot { title: "Room", id: "room", unit, from: 1_000_000, to: 1_000_000 + DAY, step: 300, lines, bound }
    }

    #[test]
    fn what_is_missing_is_a_gap_and_one_alone_a_dot() {
        let steps = (0..288).filter(|step| !(50..60).contains(step) && !(100..200).contains(step) || *step == 150);
        let values: Vec<(u64, f64)> = steps.map(|step| (1_000_000 + step * 300, 1e9)).collect();
        let chart = plot(Unit::Bytes, values, Some(4e9)).draw();
        let (_, line, area) = &chart.paths[0];
        assert_eq!((line.matches('M').count(), line.matches("h.1").count()), (4, 1), "{line}");
        assert!(area.as_ref().is_some_and(|area| area.matches('Z').count() == 4) && chart.paths[1].2.is_none());
        let text = chart.render().expect("a chart");
        assert!(text.contains("<title") && text.contains("Used: from 953.7 MiB to 953.7 MiB") && text.len() < 20_000);
        assert!(!text.contains("style=") && !text.contains("NaN") && !text.contains("inf"), "{text}");
        assert!((10..=20).contains(&chart.rows.len()), "{}", chart.rows.len());
        assert_eq!(chart.rows[0].1.len(), 2);
    }

    #[test]
    fn nothing_at_all_and_absurd_values_are_drawn_too() {
        for values in
            [vec![], vec![(1_000_000, 0.0)], vec![(1_000_000, u64::MAX as f64), (1_000_300, 0.0)], vec![(5, 1.0)]]
        {
            for unit in [Unit::Bytes, Unit::BitsPerSecond, Unit::Seconds, Unit::Ratio] {
                for bound in [None, Some(0.0), Some(u64::MAX as f64)] {
                    let text = plot(unit, values.clone(), bound).draw().render().expect("a chart");
                    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
                }
            }
        }
    }

    #[test]
    fn heights_are_round() {
        assert_eq!(Unit::Bytes.nice(3.2 * 1024.0 * 1024.0), 4.0 * 1024.0 * 1024.0);
        assert_eq!(Unit::Bytes.nice(1000.0 * 1024.0), 1000.0 * 1024.0);
        assert_eq!(Unit::BitsPerSecond.nice(14_200_000.0), 15_000_000.0);
        assert_eq!((Unit::Seconds.nice(4000.0), Unit::Seconds.nice(400_000.0)), (7200.0, 432_000.0));
        assert_eq!((Unit::Ratio.nice(0.0), Unit::Ratio.nice(21.0)), (1.0, 30.0));
        assert!(Unit::Bytes.nice(u64::MAX as f64) >= u64::MAX as f64);
    }

    #[test]
    fn values_that_are_put_together_keep_what_counts() {
        let values: Vec<(u64, f64)> = (0..288).map(|step| (1_000_000 + step * 300, step as f64)).collect();
        let plot = plot(Unit::Bytes, values.clone(), None);
        let folded = |fold| plot.folded(&Line { name: "x", fold, values: values.clone() }, 3000);
        assert_eq!(folded(Fold::Last)[0], (1_000_000, 9.0));
        assert_eq!(folded(Fold::Mean)[0], (1_000_000, 4.5));
        assert_eq!(folded(Fold::Most)[28], (1_000_000 + 280 * 300, 287.0));
    }
}
