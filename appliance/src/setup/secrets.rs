//! Files with what is secret of a set-up: each holds one, and nobody but the box's user reads it (docs/formats/set-up.md).
//!
//! What was typed waits beside what counts, so that a set-up that is refused, or never done, changes nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::control::Failed;

/// Their folder in the data folder.
const FOLDER: &str = "secrets";
/// The longest, in bytes: as long as one is that is read.
const BYTES_MAX: usize = 4096;

/// A secret that a set-up may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// Of whoever signs in at the mail server.
    MailPassword,
    /// By which calls are signed.
    WebhookSecret,
}

/// Which of a secret's files.
#[derive(Clone, Copy)]
enum As {
    Typed,
    New,
    Counting,
}

impl Secret {
    /// All of them.
    pub const ALL: [Secret; 2] = [Secret::MailPassword, Secret::WebhookSecret];

    /// The key of a set-up file that it stands under.
    pub fn field(self) -> &'static str {
        match self {
            Secret::MailPassword => "notices.mail.password",
            Secret::WebhookSecret => "notices.webhook.secret",
        }
    }

    /// The field of the page that it is typed into.
    pub fn typed_field(self) -> String {
        self.field().replace('.', "_")
    }

    /// The setting that names its file.
    pub fn key(self) -> &'static str {
        match self {
            Secret::MailPassword => "notices.mail.password_file",
            Secret::WebhookSecret => "notices.webhook.secret_file",
        }
    }

    /// The one that is typed into a field.
    pub fn of_field(field: &str) -> Option<Secret> {
        Secret::ALL.into_iter().find(|secret| secret.typed_field() == field)
    }

    fn name(self, which: As) -> String {
        match which {
            As::Typed => format!("typed.{}", self.typed_field()),
            As::New => format!("{}.new", self.field()),
            As::Counting => self.field().to_owned(),
        }
    }
}

/// The secrets of a box.
pub struct Secrets {
    folder: PathBuf,
}

impl Secrets {
    /// Those of a data folder.
    pub fn of(data: &Path) -> Secrets {
        Secrets { folder: data.join(FOLDER) }
    }

    /// Keeps what was typed; an empty text is none.
    pub fn type_in(&self, secret: Secret, text: &str) -> Result<(), Failed> {
        if text.is_empty() {
            return Ok(());
        }
        if text.len() > BYTES_MAX {
            return Err(Failed::about(&secret.typed_field(), format!("at most {BYTES_MAX} bytes, please")));
        }
        self.write(secret, As::Typed, text)
    }

    /// What was typed.
    pub fn typed(&self, secret: Secret) -> Option<String> {
        fs::read_to_string(self.path(secret, As::Typed)).ok()
    }

    /// Where that lies.
    pub fn typed_file(&self, secret: Secret) -> String {
        self.path(secret, As::Typed).display().to_string()
    }

    /// Where what counts lies.
    pub fn file(&self, secret: Secret) -> String {
        self.path(secret, As::Counting).display().to_string()
    }

    /// Forgets what was typed.
    pub fn forget(&self, secret: Secret) -> Result<(), Failed> {
        removed(&self.path(secret, As::Typed)).map_err(|error| failed(secret, &error))
    }

    /// Lays down what is to count from now on, together with settings that are not written yet.
    pub(super) fn bring(&self, secret: Secret, text: &str) -> Result<(), Failed> {
        self.write(secret, As::New, text)
    }

    /// Those settings were refused.
    pub(super) fn take_back(&self, secret: Secret) -> Result<(), Failed> {
        removed(&self.path(secret, As::New)).map_err(|error| failed(secret, &error))
    }

    /// Those settings are written: what was laid down counts. It may be said twice.
    pub(super) fn settle(&self) -> Result<(), Failed> {
        for secret in Secret::ALL {
            match fs::rename(self.path(secret, As::New), self.path(secret, As::Counting)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(secret, &error)),
                Ok(()) => {}
            }
            File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(secret, &error))?;
            self.forget(secret)?;
        }
        Ok(())
    }

    fn path(&self, secret: Secret, which: As) -> PathBuf {
        self.folder.join(secret.name(which))
    }

    fn write(&self, secret: Secret, which: As, text: &str) -> Result<(), Failed> {
        self.try_write(&self.path(secret, which), text).map_err(|error| failed(secret, &error))
    }

    fn try_write(&self, path: &Path, text: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push("~");
        let beside = PathBuf::from(beside);
        removed(&beside)?;
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(secret: Secret, error: &io::Error) -> Failed {
    Failed::environment(format!("the file for {} can't be written: {error}", secret.field()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_typed_counts_only_when_it_was_brought_and_settled() {
        let data = tempfile::tempdir().expect("a folder");
        let (secrets, which) = (Secrets::of(data.path()), Secret::MailPassword);
        let counts = || fs::read_to_string(secrets.file(which)).ok();
        secrets.settle().expect("nothing to do");
        secrets.type_in(which, "seven barges").expect("kept");
        secrets.type_in(which, "").expect("nothing typed is nothing new");
        assert_eq!((secrets.typed(which).as_deref(), counts()), (Some("seven barges"), None));
        let mode = |path: &str| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&secrets.typed_file(which)), mode(&secrets.folder.display().to_string())), (0o600, 0o700));
        secrets.bring(which, "seven barges").expect("laid down");
        secrets.take_back(which).expect("refused");
        secrets.settle().expect("nothing to do");
        assert_eq!(counts(), None);
        secrets.bring(which, "seven barges").expect("laid down");
        assert_eq!(counts(), None, "a cut of power here changes nothing");
        secrets.settle().expect("settled");
        assert_eq!((counts().as_deref(), secrets.typed(which)), (Some("seven barges"), None));
        assert_eq!(mode(&secrets.file(which)), 0o600);
        assert!(secrets.type_in(which, &"x".repeat(BYTES_MAX + 1)).is_err());
        assert_eq!(Secret::of_field("notices_webhook_secret"), Some(Secret::WebhookSecret));
        assert_eq!(Secret::of_field("name"), None);
    }
}
