//! `assess`: which line an office needs, measured on its own data. Needs no box.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use narrowboat_wan::shape::{Calendar, Rate};

use super::{Context, Outcome};
use crate::assess::answer::{Question, answer};
use crate::assess::run::{Order, Told, run};
use crate::assess::{report, spans};
use crate::clock;
use crate::control::Failed;
use crate::units::{ByteSize, duration, parse_duration};

/// Least time between two looks.
const EVERY_MIN: u64 = 60;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Assess {
    #[command(subcommand)]
    command: Option<AssessCommand>,
    /// Folders, files or disks; each counts as a dataset of its own.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Look again and again, so often: 5min sees what a recovery point of a quarter of an hour needs. Once, where nothing is said.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    every: Option<u64>,
    /// End after so long, as in 14d. A week has seven days: less tells nothing of how sure an answer is.
    #[arg(long = "for", value_parser = parse_duration, value_name = "TIME", requires = "every")]
    lasting: Option<u64>,
    /// Take at most so much room, as in 200GB. What is looked at takes as much as it would on a box; where this is not enough, the path is left out and that is told.
    #[arg(long, value_name = "SIZE")]
    room: Option<ByteSize>,
    /// The line that it is for: the slower, the harder is packed.
    #[arg(long, value_name = "RATE", default_value = "20Mbit")]
    line: Rate,
    /// How long a packet takes there and back on it, in milliseconds (`ping` tells).
    #[arg(long, value_name = "MS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..10_000))]
    round_trip: u64,
    /// Where it is kept [default: ~/.local/state/narrowboat/assess, for root /var/lib/narrowboat-assess]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

#[derive(Subcommand)]
enum AssessCommand {
    /// What was measured, and which line it needs.
    ///
    /// Measured days are replayed over lines of different speeds, with the product's own shaping, to find the slowest that keeps a recovery point. What is not known
    /// is said, and never made up.
    Report(Box<Report>),
}

#[derive(Args)]
struct Report {
    /// A line that is there or thought of, as in 20Mbit: what it does is told, too.
    #[arg(long, value_name = "RATE")]
    line: Option<Rate>,
    /// When how much of it may be used, as `narrowboat limit --calendar` takes it.
    #[arg(long, value_name = "FILE")]
    calendar: Option<PathBuf>,
    /// How far behind the other box may be; may be said several times [default: 15min, 1h, 4h, 24h]
    #[arg(long = "behind", value_parser = parse_duration, value_name = "TIME")]
    ages: Vec<u64>,
    /// Growth in a month that is assumed, in percent; else it is read from four weeks or more.
    #[arg(long, value_name = "PERCENT")]
    growth: Option<f64>,
    /// Bytes on the wire in a day that are assumed where nothing was measured, as in 2GB. Marked as assumed wherever they count.
    #[arg(long, value_name = "SIZE")]
    change: Option<ByteSize>,
    /// How long it takes to carry a disk to the other box.
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "3d")]
    carry: u64,
    /// What the office is called in the report [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    office: Option<String>,
    /// Write it as a page that is read offline and prints well.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write what was measured, a row a look.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Where it is kept, as for `narrowboat assess`.
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

pub(super) fn assess(context: &Context, asked: Assess) -> Outcome {
    match asked.command {
        Some(AssessCommand::Report(asked)) => tell(context, *asked),
        None => look(context, asked),
    }
}

/// Where an assessment is kept.
fn place(work: Option<PathBuf>) -> Result<PathBuf, Failed> {
    if let Some(work) = work {
        return Ok(std::path::absolute(&work).unwrap_or(work));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/narrowboat-assess".into());
    }
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")));
    let state =
        state.ok_or_else(|| Failed::refused("there is no home folder here: say with --work where it is to be kept"))?;
    Ok(state.join("narrowboat/assess"))
}

fn look(context: &Context, asked: Assess) -> Outcome {
    if asked.every.is_some_and(|every| every < EVERY_MIN) {
        return Err(Failed::refused(format!(
            "--every {} s is too often: a minute at the least",
            asked.every.unwrap_or_default()
        )));
    }
    let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in asked.paths.iter().map(whole) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let work = place(asked.work)?;
    if let Some(around) = paths.iter().find(|path| work.starts_with(path)) {
        let (around, work) = (around.display(), work.display());
        return Err(Failed::refused(format!(
            "{work} lies in {around}, which is to be looked at: keep it elsewhere with --work"
        )));
    }
    let order = Order {
        paths,
        work,
        every: asked.every.map(Duration::from_secs),
        lasting: asked.lasting.map(Duration::from_secs),
        room: asked.room.map(|room| room.0),
        path: crate::assess::looks::Path {
            bits: asked.line.bits(),
            round_trip: Duration::from_millis(asked.round_trip),
        },
    };
    let mut screen = Screen { json: context.json, live: std::io::stderr().is_terminal() };
    run(&order, &mut |told| screen.show(&told)).map_err(|broken| Failed::refused(broken.to_string()))?;
    if !context.json {
        say!("kept in {}; `narrowboat assess report` says what it comes to", order.work.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is seen meanwhile.
struct Screen {
    json: bool,
    live: bool,
}

impl Screen {
    fn show(&mut self, told: &Told) {
        match told {
            Told::Looking(path, found, took) if self.live && !self.json => {
                let rate = found.changed as f64 / took.as_secs_f64().max(0.1);
                let line = format!(
                    "{path}: {} files, {} read in {}, {}/s, {} not read",
                    found.files,
                    ByteSize(found.changed),
                    duration(took.as_secs_f64()),
                    ByteSize(rate as u64),
                    found.unread
                );
                // Who does not see it misses nothing.
                let _ = write!(std::io::stderr(), "\r{line:<100}\r");
            }
            Told::Looking(..) => {}
            Told::Looked(row, _) if self.json => match serde_json::to_string(row) {
                Ok(row) => super::out::verbatim(&row),
                Err(error) => eprintln!("{error}"),
            },
            Told::Looked(row, found) => {
                let what = if row.is_first() { "the first copy" } else { "the change" };
                say!(
                    "{}: {} in {} files, {} new or changed; {what} is {} on the wire",
                    row.dataset,
                    ByteSize(row.logical),
                    row.files,
                    ByteSize(row.changed),
                    ByteSize(row.wire)
                );
                if found.unread > 0 {
                    say!("  {} could not be read, and are in none of the numbers:", found.unread);
                    found.told.iter().for_each(|file| say!("    {file}"));
                }
            }
            Told::Passed(path, why) => eprintln!("{path} is passed over: {why}"),
        }
    }
}

fn tell(context: &Context, asked: Report) -> Outcome {
    let work = place(asked.work.clone())?;
    let named = |path: &Path, error: std::io::Error| Failed::refused(format!("{}: {error}", path.display()));
    let rows = spans::read(&work).map_err(|error| named(&work.join(spans::FILE), error))?;
    let question = question(&asked)?;
    let answer = answer(&rows, &question);
    let wrong = |error: &dyn std::fmt::Display| Failed::refused(error.to_string());
    if let Some(file) = &asked.html {
        let page = report::html(&answer).map_err(|error| wrong(&error))?;
        std::fs::write(file, page).map_err(|error| named(file, error))?;
    }
    if let Some(file) = &asked.csv {
        std::fs::write(file, report::csv(&rows)).map_err(|error| named(file, error))?;
    }
    match context.json {
        true => super::out::verbatim(&report::json(&answer).map_err(|error| wrong(&error))?),
        false => report::text(&answer).lines().for_each(|line| say!("{line}")),
    }
    Ok(ExitCode::SUCCESS)
}

fn question(asked: &Report) -> Result<Question, Failed> {
    let office = asked.office.clone().or_else(|| {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Some(name).filter(|name| !name.is_empty())
    });
    let mut question = Question::new(office.unwrap_or_else(|| "this office".into()), clock::now());
    question.line = asked.line;
    question.carry = Duration::from_secs(asked.carry);
    question.change = asked.change.map(|change| change.0);
    if let Some(percent) = asked.growth {
        if !(-50.0..=200.0).contains(&percent) {
            return Err(Failed::refused(format!("--growth {percent} is not between -50 and 200 percent a month")));
        }
        question.growth = Some(percent / 100.0);
    }
    if !asked.ages.is_empty() {
        let mut ages: Vec<Duration> = asked.ages.iter().map(|seconds| Duration::from_secs(*seconds)).collect();
        ages.sort_unstable();
        ages.dedup();
        question.ages = ages;
    }
    if let Some(file) = &asked.calendar {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| Failed::refused(format!("{}: {error}", file.display())))?;
        let zone = jiff::tz::TimeZone::system();
        question.calendar =
            Calendar::parse(&text, &zone).map_err(|wrong| Failed::refused(format!("{}: {wrong}", file.display())))?;
        question.calendar_text = text;
    }
    Ok(question)
}
