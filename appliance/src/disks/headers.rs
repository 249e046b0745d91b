//! For tests: LUKS2 headers in files, made and changed by the real `cryptsetup`. No device is touched.

use super::keys;
use super::luks::Kind;
use super::tools::{Secret, run, run_with, run_with_secret};

/// What opens it at first.
pub(super) const PASSPHRASE: &[u8] = b"correct horse battery";

/// A header in a file that goes with the value.
pub(super) struct LuksFile(tempfile::NamedTempFile);

impl LuksFile {
    /// One with a passphrase in slot 0.
    pub(super) fn new() -> LuksFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(20 << 20).expect("room");
        let made = LuksFile(file);
        let mut args = vec!["luksFormat", "--batch-mode", "--type", "luks2", "--key-file", "-"];
        args.extend(keys::derivation(Kind::Recovery));
        args.push(made.path());
        assert_eq!(run_with_secret("cryptsetup", &args, &Secret::new(PASSPHRASE.to_vec())).expect("started").code, 0);
        keys::note(made.path(), 0, Kind::Passphrase).expect("noted");
        made
    }

    pub(super) fn path(&self) -> &str {
        self.0.path().to_str().expect("a path in letters")
    }

    /// Adds a key as another program does: nothing says what it is.
    pub(super) fn add(&self, key: &[u8]) {
        let new = Secret::new(key.to_vec()).file().expect("a file in memory");
        let mut args = vec!["luksAddKey", "--batch-mode", "--key-file", "-"];
        args.extend(keys::derivation(Kind::Recovery));
        let path = new.path();
        args.extend([self.path(), path.as_str()]);
        let ended = run_with_secret("cryptsetup", &args, &Secret::new(PASSPHRASE.to_vec())).expect("started");
        assert_eq!(ended.code, 0, "{}", ended.complaint);
    }

    /// Writes a token into it.
    pub(super) fn token(&self, json: &str) {
        run_with("cryptsetup", &["token", "import", "--json-file", "-", self.path()], json.as_bytes())
            .expect("imported");
    }

    /// All that it says, as JSON.
    pub(super) fn dump(&self) -> String {
        let json = run("cryptsetup", &["luksDump", "--dump-json-metadata", self.path()]).expect("read");
        String::from_utf8(json).expect("JSON")
    }

    /// Whether a key opens it.
    pub(super) fn opens(&self, key: &[u8]) -> bool {
        keys::find_slot(self.path(), &Secret::new(key.to_vec())).expect("tried").is_some()
    }
}
