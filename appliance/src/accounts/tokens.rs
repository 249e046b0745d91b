//! API tokens: what a program shows instead of a password. Kept as a hash, shown once, and they end by themselves.

use narrowboat_storage::units::Timestamp;

use super::kept::{Kept, Token};
use super::{Accounts, Asker, Role};
use crate::clock;
use crate::control::Failed;
use crate::control::door::{NewToken, TokenRow};
use crate::units::rfc3339;

/// What tokens begin with, so that whoever searches for lost secrets finds them.
const PREFIX: &str = "narrowboat_";
/// Most tokens of a box.
const TOKENS_MAX: usize = 200;
/// Longest life of a token, in days.
const DAYS_MAX: u32 = 3660;
const DAY: i64 = 86_400_000_000_000;

/// Who a token stands for.
pub(super) fn asker(kept: &Kept, token: &str, now: Timestamp) -> Option<Asker> {
    let (id, _) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let kept_of = kept.tokens.iter().find(|of| of.id == id)?;
    // Hashes are compared in constant time.
    let right = blake3::Hash::from_hex(&kept_of.hash).ok()? == blake3::hash(token.as_bytes());
    let user = kept.user(&kept_of.user)?;
    let lives = kept_of.ends > now.0;
    (right && lives).then(|| Asker {
        user: user.name.clone(),
        // Who may do less now than when he made it.
        role: kept_of.role.min(user.role),
        by: format!("token {id}"),
    })
}

impl Accounts {
    /// Makes a token for whoever asks: it may do no more than he.
    pub fn add_token(&self, asker: &Asker, label: &str, role: Role, days: u32) -> Result<NewToken, Failed> {
        if label.trim().is_empty() || label.chars().count() > 64 || label.chars().any(char::is_control) {
            return Err(Failed::about("label", "Please say in 1 to 64 characters what it is for."));
        }
        if role > asker.role {
            return Err(Failed::about("role", "A token may do no more than who makes it."));
        }
        if days == 0 || days > DAYS_MAX {
            return Err(Failed::about("days", format!("A token lives for 1 to {DAYS_MAX} days.")));
        }
        let id = blake3::Hash::from_bytes(rand::random()).to_hex()[..8].to_owned();
        let secret = blake3::Hash::from_bytes(rand::random()).to_hex();
        let token = format!("{PREFIX}{id}_{secret}");
        let now = clock::now();
        let kept = Token {
            id: id.clone(),
            label: label.to_owned(),
            user: asker.user.clone(),
            role,
            hash: blake3::hash(token.as_bytes()).to_hex().to_string(),
            ends: now.0.saturating_add(i64::from(days) * DAY),
        };
        self.change(|all| {
            all.tokens.retain(|token| token.ends > now.0);
            if all.tokens.len() >= TOKENS_MAX {
                return Err(Failed::refused(format!(
                    "There are {TOKENS_MAX} tokens, which is all that a box takes: end some first."
                )));
            }
            all.tokens.push(kept);
            Ok(NewToken { id, token })
        })
    }

    /// Tokens: of whoever asks, of everybody for administrators.
    pub fn tokens(&self, asker: &Asker) -> Result<Vec<TokenRow>, Failed> {
        let known = self.lock();
        let now = clock::now();
        let seen = known.kept()?.tokens.iter().filter(|token| token.ends > now.0 && asker.sees(&token.user));
        let row = |token: &Token| TokenRow {
            id: token.id.clone(),
            label: token.label.clone(),
            user: token.user.clone(),
            role: token.role,
            ends: rfc3339(Timestamp(token.ends)),
        };
        Ok(seen.map(row).collect())
    }

    /// Ends a token.
    pub fn remove_token(&self, asker: &Asker, id: &str) -> Result<(), Failed> {
        self.change(|kept| {
            let before = kept.tokens.len();
            kept.tokens.retain(|token| token.id != id || !asker.sees(&token.user));
            match kept.tokens.len() == before {
                true => Err(Failed::refused(format!("There is no token {id} any more."))),
                false => Ok(()),
            }
        })
    }
}
