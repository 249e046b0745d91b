//! `retention lock`, and what it shares with `snapshot lock`.

use std::process::ExitCode;

use super::show::table;
use super::{Context, Outcome};
use crate::control::reports::LockRule;
use crate::control::{Failed, Request};
use crate::units::{duration, parse_duration};

/// Beyond this, who locks has to say that he means it: nobody can take it back.
const WITHOUT_ASKING: u64 = 366 * 24 * 3600;

#[derive(clap::Args)]
pub(super) struct Wish {
    /// The dataset.
    #[arg(group = "whose", requires = "what")]
    dataset: Option<String>,
    /// All replicas that have no rule of their own, also those still to come.
    #[arg(long, group = "whose", requires = "what")]
    replicas: bool,
    /// For how long, as in 36h or 30d.
    #[arg(long = "for", value_parser = parse_duration, value_name = "TIME", group = "what", requires = "whose")]
    length: Option<u64>,
    /// Lock no more snapshots. Those that are locked stay so.
    #[arg(long, group = "what", requires = "whose")]
    off: bool,
    /// Yes, for more than a year.
    #[arg(long)]
    years: bool,
}

/// Refuses what is surely a slip of the keyboard.
pub(super) fn check(length: Option<u64>, years: bool) -> Result<(), Failed> {
    match length {
        Some(length) if length > WITHOUT_ASKING && !years => Err(Failed::refused(
            "that is more than a year, and nobody could take it back: add --years if that is what you mean",
        )),
        _ => Ok(()),
    }
}

pub(super) fn lock(context: &Context, wish: Wish) -> Outcome {
    check(wish.length, wish.years)?;
    let request = match wish.length.is_some() || wish.off {
        true => Request::LockSet { dataset: wish.dataset, seconds: wish.length },
        false => Request::LockList,
    };
    if let Some(rules) = context.ask::<Vec<LockRule>>(&request)? {
        show(&rules);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(rules: &[LockRule]) {
    let row = |rule: &LockRule| {
        let whose = rule.dataset.clone().unwrap_or_else(|| "(other replicas)".into());
        vec![whose, duration(rule.seconds as f64), rule.locked.to_string()]
    };
    let rows: Vec<_> = rules.iter().map(row).collect();
    table(&["DATASET", "NEW ONES ARE LOCKED FOR", "LOCKED NOW"], &rows);
}
