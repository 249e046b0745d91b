//! `[page.acme]`: a certificate of an authority, where the box has a name.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

/// The port that an authority asks at (RFC 8555, 8.3).
const PORT: u16 = 80;
/// Most names of one certificate.
const NAMES_MAX: usize = 20;
/// Longest name, and longest part of one (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// `[page.acme]`. It stands in the config file alone: it names files, and whom the box calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Acme {
    /// The authority's directory, as in `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory: String,
    /// The names of the box that the certificate is for.
    pub names: Vec<String>,
    /// Whom the authority writes to, by mail; nobody where nothing is said.
    pub contact: Option<String>,
    /// Whether somebody has read the terms of the authority and agrees to them.
    pub agree: bool,
    /// Where the authority's questions are answered while something is ordered; all IPv4 addresses, port 80, where nothing is said.
    pub listen: Option<String>,
    /// The account at the authority that this box's is bound to, where the authority wants one.
    pub account_id: Option<String>,
    /// File with the key of that account, as the authority gave it (base64url).
    pub account_key_file: Option<PathBuf>,
    /// PEM file with who signs the directory's certificate; whom the system trusts where nothing is said.
    pub ca_file: Option<PathBuf>,
}

impl Acme {
    /// Where questions are answered.
    pub fn address(&self) -> SocketAddr {
        let default = || SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        self.listen.as_deref().and_then(|text| text.parse().ok()).unwrap_or_else(default)
    }

    /// The names, as they are compared.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        names
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !self.directory.starts_with("https://") || self.directory.contains(char::is_whitespace) {
            return Err(format!(
                "page.acme.directory = {:?}: expected the directory of an authority, as in \"https://acme-v02.api.letsencrypt.org/directory\"",
                self.directory
            ));
        }
        if self.names.is_empty() || self.names.len() > NAMES_MAX {
            return Err(format!("page.acme.names: expected one to {NAMES_MAX} names of this box"));
        }
        for name in &self.names {
            check_name(name.trim()).map_err(|why| format!("page.acme.names: {name:?} {why}"))?;
        }
        if !self.agree {
            return Err(
                "page.acme.agree: say true once you have read the terms of the authority and agree to them".into()
            );
        }
        if self.listen.as_ref().is_some_and(|text| text.parse::<SocketAddr>().is_err()) {
            return Err("page.acme.listen: expected an address and a port such as \"0.0.0.0:80\"".into());
        }
        if self.contact.as_ref().is_some_and(|mail| !is_mail(mail)) {
            return Err("page.acme.contact: expected a mail address such as \"admin@example.org\"".into());
        }
        match (&self.account_id, &self.account_key_file) {
            (Some(_), None) => Err("page.acme.account_key_file: the file with the account's key is missing".into()),
            (None, Some(_)) => Err("page.acme.account_id: whose key that is is missing".into()),
            _ => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.starts_with("*.") {
        return Err("stands for many: an authority wants an entry in DNS for that, which the box can't make");
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err("is an address: an authority knows the box by a name");
    }
    match name.len() <= NAME_BYTES_MAX && name.split('.').all(label) {
        true => Ok(()),
        false => Err("is no name of a host, as in backup.example.org"),
    }
}

fn is_mail(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b",?&<>\"".contains(&byte));
    plain && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && check_name(host).is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    const GOOD: &str =
        "directory = 'https://a.example/dir'\nnames = ['Box.Example.org', 'box.example.org ']\nagree = true\n";

    fn read(text: &str) -> Result<Config, String> {
        Config::read(&format!("[page.acme]\n{text}"))
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let config = read(GOOD).expect("sound");
        let acme = config.page.acme.expect("there");
        assert_eq!(
            (acme.names(), acme.address().to_string()),
            (vec!["box.example.org".to_owned()], "0.0.0.0:80".into())
        );
        for (from, to, key) in [
            ("https:", "http:", "page.acme.directory"),
            ("agree = true", "", "page.acme.agree"),
            ("Box.Example.org", "*.example.org", "page.acme.names"),
            ("Box.Example.org", "192.0.2.1", "page.acme.names"),
            ("Box.Example.org", "bo_x", "page.acme.names"),
            ("Box.Example.org", "büro.example", "page.acme.names"),
            ("agree", "listen = '80'\nagree", "page.acme.listen"),
            ("agree", "contact = 'mailto:a@example.org?x'\nagree", "page.acme.contact"),
            ("agree", "account_id = 'a'\nagree", "page.acme.account_key_file"),
            ("agree", "account_key_file = 'a'\nagree", "page.acme.account_id"),
            ("agree", "terms = true\nagree", "terms"),
        ] {
            let refused = read(&GOOD.replace(from, to)).expect_err(to);
            assert!(refused.contains(key), "{to}: {refused}");
        }
        let both = format!("[page]\ncertificate_file = 'a'\nkey_file = 'b'\n[page.acme]\n{GOOD}");
        assert!(Config::read(&both).is_err_and(|refused| refused.contains("page.certificate_file")));
    }
}
