//! The forms of a report: all of them say the same numbers.

use std::fmt::Write;

use super::answer::{Answer, Needed};
use super::spans::{Row, Rows};
use crate::units::{ByteSize, bit_rate, duration, rfc3339};

pub(crate) use crate::web::assessment::html;

/// Everything, for programs.
///
/// # Errors
/// Where a number can't be said in JSON.
pub fn json(answer: &Answer) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(answer)
}

/// What was measured, for tables: a row a look, as RFC 4180 has it.
pub fn csv(rows: &Rows) -> String {
    let mut text = String::from(
        "dataset,from,until,logical,files,changed,unique,unknown,compressed,packed,wire,back,error,seconds,unread\r\n",
    );
    for row in &rows.rows {
        let Row { logical, files, changed, unique, unknown, compressed, packed, wire, back, error, unread, .. } = row;
        let name = row.dataset.replace('"', "\"\"");
        // What begins like a formula would be taken for one.
        let name = if name.starts_with(['=', '+', '-', '@']) { format!("'{name}") } else { name };
        let (from, until) = (rfc3339(row.from), rfc3339(row.until));
        let numbers = [*logical, *files, *changed, *unique, *unknown, *compressed, *packed, *wire, *back, *error];
        let numbers = numbers.map(|number| number.to_string()).join(",");
        let _ = write!(text, "\"{name}\",{from},{until},{numbers},{:.3},{unread}\r\n", row.seconds);
    }
    text
}

/// The report for a terminal.
pub fn text(answer: &Answer) -> String {
    let mut text = format!("{}\n", answer.sentence);
    for line in &answer.missing {
        let _ = writeln!(text, "  NOT KNOWN: {line}");
    }
    if !answer.needed.is_empty() {
        text += "\nThe line that is needed, for the other box to be at most so far behind:\n";
        for row in answer.needed.chunk_by(|a, b| a.age_seconds == b.age_seconds) {
            let cells: Vec<String> = row.iter().map(cell).collect();
            let _ = writeln!(text, "  {:>8}   {}", duration(row[0].age_seconds as f64), cells.join("   "));
        }
    }
    if let Some(given) = &answer.given {
        let _ = writeln!(text, "\nA line of {}, used to {:.0} %:", bit_rate(given.bits as f64), given.used * 100.0);
        for (age, share) in &given.kept {
            let _ =
                writeln!(text, "  at most {:>8} behind for {:5.1} % of the time", duration(*age as f64), share * 100.0);
        }
        for outage in &given.outages {
            let felt =
                outage.catch_up_seconds.map_or("not in the time that was looked at".into(), |s| duration(s as f64));
            let _ = writeln!(text, "  an outage of {} h is made good after: {felt}", outage.hours);
        }
    }
    falls(&mut text, "From what changes to the wire", &answer.waterfall);
    if let Some(first) = &answer.first_copy {
        let _ = write!(text, "\nThe first copy: {} on the wire", ByteSize(first.bytes));
        let over = first.seconds.map(|seconds| format!(", {} over the line", duration(seconds as f64)));
        let carried =
            first.carried_seconds.map(|seconds| format!(", {} on a disk that is carried", duration(seconds as f64)));
        text += &[over, carried].into_iter().flatten().collect::<String>();
        text += "\n";
    }
    if let Some(volume) = &answer.volume {
        let _ = writeln!(text, "A month: {} on the line", ByteSize(volume.bytes_a_month));
    }
    text += "\nTaken to be so:\n";
    for line in &answer.assumptions {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn falls(text: &mut String, title: &str, steps: &[super::answer::Step]) {
    if !steps.is_empty() {
        let _ = writeln!(text, "\n{title}:");
    }
    for step in steps {
        let _ = writeln!(text, "  {:<20} {:>12}", step.name, ByteSize(step.bytes).to_string());
    }
}

fn cell(needed: &Needed) -> String {
    let share = if needed.share >= 1.0 { "always".to_owned() } else { format!("{:.0} %", needed.share * 100.0) };
    match (needed.bits, needed.no_line) {
        (Some(bits), _) => format!("{share}: {}", bit_rate(bits as f64)),
        (None, Some(best)) => format!("{share}: no line ({:.0} % at best)", best * 100.0),
        (None, None) => format!("{share}: –"),
    }
}
