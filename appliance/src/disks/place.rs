//! Where the data folder lies: on the disk that the system runs from, or on something that was mounted for it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What is mounted where the data folder lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "DataPlace")]
pub struct Place {
    /// Where it is mounted.
    pub mounted: String,
    /// What is: a device, or whatever the file system calls its source.
    pub source: String,
    /// Which file system.
    pub file_system: String,
    /// Whether it is the one that the system itself runs from.
    pub system: bool,
}

/// Where a data folder lies; nothing where the kernel does not say it.
pub fn of(data: &Path) -> Option<Place> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    among(&mounts, &fs::canonicalize(data).ok()?)
}

/// The mount that a path lies on: the one that is mounted deepest, and last of those at one place (proc_pid_mountinfo(5)).
fn among(mounts: &str, data: &Path) -> Option<Place> {
    let parsed = mounts.lines().filter_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        let at = unescaped(before.split(' ').nth(4)?);
        let mut behind = behind.split(' ');
        let (file_system, source) = (behind.next()?.to_owned(), behind.next()?);
        Some((at, file_system, unescaped(source)))
    });
    let holds = parsed.filter(|(at, ..)| data.starts_with(at));
    let (at, file_system, source) = holds.max_by_key(|(at, ..)| at.as_os_str().as_bytes().len())?;
    let system = at == Path::new("/");
    Some(Place { mounted: at.display().to_string(), source: source.display().to_string(), file_system, system })
}

/// Spaces and the like stand as `\040` there.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let octal = more.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &more[3..] } else { more };
    }
    PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
40 22 9:127 / /srv/box rw,noatime shared:40 - ext4 /dev/mapper/narrowboat rw
41 22 8:1 / /srv/my\\040box rw,noatime shared:41 - xfs /dev/sda1 rw
42 22 0:33 / /srv/box-old rw - nfs 10.0.0.1:/old rw
a line that is none
";

    #[test]
    fn a_folder_lies_on_what_is_mounted_deepest_above_it() {
        let of = |path: &str| among(MOUNTS, Path::new(path)).map(|place| (place.source, place.system));
        assert_eq!(of("/var/lib/narrowboat"), Some(("/dev/nvme0n1p2".into(), true)));
        assert_eq!(of("/srv/box"), Some(("/dev/mapper/narrowboat".into(), false)));
        assert_eq!(of("/srv/box/data"), Some(("/dev/mapper/narrowboat".into(), false)));
        assert_eq!(of("/srv/box2"), Some(("/dev/nvme0n1p2".into(), true)), "part of a name is no folder");
        assert_eq!(of("/srv/my box/data"), Some(("/dev/sda1".into(), false)));
        assert_eq!(among("", Path::new("/srv")), None);
        assert!(super::of(Path::new("/")).is_some_and(|place| place.system));
    }
}
