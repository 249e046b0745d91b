//! Notices by mail: SMTP, over TLS from the beginning or from STARTTLS on. There is no third way: what is told, and the password, are nobody else's business.

use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport};

use super::{Telling, Trouble, reach, secret};
use crate::config;
use crate::config::notices::host_and_port;
use crate::notices::core::Severity;
use crate::notices::text::{self, Speaker};
use crate::trust;

/// How long a server may take for each answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A server that takes mail, and who gets it.
#[derive(Clone, Debug)]
pub(in crate::notices) struct Mail {
    config: config::notices::Mail,
    local: bool,
}

impl Mail {
    pub fn of(config: &config::Notices) -> Option<Mail> {
        (!config.mail.to.is_empty()).then(|| Mail { config: config.mail.clone(), local: config.local })
    }

    pub fn target(&self) -> String {
        format!("{} through {}", self.config.to.join(", "), self.server())
    }

    pub fn tell(&self, speaker: &Speaker, telling: &Telling) -> Result<(), Trouble> {
        let message = self.message(speaker, telling)?;
        let (host, port) = host_and_port(self.server()).map_err(Trouble::of)?;
        let parameters = self.tls(host)?;
        let mut last = Trouble::of("its host has no address");
        for address in reach::addresses(host, port, self.local)? {
            let tls = if self.config.is_implicit() {
                Tls::Wrapper(parameters.clone())
            } else {
                Tls::Required(parameters.clone())
            };
            let mut transport = SmtpTransport::builder_dangerous(address.ip().to_string())
                .port(port)
                .timeout(Some(TIMEOUT))
                .hello_name(hello(&speaker.name))
                .tls(tls);
            if let (Some(user), Some(file)) = (&self.config.user, &self.config.password_file) {
                transport = transport
                    .credentials(Credentials::new(user.clone(), secret("mail.password_file", file)?))
                    .authentication(vec![Mechanism::Plain, Mechanism::Login]);
            }
            match transport.build().send(&message) {
                Ok(_) => return Ok(()),
                Err(error) => last = trouble(&error),
            }
            if last.refused {
                break;
            }
        }
        Err(last)
    }

    fn server(&self) -> &str {
        self.config.server.as_deref().unwrap_or_default()
    }

    fn tls(&self, host: &str) -> Result<TlsParameters, Trouble> {
        let mut tls = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
        for der in trust::certificates(self.config.ca_file.as_deref()).map_err(Trouble::of)? {
            // One of many that rustls does not understand: it vouches for nobody then.
            if let Ok(certificate) = Certificate::from_der(der) {
                tls = tls.add_root_certificate(certificate);
            }
        }
        tls.build().map_err(|error| trouble(&error))
    }

    /// All that others may have chosen in it is one line each, and encoded by who knows how.
    fn message(&self, speaker: &Speaker, telling: &Telling) -> Result<Message, Trouble> {
        let notice = &telling.notice;
        let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|_| Trouble::of("this is no mail address"));
        let kind = if telling.test { "test" } else { "notice" };
        let domain = self.config.from.as_deref().and_then(|from| from.parse::<Mailbox>().ok());
        let domain = domain.map_or_else(|| "localhost".to_owned(), |from| from.email.domain().to_owned());
        let own: String = speaker.store.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        let mut message = Message::builder()
            .from(mailbox(self.config.from.as_deref().unwrap_or_default())?)
            .date(UNIX_EPOCH + Duration::from_secs(notice.at))
            .message_id(Some(format!("<{kind}.{}.{}.{own}@{domain}>", notice.n, notice.at)))
            .subject(text::subject(speaker, notice))
            .header(ContentType::TEXT_PLAIN)
            // Nobody's holiday is of interest to a box (RFC 3834).
            .raw_header(raw("Auto-Submitted", "auto-generated"));
        if notice.severity() == Severity::Problem {
            message = message.raw_header(raw("Importance", "high"));
        }
        for to in &self.config.to {
            message = message.to(mailbox(to)?);
        }
        let skipped = match telling.skipped {
            0 => String::new(),
            skipped => format!(
                "{skipped} earlier notices could not be told this way: `narrowboat notice list` may have them.\n\n"
            ),
        };
        message
            .body(format!("{skipped}{}", text::body(speaker, notice)))
            .map_err(|error| Trouble::of(error.to_string()))
    }
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.into())
}

/// How the box introduces itself: by its name, where that could be one of a host.
fn hello(name: &str) -> ClientId {
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    if is_plain { ClientId::Domain(name.to_owned()) } else { ClientId::default() }
}

fn trouble(error: &lettre::transport::smtp::Error) -> Trouble {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !why.contains(&said) {
            why = format!("{why}: {said}");
        }
        cause = inner.source();
    }
    if error.is_permanent() { Trouble::refusal(why) } else { Trouble::of(why) }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::notices::core::{Item, Kind, Notice};

    #[test]
    fn no_name_becomes_a_header() {
        let evil = "x\r\nBcc: all@example.org\r\n\r\nHello\u{202e} größer";
        let config = config::notices::Mail {
            to: vec!["Änne <anna@example.org>".into()],
            from: Some("box@example.org".into()),
            server: Some("mail.example.org:465".into()),
            ..config::notices::Mail::default()
        };
        let speaker = Speaker { name: evil.into(), store: evil.into(), zone: TimeZone::UTC };
        let item = Item { kind: Kind::Began, severity: Severity::Problem, what: evil.into(), ..Item::default() };
        // Also where somebody forgot to make a line of it.
        let notice = Notice { n: 1, at: 1_700_000_000, items: vec![item], ..Notice::default() };
        let mail = Mail { config, local: false };
        let message = mail.message(&speaker, &Telling { notice, skipped: 0, test: false }).expect("a mail");
        let text = String::from_utf8(message.formatted()).expect("all of it is ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        let names: Vec<&str> = head
            .split("\r\n")
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| Some(line.split_once(':')?.0))
            .collect();
        assert!(!names.contains(&"Bcc") && names.contains(&"Subject") && names.contains(&"Date"), "{head}");
        assert!(
            head.is_ascii() && head.contains("Importance: high") && head.contains("Auto-Submitted: auto-generated"),
            "{head}"
        );
        assert!(!body.is_empty());
        assert_eq!(message.envelope().to().len(), 1, "nobody else gets it");
    }
}
