//! All datasets, and new ones.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::overview::Row;
use super::{Frame, done, of_form, refused, show_page};
use crate::accounts::Role;
use crate::control::Request;
use crate::control::reports::Dataset;
use crate::units::ByteSize;
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Signed};

#[derive(Template)]
#[template(path = "datasets.html")]
struct Datasets {
    frame: Frame,
    rows: Vec<Row>,
    /// How much can be had back.
    deleted: usize,
    may: bool,
}

#[derive(Template)]
#[template(path = "dataset_new.html")]
struct New {
    frame: Frame,
    form: Form,
}

pub(super) async fn list(signed: Signed) -> Response {
    let status = match signed.web.live.for_page(&signed).await {
        Ok(status) => status,
        Err(failed) => return refused(&failed),
    };
    let mut rows: Vec<Row> = status.datasets.iter().map(|dataset| Row::of(&status, dataset)).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let page = Datasets {
        frame: Frame::of(&signed, "datasets", "Datasets"),
        rows,
        deleted: status.quarantine.datasets + status.quarantine.snapshots,
        may: signed.may(Role::Administrator),
    };
    show_page(StatusCode::OK, &page)
}

pub(super) async fn new_page(signed: Signed) -> Response {
    let form = signed.form().with("kind", "share").with("dedup", "inline");
    form_page(&signed, form)
}

fn form_page(signed: &Signed, form: Form) -> Response {
    show_page(of_form(&form), &New { frame: Frame::of(signed, "datasets", "New dataset"), form })
}

pub(super) async fn create(Change { signed, mut form }: Change) -> Response {
    let name = form.needs("name", "Give it a name: clients see it.");
    let dedup = form.value("dedup").to_owned();
    let request = match form.value("kind") {
        "share" => Request::ShareCreate { name, dedup },
        "volume" => {
            let size = form.needs("size", "Say how large the disk is to be, as in 500 GB.");
            match size.replace(',', "").parse::<ByteSize>() {
                Ok(ByteSize(size)) => Request::VolumeCreate { name, size, dedup },
                Err(why) => {
                    form.wrong("size", show::sentence(&why));
                    return form_page(&signed, form);
                }
            }
        }
        _ => {
            form.wrong(WHOLE, "Choose a share or a volume.");
            return form_page(&signed, form);
        }
    };
    if form.is_good() {
        match signed.request::<Dataset>(request).await {
            Ok(dataset) => return done(&signed, &format!("/datasets/{}", show::part(&dataset.name)), "created"),
            // What the box refuses is the size where it speaks of it, and else the name.
            Err(failed) if failed.kind == "refused" => {
                let about_size = form.is("kind", "volume") && failed.message.contains("size");
                form.failed(if about_size { "size" } else { "name" }, &failed);
            }
            Err(failed) if failed.kind == "signed-out" => return refused(&failed),
            Err(failed) => form.failed(WHOLE, &failed),
        }
    }
    form_page(&signed, form)
}
