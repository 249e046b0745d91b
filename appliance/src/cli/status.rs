//! `status`.

use std::process::ExitCode;

use super::dataset::show_datasets;
use super::disk::show_disk;
use super::limit::limit_line;
use super::peer::show_peers;
use super::plan::show_plans;
use super::reclaim::show_in_the_way;
use super::show::{count, size};
use super::time::why_it_ends;
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{Dataset, Loss, Replication, Status};
use crate::units::{bit_rate, duration};

pub(super) fn status(context: &Context) -> Outcome {
    if let Some(status) = context.ask::<Status>(&Request::Status)? {
        show(&status);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status) {
    show_doors(status);
    // A box whose disk gave no figures since it was started has none to show.
    if status.age_seconds.is_none() || status.disk_bytes > 0 {
        show_room(status);
    }
    show_disk(status);
    show_problems(status);
    if !status.datasets.is_empty() {
        say!();
        show_datasets(&status.datasets);
        show_time(&status.datasets);
    }
    if !status.peers.is_empty() {
        say!();
        show_peers(&status.peers);
        show_lag(status);
    }
    if !status.plans.is_empty() {
        say!();
        show_plans(&status.plans);
    }
    show_running(status);
}

/// Where it is reached, and how fast it may send.
fn show_doors(status: &Status) {
    let off = || "off".to_owned();
    say!("{} (narrowboat {})", status.name, status.version);
    say!("  NFS          {}", status.nfs.clone().unwrap_or_else(off));
    let portals = Some(status.iscsi.join(", ")).filter(|portals| !portals.is_empty());
    say!("  iSCSI        {}", portals.unwrap_or_else(off));
    say!("  replication  {}", status.wan.clone().unwrap_or_else(off));
    let page = status.page.as_ref().map_or_else(off, |address| format!("https://{address}/"));
    say!(
        "  page         {page}{}",
        if status.claimed { "" } else { ", which nobody has claimed: `narrowboat account claim`" }
    );
    if let Some(name) = &status.found_as {
        say!("  found as     {name}");
    }
    if let Some(cap) = &status.cap {
        say!("  cap          {}", limit_line(cap));
    }
    if let Some(cap) = &status.receive_cap {
        say!("  receives     {} at most", limit_line(cap));
    }
}

/// What it holds, and what that takes.
fn show_room(status: &Status) {
    say!("  live data    {}", size(status.logical_bytes));
    say!("  snapshots    {} if each were kept whole", size(status.protected_bytes));
    say!(
        "  unique       {} in {} objects, {:.1} : 1",
        size(status.unique_bytes),
        count(status.objects),
        status.dedup_ratio
    );
    say!("  stored       {} in {} containers", size(status.stored_bytes), count(status.containers));
    let parts = &status.parts;
    say!(
        "  data folder  {}: objects {}, directories {}, index {}, catalogue {}, journal {}, history {}, other {}",
        size(status.folder_bytes),
        size(parts.objects_bytes),
        size(parts.directories_bytes),
        size(parts.index_bytes),
        size(parts.catalogue_bytes),
        size(parts.journal_bytes),
        size(parts.history_bytes),
        size(parts.other_bytes)
    );
    if parts.aside_bytes > 0 {
        say!(
            "               and {} of containers that were set aside, for nothing in them could be read",
            size(parts.aside_bytes)
        );
    }
    say!("  disk         {} free of {}", size(status.disk_free_bytes), size(status.disk_bytes));
    if let Some(array) = &status.array {
        let word = super::disks::word(array.health);
        say!("  array        {word}: {} disks ({}, {})", array.disks, array.device, array.level);
    }
    let quarantine = &status.quarantine;
    if quarantine.datasets + quarantine.snapshots > 0 {
        say!(
            "  deleted      {} datasets and {} single snapshots can be had back, and keep their room",
            quarantine.datasets,
            quarantine.snapshots
        );
        if let Some(counted) = &status.freeable {
            say!("               {} for that alone, as of {}", size(counted.quarantine_bytes), counted.counted);
        }
    }
    let again = &status.recompressed;
    if again.containers > 0 {
        let saved = again.before_bytes.saturating_sub(again.after_bytes);
        say!("  recompressed {} containers that were old: {} given back", count(again.containers), size(saved));
    }
    match (&status.reclaiming, &status.reclaim) {
        (Some(now), _) => say!("  reclaim      {}: {} {}", now.what, count(now.done), now.unit),
        (None, Some(last)) => say!("  reclaim      {} given back at {}", size(last.freed_bytes), last.ended),
        (None, None) => {}
    }
}

/// What the array below says that somebody should know or do.
fn show_array(status: &Status) {
    for (array, advice) in status.array.iter().flat_map(|array| array.advice.iter().map(move |advice| (array, advice)))
    {
        let word = if array.degraded > 0 { "PROBLEM" } else { "NOTICE " };
        say!("  {word}      {advice}");
    }
}

fn show_loss(loss: &Loss) {
    let (name, snapshot) = (&loss.dataset, &loss.snapshot);
    let encrypted = if loss.looks_encrypted { ", and what is there now looks encrypted" } else { "" };
    say!(
        "  PROBLEM      {name}: {} % of what its snapshot {snapshot} held is gone or was written over{encrypted}",
        loss.percent
    );
    if !loss.copy {
        say!(
            "               `narrowboat rewind {name} --to {snapshot}` takes it back; `narrowboat dataset accept-loss {name}` says that it was meant"
        );
    }
}

/// What somebody should do something about.
fn show_problems(status: &Status) {
    show_array(status);
    if status.damaged_objects > 0 {
        say!(
            "  PROBLEM      {} objects are damaged: `narrowboat scrub show` says whom it hits",
            status.damaged_objects
        );
    }
    if let Some(why) = &status.unreclaimed {
        say!("  PROBLEM      what is deleted gives no room back: {why}");
        let in_the_way = status.reclaim.as_ref().map_or(&[][..], |last| &last.in_the_way);
        show_in_the_way(in_the_way, 3, "               ");
    }
    if status.full {
        say!(
            "  PROBLEM      the disk is full, or nearly: writes are refused, and what peers send waits, until there is room"
        );
        if status.quarantine.datasets + status.quarantine.snapshots > 0 {
            say!(
                "               `narrowboat quarantine empty --dry-run` tells how much giving up what was deleted would free"
            );
        }
    }
    if let Some(why) = &status.stalled {
        say!("  PROBLEM      {why}");
    }
    if let Some(why) = &status.unsplit {
        say!("  PROBLEM      the journal can't be split for the windows that need it, and grows: {why}");
    }
    if let Some(ahead) = status.ahead_seconds {
        say!(
            "  PROBLEM      the clock was set back: the times of what is written here are {} ahead of it,",
            duration(ahead)
        );
        say!("               as `narrowboat timeline` shows them, until it has caught up");
    }
    for loss in &status.losses {
        show_loss(loss);
    }
    for (way, why) in status.notices.iter().filter_map(|way| Some((&way.way, way.error.as_ref()?))) {
        say!("  PROBLEM      notices can't be told by {way}: {why}");
    }
    for owed in &status.owed_thaws {
        let why = owed.problem.as_deref().unwrap_or("it was not tried yet");
        say!(
            "  PROBLEM      {} may be frozen since {} (mark {} of {}): {why}",
            owed.hook,
            owed.since,
            owed.mark,
            owed.datasets.join(", ")
        );
        say!("               it is tried again and again; `narrowboat thaw {}` tries it now", owed.hook);
    }
}

/// How far each peer is behind with what was sent to it.
fn show_lag(status: &Status) {
    for (peer, lag) in status.peers.iter().flat_map(|peer| peer.lag.iter().map(move |lag| (peer, lag))) {
        let behind = match lag.snapshots_behind {
            0 => "has the newest snapshot".to_owned(),
            1 => "is 1 snapshot behind".to_owned(),
            snapshots => format!("is {snapshots} snapshots behind"),
        };
        let age = duration(lag.seconds);
        say!("  {} {behind} of {}: {} from {age} ago", peer.name, lag.dataset, lag.newest_there);
    }
}

/// What is being sent.
fn show_running(status: &Status) {
    let running = status.replications.iter().filter(|replication| replication.state == "running");
    for replication in running {
        let (wire, rate) = (size(replication.wire_bytes_sent), bit_rate(replication.bits_per_second as f64));
        say!(
            "\nsending {} to {}: {wire} so far, {rate}{}",
            replication.snapshot,
            replication.peer,
            of_all(replication)
        );
    }
}

/// How much of what differs was sent. What the peer knows from elsewhere is never sent, so it may end early.
fn of_all(replication: &Replication) -> String {
    match replication.differing_bytes {
        Some(all) => {
            let sent = replication.raw_bytes.min(all);
            format!("; {} of at most {} of contents, {} %", size(sent), size(all), sent * 100 / all.max(1))
        }
        None => String::new(),
    }
}

/// How far datasets can be taken back, and what of them waits to be deduplicated.
fn show_time(datasets: &[Dataset]) {
    if datasets.iter().any(|dataset| dataset.window.is_some() || dataset.deferred.is_some()) {
        say!();
    }
    for (name, window) in datasets.iter().filter_map(|dataset| Some((&dataset.name, dataset.window.as_ref()?))) {
        say!(
            "  {name} can be taken back {} ({} for that), to {}",
            duration(window.seconds),
            size(window.journal_bytes),
            window.first
        );
        if window.limit != "age" {
            let asked = duration(window.asked_seconds as f64);
            say!("    asked for {asked}; it ends {}", why_it_ends(window));
        }
    }
    for (name, deferred) in datasets.iter().filter_map(|dataset| Some((&dataset.name, dataset.deferred.as_ref()?))) {
        let (waiting, bound) = (size(deferred.waiting_bytes), size(deferred.bound_bytes));
        match (deferred.overrun, deferred.now, &deferred.overrun_at) {
            (true, ..) => {
                say!("  NOTICE       {name}: {waiting} wait for {}, more than {bound}:", deferred.hours);
                say!("               it is deduplicated while it is written until half of that is done");
            }
            (_, true, _) => say!("  {name} is deduplicated now, in its hours ({}): {waiting} wait", deferred.hours),
            _ => say!("  {name} is deduplicated {}: {waiting} of at most {bound} wait", deferred.hours),
        }
        if let (false, Some(at)) = (deferred.overrun, &deferred.overrun_at) {
            say!("  NOTICE       {name}: at {at} more waited than it may, and it was");
            say!("               deduplicated while it was written (store.deferred, store.drain_hours)");
        }
    }
}
