//! `[notices]`: what the box tells by itself, to whom, and how.

use std::path::PathBuf;

use lettre::message::Mailbox;
use serde::Deserialize;

use crate::notices::core::Rules;
use crate::units::parse_duration;

/// Longest time before a problem is told, and between two reminders.
const LONGEST: u64 = 90 * 86_400;

/// `[notices]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notices {
    /// A problem that lasts for so long is told; five minutes where nothing is said.
    pub after: Option<String>,
    /// After how long it is told again; a day where nothing is said.
    pub remind: Option<String>,
    /// Notices an hour, at most; ten where nothing is said.
    pub per_hour: Option<u32>,
    /// What part of what a snapshot held, in percent, has to be gone for it to be told; 0 for never, half where nothing is said.
    pub lost_percent: Option<u32>,
    /// Whether servers on this machine itself, or beside it without a router's help (link-local addresses), may be told.
    pub local: bool,
    /// By mail.
    pub mail: Mail,
    /// By a call over HTTPS.
    pub webhook: Webhook,
    /// To a log server.
    pub syslog: Syslog,
}

/// `[notices.mail]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// To whom; to nobody where nothing is said.
    pub to: Vec<String>,
    /// From whom.
    pub from: Option<String>,
    /// The server that takes it, with its port: 465 for TLS from the beginning, 587 or 25 for STARTTLS.
    pub server: Option<String>,
    /// "implicit" or "starttls"; what the port means where nothing is said.
    pub tls: Option<String>,
    /// Who signs in there; nobody where nothing is said.
    pub user: Option<String>,
    /// File with his password.
    pub password_file: Option<PathBuf>,
    /// PEM file with who signs the server's certificate; whom the system trusts where nothing is said.
    pub ca_file: Option<PathBuf>,
}

/// `[notices.webhook]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// `https://…`.
    pub address: Option<String>,
    /// File with the secret by which calls are signed.
    pub secret_file: Option<PathBuf>,
    /// As that of mail.
    pub ca_file: Option<PathBuf>,
}

/// `[notices.syslog]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Syslog {
    /// Host and port.
    pub server: Option<String>,
    /// "udp" or "tcp"; UDP where nothing is said.
    pub protocol: Option<String>,
    /// Whether it gets the audit log, too; yes where nothing is said.
    pub audit: Option<bool>,
}

impl Notices {
    /// When what is told; what makes no sense was refused when the config was read.
    pub fn rules(&self) -> Rules {
        let seconds = |text: &Option<String>| text.as_deref().and_then(|text| parse_duration(text).ok());
        Rules {
            after: seconds(&self.after).unwrap_or(300),
            remind: seconds(&self.remind).unwrap_or(86_400),
            per_hour: self.per_hour.unwrap_or(10),
        }
    }

    /// What part of a dataset has to be gone for it to be told, in percent; 0: never.
    pub fn lost_percent(&self) -> u32 {
        self.lost_percent.unwrap_or(crate::losses::PERCENT)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (key, text) in [("after", &self.after), ("remind", &self.remind)] {
            let Some(text) = text else { continue };
            let seconds = parse_duration(text).map_err(|refusal| format!("notices.{key}: {refusal}"))?;
            if !(1..=LONGEST).contains(&seconds) {
                return Err(format!("notices.{key} = {text:?}: expected a second or more, and 90 days at most"));
            }
        }
        if self.per_hour.is_some_and(|number| !(1..=1000).contains(&number)) {
            return Err("notices.per_hour: expected 1 to 1000".into());
        }
        if self.lost_percent.is_some_and(|percent| percent != 0 && !(10..=100).contains(&percent)) {
            return Err("notices.lost_percent: expected 10 to 100, or 0 for never".into());
        }
        self.mail.check()?;
        self.webhook.check()?;
        self.syslog.check()
    }
}

impl Mail {
    /// Whether it begins with TLS, where it does not begin it later.
    pub fn is_implicit(&self) -> bool {
        match self.tls.as_deref() {
            Some(kind) => kind == "implicit",
            None => self.server.as_deref().is_some_and(|server| server.ends_with(":465")),
        }
    }

    fn check(&self) -> Result<(), String> {
        for (key, address) in self.to.iter().map(|to| ("to", to)).chain(self.from.iter().map(|from| ("from", from))) {
            address.parse::<Mailbox>().map_err(|_| {
                format!("notices.mail.{key}: {address:?} is no mail address such as \"admin@example.org\" or \"Anna <anna@example.org>\"")
            })?;
        }
        if let Some(server) = &self.server {
            host_and_port(server).map_err(|why| format!("notices.mail.server: {why}"))?;
        }
        if self.tls.as_deref().is_some_and(|kind| kind != "implicit" && kind != "starttls") {
            return Err("notices.mail.tls: expected \"implicit\" (from the beginning) or \"starttls\"".into());
        }
        match (self.to.is_empty(), &self.from, &self.server) {
            (false, None, _) => return Err("notices.mail.from: the address of who writes is missing".into()),
            (false, _, None) => {
                return Err(
                    "notices.mail.server: the server that takes mail is missing, as in \"mail.example.org:465\"".into(),
                );
            }
            _ => {}
        }
        match (&self.user, &self.password_file) {
            (Some(_), None) => Err("notices.mail.password_file: the file with the password is missing".into()),
            (None, Some(_)) => Err("notices.mail.user: whose password that is is missing".into()),
            _ => Ok(()),
        }
    }
}

impl Webhook {
    fn check(&self) -> Result<(), String> {
        let Some(address) = &self.address else { return Ok(()) };
        let wrong = |why: &str| Err(format!("notices.webhook.address: {why}"));
        if !address.starts_with("https://") {
            return wrong("expected \"https://HOST/PATH\": what is told is nobody else's business");
        }
        if !address.is_ascii() {
            return wrong("letters beyond ASCII have to be written as they go over the line (%C3%BC)");
        }
        match address.parse::<ureq::http::Uri>() {
            Ok(uri) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
                wrong("a name and password have no place in it")
            }
            Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => Ok(()),
            _ => wrong("this is no address that HTTP knows"),
        }
    }
}

impl Syslog {
    /// Whether it is told by TCP.
    pub fn is_tcp(&self) -> bool {
        self.protocol.as_deref() == Some("tcp")
    }

    fn check(&self) -> Result<(), String> {
        if let Some(server) = &self.server {
            host_and_port(server).map_err(|why| format!("notices.syslog.server: {why}"))?;
        }
        match self.protocol.as_deref() {
            None | Some("udp" | "tcp") => Ok(()),
            Some(_) => Err("notices.syslog.protocol: expected \"udp\" or \"tcp\"".into()),
        }
    }
}

/// `HOST:PORT`, `[ADDRESS]:PORT`.
pub fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("{text:?}: expected a host and a port such as \"mail.example.org:465\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &str| {
        !host.is_empty() && host.len() < 254 && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
    };
    match bare {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => Ok((address, port)),
        None if is_name(host) => Ok((host, port)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        assert_eq!(host_and_port("mail.example.org:465"), Ok(("mail.example.org", 465)));
        assert_eq!(host_and_port("[2001:db8::1]:25"), Ok(("2001:db8::1", 25)));
        for wrong in
            ["mail", "mail:", "mail:0", "mail:99999", ":25", "2001:db8::1:25", "a b:25", "a\r\nb:25", "[x]:1", "a/b:1"]
        {
            assert!(host_and_port(wrong).is_err(), "{wrong:?}");
        }
    }
}
