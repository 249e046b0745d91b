//! What is asked about the set-up of the box.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Failed;
use super::reports::{NoticeTried, SetUpBegun, SetUpPlace, SetUpState};
use super::setting;
use crate::clock;
use crate::config::Config;
use crate::config::settings::By;
use crate::disks::{below, place};
use crate::node::Node;
use crate::setup::kept::Kept;
use crate::setup::secrets::{Secret, Secrets};
use crate::setup::{SetUp, apply, places, typed};
use crate::units::rfc3339;

/// How far it is.
pub(super) fn show(node: &Node) -> Result<SetUpState, Failed> {
    let kept = Kept::of(&node.store)?;
    let secrets = Secrets::of(&node.data);
    let typed_secrets = Secret::ALL.into_iter().filter(|secret| secrets.typed(*secret).is_some());
    let place_of = |place: places::Place| SetUpPlace { address: place.address.to_string(), network: place.network };
    Ok(SetUpState {
        problems: typed::problems(&kept.typed, |secret| secrets.typed(secret)),
        typed: kept.typed,
        secrets: typed_secrets.map(Secret::typed_field).collect(),
        applying: kept.applying.is_some(),
        outcomes: kept.outcomes,
        name: node.name.clone(),
        time_zone: node.config.zone().iana_name().map(str::to_owned),
        now: rfc3339(clock::now()),
        lies: place::of(&node.data),
        array: below(&node.data),
        places: places::places().into_iter().map(place_of).collect(),
        zones: places::zones(),
    })
}

/// Keeps what somebody types; what is secret of it where nobody is shown it again.
pub(super) fn type_in(node: &Node, mut fields: BTreeMap<String, String>) -> Result<SetUpState, Failed> {
    let secrets = Secrets::of(&node.data);
    for (field, secret) in
        [("notices_mail_user", Secret::MailPassword), ("notices_webhook_address", Secret::WebhookSecret)]
    {
        // Whose it was is gone.
        if fields.get(field).is_some_and(|text| text.trim().is_empty()) {
            secrets.forget(secret)?;
            fields.remove(&secret.typed_field());
        }
    }
    for secret in Secret::ALL {
        if let Some(text) = fields.remove(&secret.typed_field()) {
            secrets.type_in(secret, &text)?;
        }
    }
    Kept::change(&node.store, |kept| kept.type_in(fields))?;
    show(node)
}

/// Does what a set-up says.
pub(super) fn apply(node: &Arc<Node>, set_up: &SetUp, typed: bool) -> Result<SetUpBegun, Failed> {
    let restarting = apply::begin(node, set_up, typed)?;
    Ok(SetUpBegun { restarting, outcomes: Kept::of(&node.store)?.outcomes })
}

/// Sees whether those would be told who were typed.
pub(super) fn test(node: &Node) -> Result<Vec<NoticeTried>, Failed> {
    let secrets = Secrets::of(&node.data);
    let set_up = typed::set_up_with(&Kept::of(&node.store)?.typed, |secret| secrets.typed(secret));
    let Some(notices) = &set_up.notices else {
        return Err(Failed::refused("nobody would be told anything: say who is, and then try it"));
    };
    let about = |failed: &Failed| failed.field.as_deref().is_some_and(|field| field.starts_with("notices."));
    if let Some(failed) = set_up.problems().into_iter().find(about) {
        return Err(Failed { field: failed.field.map(|field| field.replace('.', "_")), ..failed });
    }
    let config = setting::changed_by(By::SetUp, node, &notices.changes(|secret| secrets.typed_file(secret)))?;
    let config = Config::read(&config).map_err(Failed::refused)?;
    Ok(node.notices.try_out(&config.notices))
}
