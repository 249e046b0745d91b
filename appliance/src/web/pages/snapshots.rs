//! Snapshots of a dataset: making, holding, deleting.

use axum::response::Response;

use super::{Confirm, Frame, dataset, done, refused};
use crate::control::reports::{Acknowledged, Snapshot};
use crate::control::{Failed, Request};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

fn place(dataset: &str) -> String {
    format!("/datasets/{}", show::part(dataset))
}

pub(super) async fn create(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let request = Request::SnapshotCreate { dataset: name.clone(), name: form.some("snapshot") };
    match signed.request::<Snapshot>(request).await {
        Ok(_) => done(&signed, &place(&name), "snapshot"),
        Err(failed) if failed.kind == "refused" => {
            form.failed("snapshot", &failed);
            dataset::answer(&signed, &name, form).await
        }
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn hold(Path((name, snapshot)): Path<(String, String)>, Change { signed, form }: Change) -> Response {
    let held = form.is("held", "yes");
    let request = Request::SnapshotHold { snapshot: format!("{name}@{snapshot}"), held };
    match signed.request::<Snapshot>(request).await {
        Ok(_) => done(&signed, &place(&name), if held { "held" } else { "released" }),
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn delete_page(Path((name, snapshot)): Path<(String, String)>, signed: Signed) -> Response {
    let form = signed.form();
    confirm(&signed, &name, &snapshot, form).await
}

async fn confirm(signed: &Signed, name: &str, snapshot: &str, form: Form) -> Response {
    let listed: Result<Vec<Snapshot>, Failed> =
        signed.request(Request::SnapshotList { dataset: Some(name.to_owned()) }).await;
    let found = match listed {
        Ok(snapshots) => snapshots.into_iter().find(|found| found.name == snapshot),
        Err(failed) => return refused(&failed),
    };
    let Some(found) = found else { return super::missing("there is no such snapshot; it may have been deleted") };
    let mut says = vec![format!(
        "It holds {name} as it was at {} ({}). Where the box keeps what is deleted for a while, it can be had back until then.",
        show::when(&found.time),
        show::ago(&found.time)
    )];
    if let Some(bytes) = found.frees_bytes {
        says.push(format!("When it is gone for good that frees {}.", show::size(&bytes)));
    }
    if found.held {
        says.push("It is held, and has to be released first.".into());
    }
    Confirm {
        frame: Frame::of(signed, "datasets", format!("Delete the snapshot {snapshot}?")),
        says,
        action: format!("{}/snapshots/{}/delete", place(name), show::part(snapshot)),
        button: "Delete it",
        back: place(name),
        typed: None,
        form,
    }
    .show()
}

pub(super) async fn delete(
    Path((name, snapshot)): Path<(String, String)>,
    Change { signed, mut form }: Change,
) -> Response {
    match signed.request::<Acknowledged>(Request::SnapshotDelete { snapshot: format!("{name}@{snapshot}") }).await {
        Ok(_) => done(&signed, &place(&name), "deleted"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            confirm(&signed, &name, &snapshot, form).await
        }
        Err(failed) => refused(&failed),
    }
}
