//! What is kept of accounts: one setting of the store, JSON, written anew with every change.

use narrowboat_storage::Store;
use serde::{Deserialize, Serialize};

use super::Role;
use super::claim::ClaimCode;
use crate::clock;
use crate::control::Failed;

/// The setting.
const SETTING: &str = "accounts";

/// Everything that outlives a restart.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Until somebody has claimed the box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimCode>,
    #[serde(default)]
    pub users: Vec<User>,
    #[serde(default)]
    pub tokens: Vec<Token>,
}

/// Somebody who may sign in.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub name: String,
    pub role: Role,
    /// The argon2id hash.
    pub password: String,
    /// The secret of the second factor, base 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_factor: Option<String>,
}

/// An API token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub id: String,
    pub label: String,
    pub user: String,
    pub role: Role,
    /// BLAKE3 of all of it, hexadecimal.
    pub hash: String,
    /// When it ends, in nanoseconds since 1970.
    pub ends: i64,
}

impl Kept {
    /// As the store has it; `None` where nothing was kept yet.
    pub fn of(store: &Store) -> Result<Option<Kept>, Failed> {
        let Some(value) = store.setting(SETTING) else { return Ok(None) };
        serde_json::from_slice(&value).map(Some).map_err(|error| {
            let sentence = format!(
                "the accounts of this box can't be read ({error}): `narrowboat account reset` begins them anew"
            );
            Failed::of("damage", sentence)
        })
    }

    pub fn keep(&self, store: &Store) -> Result<(), Failed> {
        let value = serde_json::to_vec(self).map_err(|error| Failed::environment(error.to_string()))?;
        Ok(store.set_setting(SETTING, Some(&value), clock::now())?)
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }
}
