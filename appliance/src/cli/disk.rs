//! What `status` says of the disk.

use crate::control::reports::{DiskHealth, Status};
use crate::units::duration;

/// What is wrong with the disk, and what to do about it.
pub(super) fn show_disk(status: &Status) {
    let disk = &status.disk;
    if let Some(why) = &disk.stopped {
        say!(
            "  PROBLEM      the disk failed a write, and nobody knows what of it is there ({why}): nothing is written any more,"
        );
        say!(
            "               reading goes on. Restart the box once the disk is sound: it goes on from its journal, and nothing"
        );
        say!("               that clients were told is safe is lost");
    }
    if let Some(fault) = &disk.last_fault {
        let times = if disk.faults == 1 { "once".to_owned() } else { format!("{} times", disk.faults) };
        let ago = duration(fault.seconds_ago);
        say!(
            "  PROBLEM      the disk failed {times} since the box was started, last {ago} ago: {} {}: {}",
            fault.operation,
            place(&fault.file),
            fault.error
        );
        say!("               see what the system says of it (`dmesg`, `smartctl -a`), its cables and its mount");
    }
    show_pace(disk);
    if let Some(age) = status.age_seconds {
        let why = status.unmeasured.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        match status.disk_bytes {
            0 => say!("  PROBLEM      the disk gives no figures{why}"),
            _ => say!("  PROBLEM      the disk gives no new figures{why}: those shown are {} old", duration(age)),
        }
    }
}

fn show_pace(disk: &DiskHealth) {
    if let Some(waits) = &disk.waits {
        say!(
            "  PROBLEM      the disk has not answered for {} ({} {}): whoever reads or writes waits for it",
            duration(waits.seconds),
            waits.operation,
            place(&waits.file)
        );
    }
    if let Some(slow) = &disk.slow {
        let longest = &slow.longest;
        say!(
            "  PROBLEM      the disk is slow: in the last minute a {} took {:.0} ms on average ({} of them), and {:.1} s at most ({})",
            longest.operation,
            slow.mean_seconds * 1000.0,
            slow.operations,
            longest.seconds,
            place(&longest.file)
        );
    }
}

fn place(file: &str) -> &str {
    if file.is_empty() { "the data folder" } else { file }
}
