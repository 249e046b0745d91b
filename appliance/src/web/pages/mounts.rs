//! How a dataset is reached: the very lines to copy, for who has which system.

use std::net::SocketAddr;

use crate::control::reports::{Dataset, Status};
use crate::web::show::quoted;

/// What to do on one system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub system: &'static str,
    /// What has to be so before.
    pub note: &'static str,
    /// Lines to copy.
    pub lines: String,
}

/// The ways to reach a dataset, from a browser that calls the box `host`; none where nothing serves it.
pub(super) fn of(status: &Status, dataset: &Dataset, host: &str) -> Vec<Mount> {
    match (&dataset.export, &dataset.target) {
        (Some(export), _) => share(status, export, &dataset.name, host),
        (_, Some(target)) => volume(status, target, dataset.lun.unwrap_or_default(), host),
        _ => Vec::new(),
    }
}

/// The host as clients reach it: by the address that the box listens on, where that is a single one.
fn place(listens: Option<&String>, host: &str, port: u16) -> (String, u16) {
    match listens.and_then(|text| text.parse::<SocketAddr>().ok()) {
        Some(address) if address.ip().is_unspecified() => (host.to_owned(), address.port()),
        Some(SocketAddr::V4(address)) => (address.ip().to_string(), address.port()),
        Some(SocketAddr::V6(address)) => (format!("[{}]", address.ip()), address.port()),
        None => (host.to_owned(), port),
    }
}

fn share(status: &Status, export: &str, name: &str, host: &str) -> Vec<Mount> {
    let (host, port) = place(status.nfs.as_ref(), host, 2049);
    let source = quoted(&format!("{host}:{export}"));
    let folder = quoted(&format!("/mnt/{name}"));
    let options = format!("vers=3,proto=tcp,mountproto=tcp,nolock,hard,port={port},mountport={port}");
    let windows = format!(
        r#"mount.exe -o anon,nolock,mtype=hard "\\{host}\{}" N:"#,
        export.trim_start_matches('/').replace('"', "_")
    );
    vec![
        Mount {
            system: "Linux",
            note: "As root; the package is nfs-common on Debian and Ubuntu, nfs-utils on Red Hat and SUSE.",
            lines: format!("mkdir -p {folder}\nmount -t nfs -o {options} {source} {folder}"),
        },
        Mount {
            system: "Proxmox",
            note: "On each node; the folder is then a storage for backups.",
            lines: format!(
                "mkdir -p {folder}\necho {} >> /etc/fstab\nmount {folder}\npvesm add dir narrowboat --path {folder} --is_mountpoint yes --content backup",
                quoted(&format!(
                    "{} {} nfs {options},_netdev 0 0",
                    fstab(&format!("{host}:{export}")),
                    fstab(&format!("/mnt/{name}"))
                ))
            ),
        },
        Mount {
            system: "VMware ESXi",
            note: "ESXi asks port 111 where NFS is: the box has to answer there (nfs.portmap in its config file).",
            lines: format!("esxcli storage nfs add -H {host} -s {} -v {}", quoted(export), quoted(name)),
        },
        Mount {
            system: "Windows",
            note: "Windows needs its “Client for NFS”, and asks port 111 where NFS is: the box has to answer there (nfs.portmap in its config file). A volume needs neither.",
            lines: windows,
        },
    ]
}

/// A word as /etc/fstab takes it (fstab(5)).
fn fstab(word: &str) -> String {
    word.replace('\\', r"\134").replace(' ', r"\040").replace('\t', r"\011").replace('#', r"\043")
}

fn volume(status: &Status, target: &str, lun: u16, host: &str) -> Vec<Mount> {
    let (host, port) = place(status.iscsi.first(), host, 3260);
    let (portal, iqn) = (format!("{host}:{port}"), quoted(target));
    vec![
        Mount {
            system: "Linux",
            note: "As root; the package is open-iscsi on Debian and Ubuntu, iscsi-initiator-utils on Red Hat. The disk then shows in lsblk.",
            lines: format!(
                "iscsiadm -m discovery -t sendtargets -p {portal}\niscsiadm -m node -T {iqn} -p {portal} --login\n\
                 iscsiadm -m node -T {iqn} -p {portal} -o update -n node.startup -v automatic"
            ),
        },
        Mount {
            system: "Windows",
            note: "In PowerShell as administrator. The disk then shows in Disk Management.",
            lines: format!(
                "Set-Service MSiSCSI -StartupType Automatic; Start-Service MSiSCSI\n\
                 New-IscsiTargetPortal -TargetPortalAddress {host} -TargetPortalPortNumber {port}\n\
                 Connect-IscsiTarget -NodeAddress \"{target}\" -IsPersistent $true"
            ),
        },
        Mount {
            system: "Proxmox",
            note: "The disk is then a storage for virtual machines, or the base of an LVM group.",
            lines: format!("pvesm add iscsi narrowboat --portal {portal} --target {iqn} --content images"),
        },
        Mount {
            system: "VMware ESXi",
            note: "The adapter’s name is what the second line shows.",
            lines: format!(
                "esxcli iscsi software set --enabled=true\nesxcli iscsi adapter list\n\
                 esxcli iscsi adapter discovery sendtarget add -A vmhba64 -a {portal}\nesxcli storage core adapter rescan --all   # LUN {lun}"
            ),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_exact_and_names_harm_nobody() {
        let status =
            Status { nfs: Some("0.0.0.0:2050".into()), iscsi: vec!["192.0.2.9:3260".into()], ..Status::default() };
        let linux = &share(&status, "/office", "office", "box.local")[0].lines;
        assert_eq!(
            linux,
            "mkdir -p /mnt/office\nmount -t nfs -o vers=3,proto=tcp,mountproto=tcp,nolock,hard,port=2050,mountport=2050 box.local:/office /mnt/office"
        );
        let hostile = share(&status, "/a'; reboot", "a'; reboot", "box.local");
        assert!(hostile[0].lines.contains(r"'box.local:/a'\''; reboot'"), "{}", hostile[0].lines);
        let disk = volume(&status, "iqn.2026-01.example:box", 3, "box.local");
        assert!(
            disk[0].lines.contains("-T iqn.2026-01.example:box -p 192.0.2.9:3260 --login"),
            "the address that it listens on"
        );
    }
}
