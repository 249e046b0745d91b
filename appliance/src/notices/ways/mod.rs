//! The ways by which notices leave the box. Each is asked to tell one thing at a time, by a thread of its own: what never answers holds up nobody else.

mod mail;
mod reach;
mod syslog;
mod webhook;

use std::path::Path;

use super::core::Notice;
use super::text::{Speaker, plain};
use crate::accounts::audit::Chained;
use crate::config;
use crate::trust;

pub(super) use mail::Mail;
pub(super) use syslog::Syslog;
pub(super) use webhook::Webhook;

/// Why something was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// In words, without anything secret.
    pub why: String,
    /// Whether the other side was reached and wants none of just this.
    pub refused: bool,
}

impl Trouble {
    /// It may be well later.
    fn of(why: impl AsRef<str>) -> Trouble {
        Trouble { why: plain(why.as_ref()), refused: false }
    }

    /// It was looked at and refused.
    fn refusal(why: impl AsRef<str>) -> Trouble {
        Trouble { refused: true, ..Trouble::of(why) }
    }
}

/// What is told.
#[derive(Clone, Debug)]
pub(super) struct Telling {
    pub notice: Notice,
    /// Notices before it that were given up, or are not kept any more.
    pub skipped: u64,
    /// It is only to see whether it arrives.
    pub test: bool,
}

/// A way.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Mail(Mail),
    Webhook(Webhook),
    Syslog(Syslog),
}

impl Way {
    /// Those that a config has.
    pub fn all(config: &config::Notices) -> Vec<Way> {
        let mail = Mail::of(config).map(Way::Mail);
        let webhook = Webhook::of(config).map(Way::Webhook);
        let syslog = Syslog::of(config).map(Way::Syslog);
        [mail, webhook, syslog].into_iter().flatten().collect()
    }

    /// As commands and messages call it.
    pub fn name(&self) -> &'static str {
        match self {
            Way::Mail(_) => "mail",
            Way::Webhook(_) => "webhook",
            Way::Syslog(_) => "syslog",
        }
    }

    /// Whom it tells, without anything secret.
    pub fn target(&self) -> String {
        match self {
            Way::Mail(mail) => mail.target(),
            Way::Webhook(webhook) => webhook.target(),
            Way::Syslog(syslog) => syslog.target(),
        }
    }

    /// Whether it gets the audit log.
    pub fn takes_audit(&self) -> bool {
        matches!(self, Way::Syslog(syslog) if syslog.audit)
    }

    /// Tells.
    pub fn tell(&self, speaker: &Speaker, telling: &Telling) -> Result<(), Trouble> {
        match self {
            Way::Mail(mail) => mail.tell(speaker, telling),
            Way::Webhook(webhook) => webhook.tell(speaker, telling),
            Way::Syslog(syslog) => syslog.tell(speaker, telling),
        }
    }

    /// Sends entries of the audit log on, where it takes them.
    pub fn pass_on(&self, speaker: &Speaker, entries: &[Chained]) -> Result<(), Trouble> {
        match self {
            Way::Syslog(syslog) => syslog.pass_on(speaker, entries),
            Way::Mail(_) | Way::Webhook(_) => Ok(()),
        }
    }
}

/// A secret that lies in a file.
fn secret(key: &str, file: &Path) -> Result<String, Trouble> {
    trust::secret(file).map_err(|why| Trouble::of(format!("notices.{key} {}: {why}", file.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        let with = |text: &str, mode: u32| {
            fs::write(&file, text).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
            secret("mail.password_file", &file)
        };
        assert_eq!(with("s3cret with spaces \n", 0o600), Ok("s3cret with spaces ".into()));
        for (text, mode) in [
            ("s3cret", 0o640),
            ("s3cret", 0o604),
            ("\n", 0o600),
            ("s3cret\r\nmore", 0o600),
            (&*"s3cret".repeat(900), 0o600),
        ] {
            let trouble = with(text, mode).expect_err("no secret");
            assert!(!trouble.why.contains("s3cret"), "{trouble:?}");
        }
    }
}
