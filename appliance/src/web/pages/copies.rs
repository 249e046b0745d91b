//! Where a dataset is copied to, and how often.

use axum::response::Response;
use serde_json::Value;

use super::{dataset, done, refused};
use crate::control::{Failed, Request};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

/// How often, as it is chosen, and in seconds; none is after every change.
const OFTEN: [(&str, Option<u64>); 6] = [
    ("follow", None),
    ("15min", Some(900)),
    ("1h", Some(3600)),
    ("6h", Some(21_600)),
    ("1d", Some(86_400)),
    ("7d", Some(604_800)),
];

/// Asks for something, and goes back to the dataset; what is refused stands beside `field`.
async fn ask(
    signed: Signed,
    name: &str,
    mut form: Form,
    request: Request,
    field: &'static str,
    word: &'static str,
) -> Response {
    let answer: Result<Value, Failed> = signed.request(request).await;
    match answer {
        Ok(_) => done(&signed, &format!("/datasets/{}", show::part(name)), word),
        Err(failed) if failed.kind == "signed-out" || failed.kind == "forbidden" => refused(&failed),
        Err(failed) => {
            form.failed(field, &failed);
            dataset::answer(&signed, name, form).await
        }
    }
}

pub(super) async fn set(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let peer = form.needs("peer", "Choose where it goes.");
    let often = OFTEN.iter().find(|(word, _)| form.is("often", word)).map(|(_, seconds)| *seconds);
    let hours = form.some("hours").unwrap_or_else(|| "always".into());
    let Some(seconds) = often else {
        form.wrong("often", "Choose how often.");
        return dataset::answer(&signed, &name, form).await;
    };
    if !form.is_good() {
        return dataset::answer(&signed, &name, form).await;
    }
    let request = Request::PlanSet {
        dataset: name.clone(),
        peer,
        seconds,
        follow: seconds.is_none(),
        hours: Some(hours),
        class: None,
    };
    let field = if form.some("hours").is_some() { "hours" } else { WHOLE };
    ask(signed, &name, form, request, field, "plan").await
}

pub(super) async fn pause(Path(name): Path<String>, Change { signed, form }: Change) -> Response {
    let paused = form.is("paused", "yes");
    let request = Request::PlanPause { dataset: name.clone(), peer: form.some("peer"), paused };
    ask(signed, &name, form, request, WHOLE, if paused { "paused" } else { "resumed" }).await
}

pub(super) async fn remove(Path(name): Path<String>, Change { signed, form }: Change) -> Response {
    let request = Request::PlanRemove { dataset: name.clone(), peer: form.some("peer") };
    ask(signed, &name, form, request, WHOLE, "unplanned").await
}

pub(super) async fn now(Path(name): Path<String>, Change { signed, form }: Change) -> Response {
    let peer = form.text("peer").to_owned();
    let request = Request::Replicate { source: name.clone(), peer, wait: false, class: None };
    ask(signed, &name, form, request, WHOLE, "sent").await
}
