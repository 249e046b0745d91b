//! What disks there are, and where the backups lie.

use super::reports::{DiskSeen, Disks};
use crate::disks::facts::Device;
use crate::disks::{below, place, smart, tools};
use crate::node::Node;

/// All disks, each asked how well it is; at once, for a dead one takes its time.
pub(super) fn list(node: &Node) -> Disks {
    let (found, error) = match tools::facts_now() {
        Ok(facts) => (facts.disks, None),
        Err(failed) => (Vec::new(), Some(failed.message)),
    };
    let disks = std::thread::scope(|scope| {
        let asked: Vec<_> = found.iter().map(|disk| (disk, scope.spawn(|| smart::ask(&disk.path)))).collect();
        asked.into_iter().map(|(disk, health)| seen(disk, health.join().unwrap_or_default())).collect()
    });
    Disks {
        folder: node.data.display().to_string(),
        place: place::of(&node.data),
        array: below(&node.data),
        disks,
        error,
    }
}

fn seen(disk: &Device, health: smart::Smart) -> DiskSeen {
    DiskSeen {
        path: disk.path.clone(),
        serial: disk.serial.clone(),
        model: disk.model.as_deref().map(str::trim).map(str::to_owned),
        size_bytes: disk.size_bytes,
        rotational: disk.rotational,
        holds: disk.used(),
        in_use: disk.mounted().is_some() || disk.children.iter().any(|child| child.array_id().is_some()),
        health,
    }
}
