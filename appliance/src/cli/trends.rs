//! `trends`: how the box did over time, as lines that a terminal can draw.

use std::process::ExitCode;

use super::show::table;
use super::{Context, Outcome};
use crate::control::Request;
use crate::trends::forecast::Forecast;
use crate::trends::{Point, Report, Span};
use crate::units::{ByteSize, duration};

/// Most steps that a line is drawn of: what terminals are wide, less the words around it.
const WIDTH: usize = 48;

pub(super) fn trends(context: &Context, span: Span) -> Outcome {
    if let Some(report) = context.ask::<Report>(&Request::Trends { span })? {
        show(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// What a line is called, what it is of, and how a value of it is written.
type Row<'a> = (&'a str, fn(&Point) -> u64, &'a dyn Fn(u64) -> String);

fn show(report: &Report) {
    let (Some(first), Some(last)) = (report.points.first(), report.points.last()) else {
        say!("nothing was sampled yet: the first minutes of a box show nothing");
        return;
    };
    let long = duration((last.time - first.time + report.step_seconds) as f64);
    say!("{} steps of {} in {long}, from left to right", report.points.len(), duration(report.step_seconds as f64));
    say!();
    let bytes = |value: u64| ByteSize(value).to_string();
    let seconds = |value: u64| duration(value as f64);
    let rows: [Row; 6] = [
        ("live data", |point| point.logical_bytes, &bytes),
        ("stored", |point| point.stored_bytes, &bytes),
        ("free on the disk", |point| point.disk_free_bytes, &bytes),
        ("sent", |point| point.sent_bytes, &bytes),
        ("received", |point| point.received_bytes, &bytes),
        ("longest lag", |point| point.lag_seconds.unwrap_or_default(), &seconds),
    ];
    let row = |(name, of, text): &Row| {
        let values: Vec<u64> = report.points.iter().map(of).collect();
        let [least, most] = [values.iter().min(), values.iter().max()].map(|value| value.copied().unwrap_or_default());
        vec![(*name).to_owned(), text(least), text(most), text(of(last)), line(&values)]
    };
    table(&["", "LEAST", "MOST", "NOW", "OVER TIME"], &rows.iter().map(row).collect::<Vec<_>>());
    if let Some(forecast) = &report.forecast {
        say!();
        say!("{}", leads(forecast));
    }
}

/// Where the disk leads, in a sentence.
fn leads(forecast: &Forecast) -> String {
    let days = |days: Option<f64>| days.map_or("never".into(), |days| format!("{days:.0} days"));
    match (forecast.full_in_days, forecast.earliest_in_days) {
        (None, None) => format!("at the pace of the last {} days the disk does not fill", forecast.days),
        (full, earliest) => format!(
            "at the pace of the last {} days the disk is full in: {} (earliest: {}, latest: {})",
            forecast.days,
            days(full),
            days(earliest),
            days(forecast.latest_in_days)
        ),
    }
}

/// Values as blocks of eight heights, the highest for the largest; several steps are one block where there are many.
fn line(values: &[u64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().max().unwrap_or_default().max(1) as f64;
    let group = values.len().div_ceil(WIDTH).max(1);
    let heights = values.chunks(group).map(|group| {
        let highest = group.iter().copied().max().unwrap_or_default();
        BLOCKS[((highest as f64 / most * 7.0).round() as usize).min(7)]
    });
    heights.collect()
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn lines_fit_and_show_what_is_high() {
        assert_eq!(line(&[0, 7, 14, 3]), "▁▅█▃");
        assert_eq!(line(&[0, 0]), "▁▁");
        assert_eq!(line(&[]), "");
        assert_eq!(line(&vec![5; 576]).chars().count(), 48);
    }
}
