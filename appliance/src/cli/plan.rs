//! `plan`.

use std::process::ExitCode;

use clap::Subcommand;

use super::show::{or_dash, table};
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{Acknowledged, Plan};
use crate::units::{duration, parse_duration};

#[derive(Subcommand)]
pub(super) enum PlanCommand {
    /// Let a dataset go to a peer by itself: the box takes snapshots and sends them. Changes the plan that there is.
    ///
    /// Snapshots that people make are sent, too. Nothing is taken or sent while nothing changes. After a break, a restart or an
    /// hour without a line it goes on where it stopped.
    Create {
        /// The dataset.
        dataset: String,
        /// The peer.
        #[arg(long, value_name = "PEER")]
        to: String,
        /// How often a snapshot is taken, as in 15min, 1h or 1d.
        #[arg(long, value_parser = parse_duration, value_name = "TIME")]
        every: Option<u64>,
        /// Follow every change, as soon as the one before is there [what a new plan does where nothing is said].
        #[arg(long, conflicts_with = "every")]
        follow: bool,
        /// Begin only in these hours, as in "22:00-06:00" or "mon-fri 20:00-06:00, sat 00:00-24:00"; `always` for any.
        #[arg(long)]
        hours: Option<String>,
        /// What it is to other traffic to the peer: `urgent` goes before, `scavenger` takes what others leave.
        #[arg(long, value_parser = ["urgent", "normal", "scavenger"])]
        class: Option<String>,
    },
    /// List all plans: what each does now, and how far its peer is behind.
    ///
    /// Behind means: how old what the peer has is, where there is anything newer here. A plan that is `retrying` or `failing` says why, and goes on
    /// by itself when it can; one that is `outside its hours` waits for them.
    List,
    /// Stop for a while. What is under way stops, too, and goes on where it was.
    Pause(Which),
    /// Go on, at once.
    Resume(Which),
    /// Drop a plan. What is at the peer stays there.
    Delete(Which),
}

#[derive(clap::Args)]
pub(super) struct Which {
    /// The dataset.
    dataset: String,
    /// The peer; all where none is named.
    #[arg(long, value_name = "PEER")]
    to: Option<String>,
}

pub(super) fn plan(context: &Context, command: PlanCommand) -> Outcome {
    let request = match command {
        PlanCommand::Create { dataset, to, every, follow, hours, class } => {
            Request::PlanSet { dataset, peer: to, seconds: every, follow, hours, class }
        }
        PlanCommand::List => {
            if let Some(plans) = context.ask::<Vec<Plan>>(&Request::PlanList)? {
                show_plans(&plans);
            }
            return Ok(ExitCode::SUCCESS);
        }
        PlanCommand::Pause(Which { dataset, to }) => Request::PlanPause { dataset, peer: to, paused: true },
        PlanCommand::Resume(Which { dataset, to }) => Request::PlanPause { dataset, peer: to, paused: false },
        PlanCommand::Delete(Which { dataset, to }) => Request::PlanRemove { dataset, peer: to },
    };
    if let Some(done) = context.ask::<Acknowledged>(&request)? {
        say!("{}", done.message);
    }
    Ok(ExitCode::SUCCESS)
}

/// A table of plans, and why those that fail do.
pub(super) fn show_plans(plans: &[Plan]) {
    let row = |plan: &Plan| {
        let behind = match plan.behind_seconds {
            None => "nothing there yet".into(),
            Some(0.0) => "nothing".into(),
            Some(seconds) => duration(seconds),
        };
        let cells = [&plan.dataset, &plan.peer, &plan.plan, &plan.class, &plan.state];
        cells.into_iter().cloned().chain([or_dash(plan.newest_there.clone()), behind]).collect::<Vec<_>>()
    };
    let rows: Vec<_> = plans.iter().map(row).collect();
    table(&["DATASET", "TO", "PLAN", "CLASS", "STATE", "NEWEST THERE", "BEHIND"], &rows);
    for plan in plans {
        if let Some(error) = &plan.error {
            say!("  {} to {}: {error}", plan.dataset, plan.peer);
        }
    }
}
