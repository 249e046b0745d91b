//! What is asked about the certificate of the page.

use super::Failed;
use super::reports::{Acknowledged, PageCertificate};
use crate::node::Node;
use crate::page::Page;

/// Which one is shown.
pub(super) fn show(node: &Node) -> Result<PageCertificate, Failed> {
    Ok(page(node)?.certificate())
}

/// Has another one ordered now.
pub(super) fn order(node: &Node) -> Result<Acknowledged, Failed> {
    let Some(acme) = page(node)?.acme() else {
        return Err(Failed::refused(
            "no authority gives this box certificates: [page.acme] in the config file would name one",
        ));
    };
    acme.ask();
    Ok(Acknowledged { message: "another certificate is being ordered".into() })
}

fn page(node: &Node) -> Result<&Page, Failed> {
    node.page.as_ref().ok_or_else(|| Failed::refused("this box has no page: `page.listen` in the config file is empty"))
}
