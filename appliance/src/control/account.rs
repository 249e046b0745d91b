//! Accounts from the console: who may sign in to the page, for when nobody can, and the audit log.

use super::reports::{Acknowledged, Claim};
use super::{Failed, reports};
use crate::accounts::Role;
use crate::node::Node;

/// Most entries of the audit log in one answer.
const ENTRIES_MAX: u32 = 500;

/// The claim code, and where the page is.
pub(super) fn claim(node: &Node) -> Claim {
    let page = node.page.as_ref();
    Claim {
        code: node.accounts.claim_code(),
        claimed: node.accounts.claimed(),
        address: page.map(|page| page.address().to_string()),
        fingerprint: page.map(|page| page.fingerprint()),
    }
}

/// One more who may sign in.
pub(super) fn add(node: &Node, user: &str, role: Role, password: &str) -> Result<Acknowledged, Failed> {
    node.accounts.add_user(user, role, password)?;
    Ok(Acknowledged { message: format!("{user} can sign in to the page") })
}

/// One less.
pub(super) fn remove(node: &Node, user: &str) -> Result<Acknowledged, Failed> {
    node.accounts.remove_user(user)?;
    Ok(Acknowledged {
        message: format!("{user} can't sign in any more; sessions and tokens of that account have ended"),
    })
}

/// A new password for somebody who has forgotten his.
pub(super) fn reset(node: &Node, user: &str, password: &str) -> Result<Acknowledged, Failed> {
    node.accounts.reset_password(user, password)?;
    let message =
        format!("{user} has another password, and no second factor; sessions and tokens of that account have ended");
    Ok(Acknowledged { message })
}

/// The audit log, the newest first.
pub(super) fn audit(node: &Node, before: Option<u64>, limit: u32) -> Result<Vec<reports::AuditEntry>, Failed> {
    let entries = node.audit.newest(before, limit.min(ENTRIES_MAX) as usize);
    entries.map_err(|error| Failed::environment(format!("the audit log can't be read: {error}")))
}
