//! Hooks over HTTP and HTTPS: one POST, one answer.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use ureq::config::Config;
use ureq::{Agent, Error};

use super::call::{About, Ended, one_line};
use crate::config::Hook;
use crate::trust;

/// What of an answer is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 8192;
/// What of it is shown, in characters: enough for a person to see what is wrong.
const SHOWN_CHARS_MAX: usize = 500;

/// Calls an address. Any answer of 2xx is a yes; redirections are not followed, for they would take the secret elsewhere.
pub(super) fn post(hook: &Hook, address: &str, about: &About, time: Duration) -> Ended {
    let token = match hook.token_file.as_deref().map(read_token).transpose() {
        Ok(token) => token,
        Err(why) => return Ended::NotBegun(why),
    };
    let config = Agent::config_builder()
        .timeout_global(Some(time))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(concat!("narrowboat/", env!("CARGO_PKG_VERSION")));
    let agent: Agent = match trust::tls(hook.ca_file.as_deref(), address) {
        Ok(tls) => Config::into(config.tls_config(tls).build()),
        Err(why) => return Ended::NotBegun(why),
    };
    let body = json!({ "phase": about.phase, "datasets": about.datasets, "mark": about.mark }).to_string();
    let mut request = agent.post(address).header("Content-Type", "application/json");
    if let Some(token) = &token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    match request.send(body) {
        Ok(answer) if answer.status().is_success() => Ended::Done,
        Ok(mut answer) => {
            let status = answer.status();
            // Only for a person to read: what can't be read is not missed.
            let mut said = Vec::new();
            let _ = answer.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut said);
            let said = shown(&String::from_utf8_lossy(&said), token.as_deref());
            let why = if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") };
            Ended::Refused { code: None, why }
        }
        Err(error) => failed(&error),
    }
}

/// The beginning of an answer. Servers repeat what they were told, so the secret is taken out, and that before anything is cut
/// off: half of it would be found no more.
fn shown(answer: &str, token: Option<&str>) -> String {
    let answer = token.map_or(answer.to_owned(), |token| answer.replace(token, "***"));
    let beginning: String = answer.chars().take(SHOWN_CHARS_MAX).collect();
    one_line(&beginning, false)
}

/// What an error means. Nothing of the address is in the text: it may hold a secret.
fn failed(error: &Error) -> Ended {
    match error {
        Error::HostNotFound => Ended::NotBegun("its host is not known".into()),
        Error::ConnectionFailed => Ended::NotBegun("its host can't be reached".into()),
        Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Ended::NotBegun("nobody listens there".into())
        }
        Error::BadUri(_) | Error::Http(_) => Ended::NotBegun("this is no address that HTTP knows".into()),
        // The standard library gives this error no kind of its own.
        Error::Io(error) if error.to_string().starts_with("failed to lookup address") => {
            Ended::NotBegun("its host is not known".into())
        }
        Error::Io(error) if is_distrust(error) => Ended::NotBegun(format!("the server is not to be trusted: {error}")),
        Error::Timeout(_) => Ended::Unknown("it took too long and was left".into()),
        error => Ended::Unknown(format!("the call broke off: {error}")),
    }
}

/// True where nothing was sent yet, because the server's certificate does not prove who it is.
fn is_distrust(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

fn read_token(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("its token_file can't be read: {error}"))?;
    match text.trim() {
        "" => Err("its token_file is empty".into()),
        token if token.contains(|c: char| c.is_control() || !c.is_ascii()) => {
            Err("its token_file holds more than one line of plain characters".into())
        }
        token => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_secret_shows_wherever_an_answer_is_cut() {
        for before in [0, SHOWN_CHARS_MAX - 3, SHOWN_CHARS_MAX, ANSWER_BYTES_MAX as usize - 3] {
            let answer = "x".repeat(before) + "s3cret" + &"y".repeat(9000);
            let read = &answer[..ANSWER_BYTES_MAX as usize];
            let shown = shown(read, Some("s3cret"));
            assert!(!shown.contains("s3") && shown.len() <= SHOWN_CHARS_MAX, "{shown}");
        }
    }
}
