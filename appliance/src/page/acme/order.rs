//! One order at an authority, from the account to the certificate (RFC 8555, 7).

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use serde_json::Value;

use super::answers::Answers;
use super::calls::{Asked, Calls};
use crate::config;

/// How long the authority may take to ask, and to give.
const PATIENCE: Duration = Duration::from_secs(180);
/// What problems of RFC 8555, 6.7, are called.
const PROBLEM: &str = "urn:ietf:params:acme:error:";
/// Longest explanation of others that is kept, in characters.
const WHY_MAX: usize = 300;

/// What was given.
pub struct Given {
    /// The certificate, and those that vouch for it.
    pub chain_pem: String,
    /// Its key, which has never left the box.
    pub key_pem: String,
}

/// Why nothing was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, in words.
    pub why: String,
    /// What somebody can do about it.
    pub remedy: String,
}

impl Refused {
    /// With what is to be done about it.
    pub fn of(why: impl Into<String>, remedy: &str) -> Refused {
        Refused { why: why.into(), remedy: remedy.into() }
    }
}

/// What to do where nothing better is known.
const AGAIN: &str = "It is tried again by itself; `narrowboat certificate order` tries it now.";

/// Orders a certificate. `account`: the box's account there, which is told to `keep` where it is a new one.
pub async fn order(
    config: &config::Acme,
    account: Option<Value>,
    asked: Asked,
    keep: &mut (dyn FnMut(Value) -> Result<(), Refused> + Send),
) -> Result<Given, Refused> {
    let answers = Answers::open(config.address()).await.map_err(|error| {
        let why = format!("{} can't be listened at for the authority's question: {error}", config.address());
        Refused::of(
            why,
            "Free that port, or name another one to which port 80 is forwarded: `listen` below [page.acme].",
        )
    })?;
    let identifiers: Vec<Identifier> = config.names().into_iter().map(Identifier::Dns).collect();
    let wanted = NewOrder::new(&identifiers);
    let known = match account {
        Some(account) => Some(known(config, account, asked.clone()).await?),
        None => None,
    };
    let mut order = match known {
        Some(account) => match account.new_order(&wanted).await {
            // It was taken away there, or the authority forgot it: a box without people makes another one.
            Err(Error::Api(problem)) if is(&problem, "accountDoesNotExist") => {
                new(config, asked, keep).await?.new_order(&wanted).await
            }
            order => order,
        },
        None => new(config, asked, keep).await?.new_order(&wanted).await,
    }
    .map_err(|error| in_words(config, &error))?;
    prove(config, &mut order, &answers).await?;
    let wrong = |error: Error| in_words(config, &error);
    let key_pem = order.finalize().await.map_err(wrong)?;
    let chain_pem = order.poll_certificate(&patience()).await.map_err(wrong)?;
    Ok(Given { chain_pem, key_pem })
}

fn patience() -> RetryPolicy {
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(PATIENCE)
}

fn calls(config: &config::Acme, asked: Asked) -> Result<Box<Calls>, Refused> {
    let calls = Calls::new(config, asked).map_err(|why| Refused::of(why, "Look at `ca_file` below [page.acme]."))?;
    Ok(Box::new(calls))
}

/// The account of old.
async fn known(config: &config::Acme, account: Value, asked: Asked) -> Result<Account, Refused> {
    let account = serde_json::from_value(account)
        .map_err(|error| Refused::of(format!("the account that was kept can't be read: {error}"), AGAIN))?;
    let builder = Account::builder_with_http(calls(config, asked)?);
    builder.from_credentials(account).await.map_err(|error| in_words(config, &error))
}

/// A new account.
async fn new(
    config: &config::Acme,
    asked: Asked,
    keep: &mut (dyn FnMut(Value) -> Result<(), Refused> + Send),
) -> Result<Account, Refused> {
    let contact: Vec<String> = config.contact.iter().map(|mail| format!("mailto:{mail}")).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: config.agree, only_return_existing: false };
    let bound = match (&config.account_id, &config.account_key_file) {
        (Some(id), Some(file)) => Some(ExternalAccountKey::new(id.clone(), &bound_key(file)?)),
        _ => None,
    };
    let builder = Account::builder_with_http(calls(config, asked)?);
    let (account, credentials) = builder
        .create(&wanted, config.directory.clone(), bound.as_ref())
        .await
        .map_err(|error| in_words(config, &error))?;
    let credentials = serde_json::to_value(credentials)
        .map_err(|error| Refused::of(format!("the new account can't be kept: {error}"), AGAIN))?;
    keep(credentials)?;
    Ok(account)
}

/// The key by which the account is bound to one that somebody has at the authority (RFC 8555, 7.3.4).
fn bound_key(file: &std::path::Path) -> Result<Vec<u8>, Refused> {
    let remedy = "Write the key as the authority gave it into the file that `account_key_file` names, for root alone.";
    let text = crate::trust::secret(file)
        .map_err(|why| Refused::of(format!("page.acme.account_key_file {}: {why}", file.display()), remedy))?;
    base64url(&text).ok_or_else(|| {
        Refused::of(format!("page.acme.account_key_file {}: this is no base64url", file.display()), remedy)
    })
}

/// What a text in base64url (RFC 4648, 5) stands for, padded or not.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    // One sign alone stands for no byte.
    (count < 6 && !bytes.is_empty()).then_some(bytes)
}

/// Shows for each name that the box answers at it.
async fn prove(config: &config::Acme, order: &mut Order, answers: &Answers) -> Result<(), Refused> {
    let wrong = |error: Error| in_words(config, &error);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(wrong)?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            other => return Err(Refused::of(format!("the authority has left a name behind: it is {other:?}"), AGAIN)),
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) else {
            let why = format!("the authority does not ask for {name} by http-01");
            return Err(Refused::of(why, "This box answers no other kind of question: choose another authority."));
        };
        let text = challenge.key_authorization();
        answers.add(&challenge.token, text.as_str());
        challenge.set_ready().await.map_err(wrong)?;
    }
    match order.poll_ready(&patience()).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(_) | Err(Error::Api(_)) => Err(why_not(config, order).await),
        Err(error) => Err(wrong(error)),
    }
}

/// Why an order came to nothing: what the authority says of its questions.
async fn why_not(config: &config::Acme, order: &mut Order) -> Refused {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            break;
        }
        let name = authorization.identifier().to_string();
        if let Some(problem) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            let refused = of_problem(config, problem);
            return Refused { why: format!("{name}: {}", refused.why), ..refused };
        }
    }
    Refused::of("the authority says no, and does not say why", AGAIN)
}

fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|found| found.strip_prefix(PROBLEM)) == Some(kind)
}

fn in_words(config: &config::Acme, error: &Error) -> Refused {
    match error {
        Error::Api(problem) => of_problem(config, problem),
        Error::Timeout(_) => Refused::of("the authority did not come to an end in time", AGAIN),
        Error::Json(_) => Refused::of(
            "what answers at the address of the directory is no authority",
            "Look at `directory` below [page.acme].",
        ),
        Error::Other(error) => Refused::of(short(&format!("the authority was not reached: {error}")), AGAIN),
        error => Refused::of(short(&format!("the order broke off: {error}")), AGAIN),
    }
}

fn of_problem(config: &config::Acme, problem: &Problem) -> Refused {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let kind = kind.strip_prefix(PROBLEM).unwrap_or(kind);
    let detail = problem.detail.as_deref().unwrap_or("it does not say why");
    let subs: Vec<&str> = problem.subproblems.iter().filter_map(|one| one.detail.as_deref()).collect();
    let why = short(&format!("the authority says {kind:?}: {}", [&[detail], &subs[..]].concat().join("; ")));
    let port = config.address().port();
    let remedy = match kind {
        "connection" | "tls" => &format!(
            "The authority asks at port 80 of that name: see to it that this reaches port {port} of the box, through routers and firewalls."
        ),
        "dns" => "See to it that the authority finds the box's address by that name in DNS.",
        "unauthorized" | "incorrectResponse" => {
            "Something else answers at port 80 of that name: see to it that the name stands for this box alone."
        }
        "externalAccountRequired" => {
            "This authority gives to its customers alone: set `account_id` and `account_key_file` below [page.acme] as it tells you."
        }
        "caa" => "The entry CAA of that name in DNS allows other authorities alone: add this one, or use one of those.",
        "rejectedIdentifier" | "unsupportedIdentifier" => {
            "This authority gives nothing for such a name: use another one."
        }
        "rateLimited" => "It is tried again once the authority allows it; nothing is to be done.",
        _ => AGAIN,
    };
    Refused { why, remedy: remedy.to_owned() }
}

/// What others say, without what can't be seen, and no longer than anybody reads.
fn short(text: &str) -> String {
    let seen = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(seen).take(WHY_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_authorities_write_them() {
        assert_eq!(base64url("Zm9vYg").as_deref(), Some(&b"foob"[..]));
        assert_eq!(base64url("Zm9vYg==").as_deref(), Some(&b"foob"[..]));
        assert_eq!(base64url("-_-_").as_deref(), Some(&[0xfb, 0xff, 0xbf][..]));
        assert_eq!((base64url(""), base64url("A"), base64url("Zm 9"), base64url("Zm9vY")), (None, None, None, None));
    }

    #[test]
    fn what_an_authority_says_comes_with_what_to_do() {
        let config = config::Acme { listen: Some("0.0.0.0:8080".into()), ..config::Acme::default() };
        let problem = |kind: &str, detail: &str| {
            let text = serde_json::json!({ "type": format!("{PROBLEM}{kind}"), "detail": detail });
            of_problem(&config, &serde_json::from_value(text).expect("a problem"))
        };
        let refused = problem("connection", "no route\r\nX: y");
        assert_eq!(refused.why, "the authority says \"connection\": no route  X: y");
        assert!(refused.remedy.contains("port 8080"), "{}", refused.remedy);
        assert!(problem("externalAccountRequired", "").remedy.contains("account_id"));
        assert_eq!(problem("whatever", &"x".repeat(9999)).why.chars().count(), WHY_MAX);
        assert_eq!(problem("whatever", "").remedy, AGAIN);
    }
}
