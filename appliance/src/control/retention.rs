//! What is asked about retention.

use super::Failed;
use super::reports::{self, Acknowledged};
use crate::node::Node;
use crate::retention::Rules;

/// Sets the rules of a dataset, or tells what they would do. Refused where they would keep nothing.
pub(super) fn set(node: &Node, dataset: &str, rules: &Rules, dry_run: bool) -> Result<reports::Retention, Failed> {
    let row = node.store.dataset_named(dataset)?.row;
    if rules.keep_nothing() {
        let why = "such rules keep nothing but the newest snapshot: say with --last, --daily, --within … what stays";
        return Err(Failed::refused(why));
    }
    if !dry_run {
        node.retention.set(row.id, Some(rules))?;
    }
    Ok(reports::Retention {
        snapshots: node.retention.preview(node, &row, rules),
        dataset: row.name,
        rules: rules.to_string(),
        as_set: Some(rules.clone()),
        error: None,
    })
}

/// The rules of a dataset and what they do.
pub(super) fn show(node: &Node, dataset: &str) -> Result<reports::Retention, Failed> {
    let row = node.store.dataset_named(dataset)?.row;
    let none = || Failed::missing(format!("{dataset} has no rules: `narrowboat retention set {dataset}` makes them"));
    Ok(match node.retention.find(row.id).ok_or_else(none)? {
        Ok(rules) => set(node, dataset, &rules, true)?,
        Err(error) => reports::Retention {
            dataset: row.name,
            rules: String::new(),
            as_set: None,
            error: Some(error),
            snapshots: Vec::new(),
        },
    })
}

/// All datasets with rules, without their snapshots.
pub(super) fn list(node: &Node) -> Vec<reports::Retention> {
    let told = |(dataset, rules): (String, Result<Rules, String>)| {
        let error = rules.as_ref().err().cloned();
        let as_set = rules.ok();
        let rules = as_set.as_ref().map(ToString::to_string).unwrap_or_default();
        reports::Retention { dataset, rules, as_set, error, snapshots: Vec::new() }
    };
    let rows = node.store.dataset_rows().into_iter();
    let mut list: Vec<_> = rows.filter_map(|row| Some((row.name, node.retention.find(row.id)?))).map(told).collect();
    list.sort_by(|one, other| one.dataset.cmp(&other.dataset));
    list
}

/// Drops the rules of a dataset: nothing goes by them any more.
pub(super) fn remove(node: &Node, dataset: &str) -> Result<Acknowledged, Failed> {
    let row = node.store.dataset_named(dataset)?.row;
    node.retention.set(row.id, None)?;
    Ok(Acknowledged { message: format!("no snapshot of {dataset} goes by rules any more") })
}
