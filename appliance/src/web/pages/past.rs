//! What is done with a moment of a dataset: a new dataset that starts there, or the dataset itself taken back.

use std::sync::Arc;

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::dataset::find;
use super::line::second;
use super::{Frame, TYPED, done, missing, of_form, refused, show_page};
use crate::control::reports::{Dataset, Moment, Rewound, Status, Timeline};
use crate::control::{Failed, Request};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

/// A moment of a dataset, as it was asked for.
struct Then {
    status: Arc<Status>,
    timeline: Timeline,
    at: String,
    /// The same for people.
    moment: String,
    /// How long ago that was, where it is known.
    ago: Option<String>,
    second: Option<i64>,
}

impl Then {
    async fn find(signed: &Signed, name: &str, at: &str) -> Result<Then, Response> {
        let failed = |failed: Failed| refused(&failed);
        let status = signed.web.live.for_page(signed).await.map_err(failed)?;
        find(&status, name)?;
        let timeline: Timeline =
            signed.request(Request::Timeline { dataset: name.to_owned() }).await.map_err(failed)?;
        let named: Option<&Moment> = timeline.moments.iter().find(|moment| moment.name == at);
        let (moment, time) = match named {
            Some(named) => (show::snapshot(&named.name), named.time.clone()),
            None => (show::precisely(at), at.to_owned()),
        };
        let second = second(&time);
        if named.is_none() && second.is_none() {
            return Err(missing("there is no such moment; it may have been deleted"));
        }
        let ago = second.map(|_| show::ago(&time));
        Ok(Then { status, timeline, at: at.to_owned(), moment, ago, second })
    }

    fn dataset(&self, name: &str) -> Option<&Dataset> {
        self.status.datasets.iter().find(|dataset| dataset.name == name)
    }

    /// Bytes that were written since, as far as that is known.
    fn written_since(&self) -> u64 {
        let since = self.second.unwrap_or(i64::MAX);
        let later = self.timeline.written.iter().filter(|step| second(&step.until).is_some_and(|until| until > since));
        later.map(|step| step.bytes).sum()
    }
}

fn place(name: &str) -> String {
    format!("/datasets/{}", show::part(name))
}

/// A form about a moment.
#[derive(Template)]
#[template(path = "past.html")]
struct Page {
    frame: Frame,
    name: String,
    href: String,
    at: String,
    /// What will be, a paragraph each.
    says: Vec<String>,
    /// Taken back, or else a new one.
    rewinds: bool,
    /// Why somebody is in the way.
    in_use: Option<String>,
    form: Form,
}

impl Page {
    fn show(&self) -> Response {
        show_page(of_form(&self.form), self)
    }
}

pub(super) async fn clone_page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form().with("at", signed.query.text("at"));
    ask_clone(&signed, &name, form).await
}

async fn ask_clone(signed: &Signed, name: &str, form: Form) -> Response {
    let then = match Then::find(signed, name, form.text("at")).await {
        Ok(then) => then,
        Err(response) => return response,
    };
    let ago = then.ago.as_ref().map(|ago| format!(" ({ago})")).unwrap_or_default();
    let kind = then.dataset(name).map_or("share", |dataset| &dataset.kind);
    Page {
        frame: Frame::of(signed, "datasets", format!("A new {kind} from {name}")),
        name: name.to_owned(),
        href: place(name),
        says: vec![
            format!("It starts as {name} was at {}{ago}. From then on both go their own ways.", then.moment),
            "What they share is kept once: it takes room only for what is written later.".into(),
        ],
        at: then.at,
        rewinds: false,
        in_use: None,
        form,
    }
    .show()
}

pub(super) async fn clone(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let new = form.needs("new", "Give it a name: clients see it.");
    if form.is_good() {
        let request = Request::Clone { snapshot: format!("{name}@{}", form.text("at")), name: new };
        match signed.request::<Dataset>(request).await {
            Ok(dataset) => return done(&signed, &place(&dataset.name), "cloned"),
            Err(failed) if failed.kind == "refused" => form.failed("new", &failed),
            Err(failed) => return refused(&failed),
        }
    }
    ask_clone(&signed, &name, form).await
}

pub(super) async fn rewind_page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form().with("at", signed.query.text("at"));
    ask_rewind(&signed, &name, form, None).await
}

async fn ask_rewind(signed: &Signed, name: &str, form: Form, in_use: Option<String>) -> Response {
    let then = match Then::find(signed, name, form.text("at")).await {
        Ok(then) => then,
        Err(response) => return response,
    };
    let ago = then.ago.as_ref().map(|ago| format!(", {ago}")).unwrap_or_default();
    let written = then.written_since();
    let much = if written > 0 { format!(" ({} or so)", show::size(&written)) } else { String::new() };
    Page {
        frame: Frame::of(signed, "datasets", format!("Take {name} back?")),
        name: name.to_owned(),
        href: place(name),
        says: vec![
            format!("{name} becomes as it was at {}{ago}. Whatever was written since then{much} is gone from it, for everybody who uses it.", then.moment),
            "What it is now is held first, in a snapshot whose name begins with before-rewind: from there single files can be fetched, and this can be undone.".into(),
            "Whoever has it mounted unmounts it first.".into(),
        ],
        at: then.at,
        rewinds: true,
        in_use,
        form,
    }
    .show()
}

pub(super) async fn rewind(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    if form.text(TYPED) != name.trim() {
        form.wrong(TYPED, "This is not its name: nothing was done.");
        return ask_rewind(&signed, &name, form, None).await;
    }
    let force = form.is("force", "yes");
    let request = Request::Rewind { dataset: name.clone(), to: form.text("at").to_owned(), force };
    match signed.request::<Rewound>(request).await {
        Ok(_) => done(&signed, &place(&name), "rewound"),
        Err(failed) if failed.field.as_deref() == Some("force") => {
            let why = show::sentence(&failed.message);
            form.wrong(WHOLE, "Nothing was done: somebody uses it.");
            ask_rewind(&signed, &name, form, Some(why)).await
        }
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            ask_rewind(&signed, &name, form, None).await
        }
        Err(failed) => refused(&failed),
    }
}

#[derive(Template)]
#[template(path = "larger.html")]
struct Larger {
    frame: Frame,
    name: String,
    href: String,
    bytes: u64,
    form: Form,
}

pub(super) async fn larger_page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form();
    ask_larger(&signed, &name, form).await
}

async fn ask_larger(signed: &Signed, name: &str, form: Form) -> Response {
    let status = match signed.web.live.for_page(signed).await {
        Ok(status) => status,
        Err(failed) => return refused(&failed),
    };
    let dataset = match find(&status, name) {
        Ok(dataset) if dataset.kind == "volume" && !dataset.read_only => dataset,
        Ok(_) => return missing("only a volume of this box has a size that can be changed"),
        Err(response) => return response,
    };
    let page = Larger {
        frame: Frame::of(signed, "datasets", format!("Make {name} larger")),
        name: name.to_owned(),
        href: place(name),
        bytes: dataset.logical_bytes,
        form,
    };
    show_page(of_form(&page.form), &page)
}

pub(super) async fn larger(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    if let Some(size) = form.size("size", "Say how large it is to be, as in 500GB.") {
        match signed.request::<Value>(Request::VolumeResize { name: name.clone(), size }).await {
            Ok(_) => return done(&signed, &place(&name), "larger"),
            Err(failed) if failed.kind == "refused" => form.failed("size", &failed),
            Err(failed) => return refused(&failed),
        }
    }
    ask_larger(&signed, &name, form).await
}
