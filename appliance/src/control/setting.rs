//! Settings of the config file, changed through the box.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::Failed;
use super::reports::{Acknowledged, Settings};
use crate::config::settings::{self, By};
use crate::node::Node;

/// One change of the file at a time.
static CHANGING: Mutex<()> = Mutex::new(());

/// All of them, and whether the file says something else than the box knows.
pub(super) fn list(node: &Node) -> Result<Settings, Failed> {
    let text = read(&node.config.file)?;
    Ok(Settings { settings: settings::settings(&text)?, pending: text != node.config.text })
}

/// Changes some; nothing where one of them makes no sense.
pub(super) fn set(node: &Node, changes: &BTreeMap<String, Option<Value>>) -> Result<Acknowledged, Failed> {
    set_by(By::Anybody, node, changes)
}

/// The config file as it would be with these changes.
pub(crate) fn changed_by(by: By, node: &Node, changes: &BTreeMap<String, Option<Value>>) -> Result<String, Failed> {
    settings::changed_by(by, &read(&node.config.file)?, changes)
}

/// Changes some, by whom it is.
pub(crate) fn set_by(by: By, node: &Node, changes: &BTreeMap<String, Option<Value>>) -> Result<Acknowledged, Failed> {
    let _one = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = read(&node.config.file)?;
    let text = settings::changed_by(by, &before, changes)?;
    if text != before {
        write(&node.config.file, &text).map_err(|error| failed(&node.config.file, "written", &error))?;
    }
    let message = if text == node.config.text {
        "this is how the box was started"
    } else {
        "this counts from the next start of the box on"
    };
    Ok(Acknowledged { message: message.into() })
}

fn read(path: &Path) -> Result<String, Failed> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| failed(path, "read", &error)),
    }
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Failed {
    Failed::environment(format!("the config file {} can't be {what}: {error}", path.display()))
}

/// Writes it whole or not at all; who may read it stays. A link is followed.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        path => path?,
    };
    let before = fs::metadata(&path).ok();
    let new = path.with_extension("toml.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    if let Some(before) = before {
        std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))?;
    }
    file.sync_all()?;
    fs::rename(&new, &path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_exchanged_whole_and_stays_whose_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("narrowboat.toml"), folder.path().join("link.toml"));
        write(&path, "name = \"a\"\n").expect("made");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        fs::write(folder.path().join("narrowboat.toml.new"), "left by a power cut").expect("written");
        write(&link, "name = \"b\"\n").expect("changed");
        assert_eq!(fs::read_to_string(&path).expect("there"), "name = \"b\"\n");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o644);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 2);
        assert!(write(&folder.path().join("none/narrowboat.toml"), "").is_err());
    }
}
