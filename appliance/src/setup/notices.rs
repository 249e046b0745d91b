//! Who is told by the box itself: what of a set-up becomes `[notices]` of the config file, and which secrets go with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::secrets::Secret;
use crate::config::settings::{self, By};
use crate::control::Failed;

/// Who gets notices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpNotices")]
pub struct Notices {
    /// By mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
    /// By a call over HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// To a log server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog: Option<Syslog>,
}

/// Who gets mail, and through which server.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpMail")]
pub struct Mail {
    /// To whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// From whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The server that takes it, with its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Who signs in there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// His password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// An address that is called.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpWebhook")]
pub struct Webhook {
    /// `https://…`.
    pub address: String,
    /// By what calls are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A log server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpSyslog")]
pub struct Syslog {
    /// Host and port.
    pub server: String,
}

impl std::fmt::Debug for Mail {
    /// Not the password: it does not belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("to", &self.to).field("server", &self.server).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Webhook {
    /// Neither the secret nor what stands behind the host.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

impl Notices {
    /// What of it is settings that anybody may change who may change settings.
    pub(super) fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut all = Vec::new();
        if let Some(mail) = &self.mail {
            if !mail.to.is_empty() {
                all.push(("notices.mail.to", Value::from(mail.to.clone())));
            }
            all.extend(mail.from.as_deref().map(|from| ("notices.mail.from", from.into())));
            all.extend(mail.server.as_deref().map(|server| ("notices.mail.server", server.into())));
        }
        all.extend(self.webhook.iter().map(|hook| ("notices.webhook.address", hook.address.as_str().into())));
        all.extend(self.syslog.iter().map(|log| ("notices.syslog.server", log.server.as_str().into())));
        all
    }

    /// What of it goes with secrets, which lie where `file_of` says.
    pub(super) fn with_secrets(&self, file_of: impl Fn(Secret) -> String) -> Vec<(&'static str, Value)> {
        let mut all = Vec::new();
        if let Some(mail) = &self.mail {
            all.extend(mail.user.as_deref().map(|user| ("notices.mail.user", user.into())));
            all.extend(
                mail.password.as_ref().map(|_| (Secret::MailPassword.key(), file_of(Secret::MailPassword).into())),
            );
        }
        let signed = self.webhook.as_ref().and_then(|hook| hook.secret.as_ref());
        all.extend(signed.map(|_| (Secret::WebhookSecret.key(), file_of(Secret::WebhookSecret).into())));
        all
    }

    /// All that it changes in a config file, with the secrets where `file_of` says.
    pub fn changes(&self, file_of: impl Fn(Secret) -> String) -> BTreeMap<String, Option<Value>> {
        let all = self.settings().into_iter().chain(self.with_secrets(file_of));
        all.map(|(key, value)| (key.to_owned(), Some(value))).collect()
    }

    /// Its secrets.
    pub(super) fn secrets(&self) -> Vec<(Secret, &str)> {
        let password = self.mail.as_ref().and_then(|mail| mail.password.as_deref());
        let signed = self.webhook.as_ref().and_then(|hook| hook.secret.as_deref());
        let all = [(Secret::MailPassword, password), (Secret::WebhookSecret, signed)];
        all.into_iter().filter_map(|(secret, text)| Some((secret, text?))).collect()
    }

    /// The same without its secrets: what they were needed for is done, or is somebody else's to say.
    pub fn without_secrets(mut self) -> Notices {
        if let Some(mail) = &mut self.mail {
            mail.password = None;
        }
        if let Some(hook) = &mut self.webhook {
            hook.secret = None;
        }
        self
    }

    /// What of it is in a file for other boxes: nothing that is secret, and nothing that makes no sense without.
    pub fn for_others(self) -> Option<Notices> {
        let mail = self.mail.map(|mail| Mail { user: None, password: None, ..mail });
        let any = mail.is_some() || self.syslog.is_some();
        any.then_some(Notices { mail, webhook: None, syslog: self.syslog })
    }

    /// The same with what was typed of its secrets, where that belongs to something.
    pub(super) fn with_typed(mut self, typed: impl Fn(Secret) -> Option<String>) -> Notices {
        if let Some(mail) = self.mail.as_mut().filter(|mail| mail.user.is_some() && mail.password.is_none()) {
            mail.password = typed(Secret::MailPassword);
        }
        if let Some(hook) = self.webhook.as_mut().filter(|hook| hook.secret.is_none()) {
            hook.secret = typed(Secret::WebhookSecret);
        }
        self
    }

    /// Refuses what the reader of the config file would refuse, by the field that it is about. What a set-up says of notices makes sense together, or
    /// not at all.
    pub(super) fn check(&self, mut settings: BTreeMap<String, Option<Value>>) -> Result<(), Failed> {
        if self.mail.as_ref().is_some_and(|mail| mail.to.is_empty()) {
            return Err(Failed::about("notices.mail.to", "who is to get mail is missing"));
        }
        for (secret, text) in self.secrets() {
            if text.contains(char::is_control) {
                return Err(Failed::about(secret.field(), "a line break or control character can't be part of it"));
            }
        }
        // Which file has a secret is said by who brings the secret.
        settings.keys().try_for_each(|key| settings::for_anybody(key))?;
        let files = self.with_secrets(|_| "/secret".into());
        settings.extend(files.into_iter().map(|(key, value)| (key.to_owned(), Some(value))));
        settings::changed_by(By::SetUp, "", &settings).map(drop).map_err(|failed| {
            // The sentence begins with the key that it is about, which need not be one that is there.
            match failed.message.split_once(": ") {
                Some((key, why)) if key.starts_with("notices.") => {
                    let key = key.replace("password_file", "password").replace("secret_file", "secret");
                    Failed::about(&key, why.replace("the file with the password", "the password"))
                }
                _ => failed,
            }
        })
    }
}
