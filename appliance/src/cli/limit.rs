//! `limit`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::show::size;
use super::{Context, Outcome};
use crate::control::reports::{CaughtUp, Explained, ExplainedPeer, Limit, Recovery};
use crate::control::{Failed, Request};
use crate::units::{bit_rate, duration, local_time};

/// What `limit --help` ends with.
pub(super) const HELP: &str = "\
A calendar has a rule a line, [DATES] [DAYS] [HOURS] RATE; where several hold, the first counts, and dates outrank the week:

  zone Europe/London                # where nothing is said: time_zone of the config file, else the system's
  mon-fri 12:00-13:00      8Mbit
  mon-fri 08:00-18:00      4Mbit
  sat-sun                  unlimited
  2026-12-24..2027-01-01   20Mbit
  2026-12-31 06:00-12:00   pause

Hours are those that the clock on the wall shows: where it skips an hour, so does the calendar; an hour that it shows twice
is there twice. The calendar can stand in the config file, too (wan.calendar, peer.NAME.calendar).

  narrowboat limit --rate 20Mbit                       the plain rate of the box
  narrowboat limit --calendar office.txt               what counts instead in some hours
  narrowboat limit --rate pause --for 90min            a video conference
  narrowboat limit --resume                            ... that was over early
  narrowboat limit head-office --rate 5Mbit            what goes to one peer
  narrowboat limit --receive --rate 8Mbit              what comes from all peers together
  narrowboat limit --explain                           what counts now, and when peers will have caught up";

/// The longest calendar that is read, in bytes.
const CALENDAR_BYTES_MAX: u64 = 64 << 10;

/// What the command line asks for.
pub(super) struct Wish {
    pub(super) peer: Option<String>,
    pub(super) rate: Option<String>,
    pub(super) seconds: Option<u64>,
    pub(super) calendar: Option<PathBuf>,
    pub(super) resume: bool,
    pub(super) as_configured: bool,
    pub(super) receive: bool,
}

pub(super) fn limit(context: &Context, wish: Wish) -> Outcome {
    let Wish { peer, rate, seconds, calendar, resume, as_configured, receive } = wish;
    let plain_asked = rate.is_some() && seconds.is_none();
    let calendar = calendar.as_deref().map(read_calendar).transpose()?;
    let request = Request::Limit { peer, rate, seconds, calendar, resume, as_configured, receive };
    if let Some(limit) = context.ask::<Limit>(&request)? {
        say!("cap of {}: {}", whose(&limit), limit_line(&limit));
        show_reason(&limit, "  ");
        if plain_asked && limit.reason != "rate" {
            say!(
                "  the plain rate, {}, counts when that is over; `--for` lets a rate count at once",
                limit_text(limit.rate)
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_calendar(file: &Path) -> Result<String, Failed> {
    let wrong = |why: String| Failed::refused(format!("the calendar {}: {why}", file.display()));
    if file == Path::new("none") {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    let read = |from: &mut dyn Read, bytes: &mut Vec<u8>| from.take(CALENDAR_BYTES_MAX + 1).read_to_end(bytes);
    let outcome = match file == Path::new("-") {
        true => read(&mut std::io::stdin(), &mut bytes),
        false => std::fs::File::open(file).and_then(|mut file| read(&mut file, &mut bytes)),
    };
    outcome.map_err(|error| wrong(format!("can't be read: {error}")))?;
    if bytes.len() as u64 > CALENDAR_BYTES_MAX {
        return Err(wrong(format!("is longer than {}", size(CALENDAR_BYTES_MAX))));
    }
    String::from_utf8(bytes).map_err(|_| wrong("is no text".into()))
}

/// A cap for people.
pub(super) fn limit_text(limit: Option<u64>) -> String {
    match limit {
        None => "none".into(),
        Some(0) => "paused".into(),
        Some(bits) => bit_rate(bits as f64),
    }
}

fn whose(limit: &Limit) -> String {
    match (&limit.peer, limit.receive) {
        (None, false) => "the whole box".to_owned(),
        (None, true) => "what the whole box receives".to_owned(),
        (Some(peer), false) => format!("what goes to {peer}"),
        (Some(peer), true) => format!("what comes from {peer}"),
    }
}

/// " until Mon 2026-11-23 18:00, then 20.00 Mbit/s", or nothing.
fn until(limit: &Limit) -> String {
    let Some(until) = &limit.until else { return String::new() };
    format!(" until {}, then {}", local_time(until, limit.zone.as_deref()), limit_text(limit.then))
}

/// A cap and until when it counts, in one line.
pub(super) fn limit_line(limit: &Limit) -> String {
    format!("{}{}", limit_text(limit.limit), until(limit))
}

fn show_reason(limit: &Limit, indent: &str) {
    let zone = limit.zone.as_deref().unwrap_or("the system's time zone");
    match (limit.reason.as_str(), &limit.rule) {
        ("override", _) => {
            let peer = limit.peer.as_ref().map(|peer| format!(" {peer}")).unwrap_or_default();
            let receive = if limit.receive { " --receive" } else { "" };
            say!("{indent}by an override; `narrowboat limit{peer}{receive} --resume` ends it");
        }
        (_, Some(rule)) => say!("{indent}by the rule \"{rule}\" ({zone})"),
        _ if !limit.calendar.is_empty() => say!("{indent}no rule of the calendar holds now ({zone})"),
        _ => {}
    }
}

pub(super) fn explain(context: &Context, peer: Option<String>) -> Outcome {
    if let Some(explained) = context.ask::<Explained>(&Request::LimitExplain { peer })? {
        show(&explained);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(explained: &Explained) {
    let zone = explained.whole.zone.as_deref();
    say!("now           {}", local_time(&explained.time, zone));
    say!("the box       {}", limit_line(&explained.whole));
    show_reason(&explained.whole, "              ");
    if let Some(received) = &explained.whole_received {
        say!("  receives    {}", limit_line(received));
        show_reason(received, "              ");
    }
    for peer in &explained.peers {
        show_peer(peer, zone);
    }
}

fn show_peer(peer: &ExplainedPeer, zone: Option<&str>) {
    let cap = &peer.cap;
    say!();
    say!("{:<13} {}", cap.peer.as_deref().unwrap_or("-"), limit_line(cap));
    show_reason(cap, "              ");
    say!("  counts      {}, sending {} now", limit_text(peer.in_force), bit_rate(peer.sending as f64));
    if let Some(granted) = peer.granted {
        say!("  it takes    {}: its own cap of what it receives", limit_text(Some(granted)));
    }
    if let Some(received) = &peer.received {
        say!("  receives    {}, receiving {} now", limit_line(received), bit_rate(peer.receiving as f64));
        show_reason(received, "              ");
    }
    if let Some(recovery) = &peer.recovery {
        say!("  recovery    {}", recovery_text(recovery, zone));
    }
    if let Some(line) = peer.line {
        say!("  its line    takes {} at most, lately", bit_rate(line as f64));
    }
    if let Some(dataset) = peer.behind.first() {
        say!("  lacks       the newest of {}: {} on the wire at most", peer.behind.join(", "), size(peer.left_bytes));
        if peer.under_way == 0 {
            let name = cap.peer.as_deref().unwrap_or("PEER");
            say!("              nothing of it is under way; `narrowboat replicate {dataset} --to {name}` begins it");
        }
    }
    say!("  caught up   {}", caught_up(&peer.caught_up, zone));
}

fn recovery_text(recovery: &Recovery, zone: Option<&str>) -> String {
    let due = format!("within {}, by {}", duration(recovery.seconds as f64), local_time(&recovery.deadline, zone));
    match (recovery.misses_bytes, recovery.pace) {
        (0, Some(pace)) => format!("{due}: {} are enough", bit_rate(pace as f64)),
        (0, None) => format!("{due}: just met, if the line gives all that the cap allows"),
        (bytes, _) => {
            format!("{due}: MISSED by {} at the most; raise the cap or open hours of the calendar", size(bytes))
        }
    }
}

fn caught_up(answer: &CaughtUp, zone: Option<&str>) -> String {
    match answer {
        CaughtUp::Now => "now: it has the newest of all that was ever sent to it".into(),
        CaughtUp::At { time, seconds } => {
            format!("at {}, in {}, if not before", local_time(time, zone), duration(*seconds as f64))
        }
        CaughtUp::Never => {
            "never, at this calendar: no hour of it lets anything pass; raise the cap, or remove a pause".into()
        }
        CaughtUp::After { time } => format!("not before {}: this cap is too low for that much", local_time(time, zone)),
        CaughtUp::Unknown { time } => {
            format!(
                "nobody knows: from {} on there is no cap, and its line was not measured yet",
                local_time(time, zone)
            )
        }
    }
}
