//! Files of a dataset at some moment: looked at, and taken home.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::response::Response;

use super::dataset::{Head, find};
use super::{Frame, of_form, refused, show_page, to};
use crate::accounts::Role;
use crate::control::door::{Ask, Call, FolderEntry, Proof, Sorted};
use crate::control::reports::{Snapshot, Status};
use crate::control::{Failed, Request};
use crate::percent;
use crate::web::download::{Line, answer};
use crate::web::form::{Form, WHICH, WHOLE};
use crate::web::show;
use crate::web::visitor::{Path, Signed, Visitor};

/// Entries on one page.
const ENTRIES: u32 = 200;
/// Snapshots in the list of moments.
const MOMENTS_MAX: usize = 100;

/// A moment to choose.
struct Choice {
    value: String,
    text: String,
}

/// A folder above what is shown.
struct Crumb {
    text: String,
    href: String,
}

/// An entry as it is shown.
struct Row {
    entry: FolderEntry,
    /// The folder's own page.
    href: Option<String>,
    download: Option<String>,
}

#[derive(Template)]
#[template(path = "files.html")]
struct Page {
    frame: Frame,
    head: Head,
    /// The moment as it stands in addresses; empty for now.
    at: String,
    /// The same for people.
    moment: String,
    moments: Vec<Choice>,
    /// What the dataset can be taken back to at any moment, if it can.
    window: Option<(String, String)>,
    path: String,
    crumbs: Vec<Crumb>,
    rows: Vec<Row>,
    count: u64,
    next: Option<String>,
    /// Where all of it is downloaded.
    download: String,
    bytes: u64,
    form: Form,
}

/// `DATASET@MOMENT`, or `DATASET` for now.
fn source(name: &str, at: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{name}@{at}") }
}

/// The address of a folder of a dataset at a moment.
pub(super) fn place(name: &str, at: &str, path: &str) -> String {
    address(name, "files", &[("at", at), ("path", path)])
}

fn address(name: &str, page: &str, fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = pairs.map(|(field, value)| format!("{field}={}", percent::part(value))).collect();
    let (mark, query) = (if pairs.is_empty() { "" } else { "?" }, pairs.join("&"));
    format!("/datasets/{}/{page}{mark}{query}", show::part(name))
}

pub(super) async fn page(Path(name): Path<String>, signed: Signed) -> Response {
    gather(&signed, &name).await.unwrap_or_else(|response| response)
}

async fn gather(signed: &Signed, name: &str) -> Result<Response, Response> {
    let failed = |failed: Failed| refused(&failed);
    let status: Arc<Status> = signed.web.live.for_page(signed).await.map_err(failed)?;
    let dataset = find(&status, name)?;
    let (at, path) = (signed.query.text("at").to_owned(), signed.query.value("path").to_owned());
    let holds = signed.query.text("holds").to_owned();
    let mut form = signed.form().with("holds", &holds).with("when", signed.query.text("when"));
    if !signed.query.text("when").is_empty() {
        form = form.with(WHICH, signed.query.text(WHICH));
        if let Some(moment) = form.moment("when", "Write it as in 2026-11-22 07:30.") {
            return Err(to(&place(name, &moment, &path)));
        }
    }
    let mut snapshots: Vec<Snapshot> =
        signed.request(Request::SnapshotList { dataset: Some(name.to_owned()) }).await.map_err(failed)?;
    snapshots.sort_by(|a, b| b.time.cmp(&a.time));
    let mut sorted = Sorted { entries: Vec::new(), more: false, count: 0 };
    let is_share = dataset.kind != "volume";
    if is_share || !signed.may(Role::Operator) {
        let after = signed.query.value("after").to_owned();
        let ask = |at: &str| Ask::BrowseSorted {
            source: source(name, at),
            path: path.clone(),
            holds: holds.clone(),
            after: after.clone(),
            limit: ENTRIES,
        };
        match signed.ask::<Sorted>(ask(&at)).await {
            Ok(found) => sorted = found,
            Err(failed) if failed.kind == "refused" => form.failed(WHOLE, &failed),
            Err(failed) => return Err(refused(&failed)),
        }
    }
    let next = sorted.entries.last().filter(|_| sorted.more).map(|last| {
        address(name, "files", &[("at", &at), ("path", &path), ("holds", &holds), ("after", &last.place())])
    });
    let page = Page {
        frame: Frame::of(signed, "datasets", format!("Files of {name}")),
        head: Head::of(signed, &status, dataset, "files"),
        moment: moment(&at, &snapshots),
        moments: choices(&at, &snapshots),
        window: dataset.window.as_ref().map(|window| (window.first.clone(), window.last.clone())),
        crumbs: crumbs(name, &at, &path),
        rows: sorted.entries.into_iter().map(|entry| Row::of(name, &at, &path, entry)).collect(),
        count: sorted.count,
        next,
        download: address(name, "download", &[("at", &at), ("path", &path)]),
        bytes: dataset.logical_bytes,
        at,
        path,
        form,
    };
    Ok(show_page(of_form(&page.form), &page))
}

impl Page {
    fn is_volume(&self) -> bool {
        self.head.kind == "volume"
    }

    /// Whether what is asked for is there.
    fn is_there(&self) -> bool {
        self.form.trouble().is_none()
    }
}

impl Row {
    fn of(name: &str, at: &str, path: &str, entry: FolderEntry) -> Row {
        let own = format!("{path}/{}", entry.part);
        let own = own.trim_start_matches('/');
        let (folder, taken) = (entry.kind == "folder", matches!(&entry.kind[..], "file" | "folder"));
        Row {
            href: folder.then(|| place(name, at, own)),
            download: taken.then(|| address(name, "download", &[("at", at), ("path", own)])),
            entry,
        }
    }
}

/// A moment for people: a snapshot by its name, a time by the clock on the wall.
fn moment(at: &str, snapshots: &[Snapshot]) -> String {
    match at {
        "" | "now" => "now".into(),
        at if snapshots.iter().any(|snapshot| snapshot.name == at) => show::snapshot(at),
        at => show::precisely(at),
    }
}

/// Now, the newest snapshots, and the moment that is shown, if it is another one.
fn choices(at: &str, snapshots: &[Snapshot]) -> Vec<Choice> {
    let mut choices = vec![Choice { value: String::new(), text: "Now".into() }];
    choices.extend(snapshots.iter().take(MOMENTS_MAX).map(|snapshot| {
        let (named, moment) = (show::snapshot(&snapshot.name), show::when(&snapshot.time));
        let text = if named == moment { moment } else { format!("{named} ({moment})") };
        Choice { value: snapshot.name.clone(), text }
    }));
    if choices.iter().all(|choice| choice.value != at) {
        choices.insert(1, Choice { value: at.to_owned(), text: moment(at, snapshots) });
    }
    choices
}

/// The way from the top of the dataset to what is shown.
fn crumbs(name: &str, at: &str, path: &str) -> Vec<Crumb> {
    let mut way = String::new();
    let mut crumbs = vec![Crumb { text: name.to_owned(), href: place(name, at, "") }];
    for part in path.split('/').filter(|part| !part.is_empty()) {
        way = format!("{way}/{part}");
        let text = percent::unescaped(part).unwrap_or_else(|| part.as_bytes().to_vec());
        let text = show::visible(&String::from_utf8_lossy(&text));
        crumbs.push(Crumb { text, href: place(name, at, way.trim_start_matches('/')) });
    }
    crumbs
}

/// Sends a file, a folder or a volume.
pub(super) async fn download(
    Path(name): Path<String>,
    visitor: Visitor,
    Extension(line): Extension<Arc<Line>>,
) -> Response {
    let ask =
        Ask::Download { source: source(&name, visitor.query.text("at")), path: visitor.query.value("path").to_owned() };
    let call = Call {
        proof: visitor.session.clone().map(Proof::Session),
        from: visitor.from,
        at: visitor.at,
        by_itself: false,
        once: None,
        ask,
    };
    match visitor.web.door.download(&call).await {
        Ok((head, from, place)) => answer(&head, from, place, line),
        Err(failed) => refused(&failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_bytes_is_one_field_of_an_address() {
        let href = place("a b", "2026-11-22T07:30:00Z", "deep/%FF%20odd&x");
        assert_eq!(href, "/datasets/a%20b/files?at=2026-11-22T07%3A30%3A00Z&path=deep%2F%25FF%2520odd%26x");
        let query = Form::read(href.split_once('?').expect("a query").1.as_bytes());
        assert_eq!((query.value("at"), query.value("path")), ("2026-11-22T07:30:00Z", "deep/%FF%20odd&x"));
        let crumbs: Vec<String> = crumbs("office", "", "/a//%FF%20b/%E6%94%AF").into_iter().map(|it| it.text).collect();
        assert_eq!(crumbs, ["office", "a", "\u{fffd} b", "支"]);
    }
}
