//! Files that are there whole or as they were before, whatever becomes of the power.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Exchanges a file whole, durably.
pub(crate) fn exchange(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Made anew, so that it has the mode: one that a power cut left may have another.
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&new)?;
    // Also where the process keeps what it makes from others.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()
}
