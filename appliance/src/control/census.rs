//! What is asked about what deleting would free.

use narrowboat_storage::census::Freeable;

use super::{Failed, reports};
use crate::backlog::on_the_wall;
use crate::jobs::Progress;
use crate::jobs::census::Pace;
use crate::node::Node;
use crate::units::rfc3339;

/// The figures that there are; counted now where there are none, or where they are to be counted `again`.
pub(super) fn freeable(
    node: &Node,
    again: bool,
    stop: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Freeable, Failed> {
    let censuses = &node.censuses;
    let counted = if again { censuses.run(Pace::Full, stop, tell) } else { censuses.last_or_run(stop, tell) };
    counted.map(|counted| report(node, &counted))
}

/// The figures that there are.
pub(super) fn last(node: &Node) -> Option<reports::Freeable> {
    node.censuses.last().map(|counted| report(node, &counted))
}

fn report(node: &Node, counted: &Freeable) -> reports::Freeable {
    reports::Freeable {
        counted: rfc3339(on_the_wall(node, counted.time)),
        needed_bytes: counted.needed_bytes,
        unneeded_bytes: counted.unneeded_bytes,
        quarantine_bytes: counted.quarantine_bytes,
        one_in: counted.one_in,
        left_out: counted.left_out.clone(),
    }
}
