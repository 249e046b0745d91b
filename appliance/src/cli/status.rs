//! `status`.

use std::process::ExitCode;

use super::dataset::show_datasets;
use super::peer::show_peers;
use super::show::{count, size};
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::Status;
use crate::units::duration;

pub(super) fn status(context: &Context) -> Outcome {
    if let Some(status) = context.ask::<Status>(&Request::Status)? {
        show(&status);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status) {
    let off = || "off".to_owned();
    println!("{} (narrowboat {})", status.name, status.version);
    println!("  NFS          {}", status.nfs.clone().unwrap_or_else(off));
    println!("  replication  {}", status.wan.clone().unwrap_or_else(off));
    println!("  live data    {}", size(status.logical_bytes));
    println!("  snapshots    {} if each were kept whole", size(status.protected_bytes));
    println!(
        "  unique       {} in {} objects, {:.1} : 1",
        size(status.unique_bytes),
        count(status.objects),
        status.dedup_ratio
    );
    println!("  stored       {} in {} containers", size(status.stored_bytes), count(status.containers));
    println!("  disk         {} free of {}", size(status.disk_free_bytes), size(status.disk_bytes));
    if let Some(why) = &status.stalled {
        println!("  PROBLEM      {why}");
    }
    if !status.datasets.is_empty() {
        println!();
        show_datasets(&status.datasets);
    }
    if !status.peers.is_empty() {
        println!();
        show_peers(&status.peers);
        for (peer, lag) in status.peers.iter().flat_map(|peer| peer.lag.iter().map(move |lag| (peer, lag))) {
            let behind = match lag.snapshots_behind {
                0 => "has the newest snapshot".to_owned(),
                1 => "is 1 snapshot behind".to_owned(),
                snapshots => format!("is {snapshots} snapshots behind"),
            };
            let age = duration(lag.seconds);
            println!("  {} {behind} of {}: {} from {age} ago", peer.name, lag.dataset, lag.newest_there);
        }
    }
    let running = status.replications.iter().filter(|replication| replication.state == "running");
    for replication in running {
        println!(
            "\nsending {} to {}: {} so far",
            replication.snapshot,
            replication.peer,
            size(replication.wire_bytes_sent)
        );
    }
}
