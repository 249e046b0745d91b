//! `quarantine`, and the parts of `dataset` and `snapshot` that are about what was deleted.

use std::process::ExitCode;

use clap::Subcommand;

use super::show::{or_dash, size, table};
use super::{Context, Outcome};
use crate::control::reports::{Deleted, Emptied};
use crate::control::{Failed, Request};
use crate::units::duration;

#[derive(Subcommand)]
pub(super) enum QuarantineCommand {
    /// Give up what was deleted before its time, so that the next run of reclaim gives its room back. Root only. There is no way back.
    ///
    /// What is locked is never in quarantine, and never goes this way.
    Empty {
        /// A deleted dataset, or DATASET@NAME, by name; everything where none is named.
        what: Option<String>,
        /// Change nothing: tell what that would free, exactly, which takes as long as `narrowboat reclaim --dry-run`.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) fn quarantine(context: &Context, command: QuarantineCommand) -> Outcome {
    let QuarantineCommand::Empty { what, dry_run } = command;
    if let Some(emptied) = context.ask::<Emptied>(&Request::QuarantineEmpty { what, dry_run })? {
        let Emptied { preview, datasets, snapshots, freeable_bytes, stayed } = emptied;
        let what = format!("{datasets} datasets and {snapshots} single snapshots");
        match (preview, freeable_bytes) {
            (true, Some(bytes)) => {
                say!(
                    "{what} would be gone for good; with what nobody needs anyway, reclaim would give {} back",
                    size(bytes)
                );
            }
            (true, None) => say!("{what} would be gone for good; what that would free can't be told"),
            (false, _) => say!("{what} are gone for good; `narrowboat reclaim` gives their room back now"),
        }
        stayed.iter().for_each(|why| say!("  {why}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what was deleted.
pub(super) fn deleted(context: &Context, request: &Request) -> Result<(), Failed> {
    let Some(all) = context.ask::<Vec<Deleted>>(request)? else { return Ok(()) };
    let left = |one: &Deleted| match one.seconds_left {
        0 => "now".to_owned(),
        seconds => duration(seconds as f64),
    };
    let row = |one: &Deleted| {
        let name = if one.kind == "snapshot" { format!("{}@{}", one.dataset, one.name) } else { one.name.clone() };
        let note = if one.within_deleted { "its dataset was deleted, too" } else { "" };
        let held = if one.kind == "snapshot" { or_dash(one.time.clone()) } else { one.snapshots.to_string() };
        vec![name, one.id.clone(), held, one.deleted.clone(), one.by.clone(), left(one), note.to_owned()]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let of_datasets = matches!(request, Request::DatasetListDeleted);
    let (what, held) = if of_datasets { ("DATASET", "SNAPSHOTS") } else { ("SNAPSHOT", "TIME") };
    table(&[what, "ID", held, "DELETED", "BY", "GONE WHEN THE BOX HAS RUN FOR", ""], &rows);
    Ok(())
}
