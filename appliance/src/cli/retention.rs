//! `retention`.

use std::process::ExitCode;

use clap::Subcommand;

use super::show::table;
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{Acknowledged, Retention, Verdict};
use crate::retention::Rules;
use crate::units::parse_duration;

#[derive(Subcommand)]
pub(super) enum RetentionCommand {
    /// Say which snapshots of a dataset stay; all others are deleted by themselves, but for the newest, held ones, and what a peer is sent.
    ///
    /// A snapshot stays where any of the rules wants it. Replaces the rules that there are. See what would go with --dry-run first.
    #[command(after_help = HELP)]
    Set(Wish),
    /// Show the rules of a dataset, and why each snapshot stays or goes.
    Show {
        /// The dataset.
        dataset: String,
    },
    /// List all datasets with rules.
    List,
    /// Lock each new snapshot for so long: nobody deletes it before, whoever has your password included. Lists the rules of locking where nothing is said.
    ///
    /// Only time in which the box runs counts, by a clock that nobody can set. What is locked stays so, whatever becomes of the rule, and keeps its room on the disk.
    #[command(after_help = LOCK_HELP)]
    Lock(super::lock::Wish),
    /// Drop the rules of a dataset: nothing goes by them any more.
    Delete {
        /// The dataset.
        dataset: String,
    },
}

const LOCK_HELP: &str = "\
What a branch sends can't be deleted here for a month, whoever gets into the branch, or in here:
  narrowboat retention lock --replicas --for 30d";

const HELP: &str = "\
Two weeks of everything, then thinner and thinner:
  narrowboat retention set office --within 14d --daily 30 --weekly 12 --monthly 24 --yearly 10 --dry-run";

#[derive(clap::Args)]
pub(super) struct Wish {
    /// The dataset.
    dataset: String,
    /// Keep the newest so many.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    last: u32,
    /// Keep the newest of each of the last so many hours that have any.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    hourly: u32,
    /// The same of days, by the calendar of the box's time zone.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    daily: u32,
    /// Of weeks, which begin on Monday.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    weekly: u32,
    /// Of months.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    monthly: u32,
    /// Of years.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    yearly: u32,
    /// Keep all that are not older, as in 36h or 14d; while the box is off, nothing grows older.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    within: Option<u64>,
    /// Never keep fewer than so many.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    least: u32,
    /// Change nothing: show what would become of each snapshot, and why.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn retention(context: &Context, command: RetentionCommand) -> Outcome {
    match command {
        RetentionCommand::Set(wish) => {
            let Wish { dataset, last, hourly, daily, weekly, monthly, yearly, within, least, dry_run } = wish;
            let rules = Rules { last, hourly, daily, weekly, monthly, yearly, within, least };
            if let Some(told) = context.ask::<Retention>(&Request::RetentionSet { dataset, rules, dry_run })? {
                show(&told);
                let begun = "what goes is deleted within some seconds";
                say!("{}", if dry_run { "nothing was changed" } else { begun });
            }
        }
        RetentionCommand::Show { dataset } => {
            if let Some(told) = context.ask::<Retention>(&Request::RetentionShow { dataset })? {
                show(&told);
            }
        }
        RetentionCommand::List => {
            if let Some(list) = context.ask::<Vec<Retention>>(&Request::RetentionList)? {
                let rules = |told: &Retention| told.error.clone().unwrap_or_else(|| told.rules.clone());
                let rows: Vec<_> = list.iter().map(|told| vec![told.dataset.clone(), rules(told)]).collect();
                table(&["DATASET", "STAYS"], &rows);
            }
        }
        RetentionCommand::Lock(wish) => return super::lock::lock(context, wish),
        RetentionCommand::Delete { dataset } => {
            if let Some(done) = context.ask::<Acknowledged>(&Request::RetentionRemove { dataset })? {
                say!("{}", done.message);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(told: &Retention) {
    if let Some(error) = &told.error {
        say!("the rules of {} can't be read, so nothing goes: {error}", told.dataset);
        return;
    }
    say!("{}: {}", told.dataset, told.rules);
    let row = |verdict: &Verdict| {
        let fate = if verdict.stays { "stays" } else { "goes" };
        vec![verdict.time.clone(), verdict.snapshot.clone(), fate.to_owned(), verdict.why.join(", ")]
    };
    let rows: Vec<_> = told.snapshots.iter().map(row).collect();
    table(&["TIME", "SNAPSHOT", "", "WHY"], &rows);
    let going = told.snapshots.iter().filter(|verdict| !verdict.stays).count();
    say!("{} stay, {going} go", told.snapshots.len() - going);
}
