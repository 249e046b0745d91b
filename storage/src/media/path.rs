//! Which paths a medium accepts: the same ones on a real folder as on the simulated disk.

use std::io;

/// The lock file of a real folder: no path of the store's.
pub(super) const LOCK: &str = "lock";

/// Splits a path of a file into the folder it is in (empty for the data folder itself) and its name.
pub(super) fn split(path: &str) -> io::Result<(&str, &str)> {
    check(path)?;
    Ok(path.rsplit_once('/').unwrap_or(("", path)))
}

/// Accepts the data folder itself (empty) or a path below it.
pub(super) fn check_dir(dir: &str) -> io::Result<()> {
    if dir.is_empty() { Ok(()) } else { check(dir) }
}

fn check(path: &str) -> io::Result<()> {
    let sound = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains('\0');
    if path != LOCK && path.split('/').all(sound) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is not a path in the data folder")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_data_folder() {
        for good in ["a", "a/b", "journal/0000000000000001.journal", "...", "a/..b"] {
            assert!(split(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/etc/passwd", "..", "a/../b", "a//b", "a/", ".", "a/./b", "a\0b", LOCK] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
        assert_eq!(split("a/b/c").unwrap(), ("a/b", "c"));
        assert_eq!(split("c").unwrap(), ("", "c"));
        assert!(check_dir("").is_ok());
    }
}
