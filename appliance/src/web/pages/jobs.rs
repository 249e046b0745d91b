//! What is going on, and what has ended.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::protection::Mark;
use super::{Frame, done, refused, show_page};
use crate::accounts::Role;
use crate::control::Request;
use crate::control::reports::{Acknowledged, Replication, Status};
use crate::web::form::Form;
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed, Visitor};

/// Something that is under way.
pub(super) struct Job {
    pub what: String,
    /// How much of it is done, in percent, where that is known.
    pub percent: Option<u64>,
    pub detail: String,
    /// The number by which it can be stopped.
    pub id: Option<u64>,
}

/// A replication that has ended.
struct Ended {
    what: String,
    mark: Mark,
    word: &'static str,
    begun: String,
    took: String,
    wire: u64,
    detail: String,
}

#[derive(Template)]
#[template(path = "jobs_live.html")]
struct Now {
    running: Vec<Job>,
    ended: Vec<Ended>,
    form: Form,
    may: bool,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct Jobs {
    frame: Frame,
    now: Now,
}

/// Ended replications that are listed.
const ENDED_MAX: usize = 50;

/// All that is under way.
pub(super) fn running(status: &Status) -> Vec<Job> {
    let sending = status.replications.iter().filter(|replication| replication.state == "running").map(sending);
    let reclaiming = status.reclaiming.as_ref().map(|progress| Job {
        what: "Room that nobody needs is given back".into(),
        percent: progress.total.map(|total| show::percent(&progress.done, &total)),
        detail: format!("{} {}", progress.done, progress.unit),
        id: None,
    });
    let array = status.array.as_ref().filter(|array| array.done_bytes.is_some()).map(|array| Job {
        what: format!("Disks of the array: {}", array.action),
        percent: array.done_bytes.zip(array.total_bytes).map(|(done, total)| show::percent(&done, &total)),
        detail: array.seconds_left().map_or_else(String::new, |left| format!("about {} left", show::lasting(&left))),
        id: None,
    });
    sending.chain(reclaiming).chain(array).collect()
}

fn sending(replication: &Replication) -> Job {
    let percent = replication.differing_bytes.map(|all| show::percent(&replication.raw_bytes, &all));
    let so_far =
        format!("{} sent, {} now", show::size(&replication.wire_bytes_sent), show::rate(&replication.bits_per_second));
    let trouble = replication.trouble.as_ref().map_or_else(String::new, |why| format!("; interrupted: {why}"));
    Job {
        what: format!("{} to {}", replication.snapshot, replication.peer),
        percent,
        detail: format!("{so_far}{trouble}"),
        id: Some(replication.id),
    }
}

impl Now {
    fn of(status: &Arc<Status>, form: Form, may: bool) -> Now {
        let ended = status.replications.iter().filter(|replication| replication.state != "running").take(ENDED_MAX);
        Now { running: running(status), ended: ended.map(Ended::of).collect(), form, may }
    }
}

impl Ended {
    fn of(replication: &Replication) -> Ended {
        let (mark, word) = match (replication.state.as_str(), replication.proved) {
            ("done", true) => (Mark::Good, "Done and proved"),
            ("done", false) => (Mark::Warn, "Done, not proved"),
            _ => (Mark::Bad, "Failed"),
        };
        Ended {
            what: format!("{} to {}", replication.snapshot, replication.peer),
            mark,
            word,
            begun: replication.begun.clone(),
            took: show::lasting(&replication.seconds),
            wire: replication.wire_bytes_sent,
            detail: replication.error.clone().unwrap_or_default(),
        }
    }
}

pub(super) async fn page(signed: Signed) -> Response {
    match signed.web.live.for_page(&signed).await {
        Ok(status) => {
            let now = Now::of(&status, signed.form(), signed.may(Role::Operator));
            show_page(StatusCode::OK, &Jobs { frame: Frame::of(&signed, "jobs", "Jobs"), now })
        }
        Err(failed) => refused(&failed),
    }
}

/// The part of it that changes.
pub(super) async fn live(visitor: Visitor) -> Response {
    let live = &visitor.web.live;
    let person = match live.person(&visitor).await {
        Ok(person) => person,
        Err(failed) => return refused(&failed),
    };
    let token = crate::web::guard::of_session(visitor.session.as_deref().unwrap_or_default());
    match live.status(&visitor, &person).await {
        Ok(status) => {
            let form = Form::new(&token.to_hex());
            show_page(StatusCode::OK, &Now::of(&status, form, person.role >= Role::Operator))
        }
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn cancel(Path(id): Path<u64>, Change { signed, .. }: Change) -> Response {
    match signed.request::<Acknowledged>(Request::ReplicationCancel { id }).await {
        Ok(_) => done(&signed, "/jobs", "cancelled"),
        Err(failed) => refused(&failed),
    }
}
