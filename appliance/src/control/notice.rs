//! What is asked about notices.

use super::Failed;
use super::reports::{NoticeTried, Notices};
use crate::node::Node;

/// What was told, what is wrong, and how the ways do.
pub(super) fn list(node: &Node) -> Notices {
    node.notices.report()
}

/// Tells something that means nothing, and what came of that.
pub(super) fn test(node: &Node, way: Option<&str>) -> Result<Vec<NoticeTried>, Failed> {
    let tried = node.notices.test(way);
    match (tried.is_empty(), way) {
        (false, _) => Ok(tried),
        (true, Some(way)) => Err(Failed::about(
            "way",
            format!("no notices go by {way}: [notices.{way}] in the config file says where they would go"),
        )),
        (true, None) => Err(Failed::refused(
            "nobody is told anything: [notices.mail], [notices.webhook] or [notices.syslog] in the config file says who is",
        )),
    }
}
