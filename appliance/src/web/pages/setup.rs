//! Setting the box up: a page a step, in which what was typed stays, a summary, and what became of it.

mod in_words;

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::{Frame, missing, of_form, refused, show_page, to};
use crate::control::reports::{DiskSeen, Disks, NetworkState, NoticeTried, SetUpBegun, SetUpState};
use crate::control::{Failed, Request};
use crate::disks::smart::Verdict;
use crate::setup::apply::Outcome;
use crate::setup::typed::{self, Typed};
use crate::setup::{HeadOffice, Notices, SetUp};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};
use in_words::{Row, lies, rows};

/// A step: where it is, what it is called, and what is typed in it.
struct Step {
    path: &'static str,
    title: &'static str,
    fields: &'static [&'static str],
}

const STEPS: [Step; 8] = [
    Step { path: "place", title: "This place", fields: &["name", "time_zone"] },
    Step { path: "disks", title: "Disks", fields: &[] },
    Step { path: "network", title: "Network", fields: &NETWORK_FIELDS },
    Step { path: "clients", title: "Who may back up", fields: &["networks"] },
    Step {
        path: "dataset",
        title: "First share or volume",
        fields: &["dataset_kind", "dataset_name", "dataset_size", "dataset_every", "dataset_keep"],
    },
    Step { path: "head-office", title: "Head office", fields: &["head_office_address", "head_office_code"] },
    Step { path: "line", title: "The line", fields: &["line", "line_rate", "line_calendar"] },
    Step {
        path: "notices",
        title: "Notices",
        fields: &[
            "notices_mail_to",
            "notices_mail_server",
            "notices_mail_user",
            "notices_mail_password",
            "notices_mail_from",
            "notices_webhook_address",
            "notices_webhook_secret",
            "notices_syslog_server",
        ],
    },
];

const NETWORK_FIELDS: [&str; 10] = {
    let mut fields = ["network"; 10];
    let mut place = 0;
    while place < typed::NETWORK.len() {
        fields[place + 1] = typed::NETWORK[place];
        place += 1;
    }
    fields
};

/// Where the steps lead.
const SUMMARY: &str = "/setup/summary";

/// A step as it stands in the list of all.
struct Stage {
    title: &'static str,
    href: String,
    /// "past", "here" or "ahead".
    state: &'static str,
}

#[derive(Template)]
#[template(path = "setup_step.html")]
struct StepPage {
    frame: Frame,
    stages: Vec<Stage>,
    step: &'static Step,
    form: Form,
    state: SetUpState,
    /// The network of the machine, where the step is about it.
    network: Option<NetworkState>,
    /// Where the step before is; nothing at the first.
    back: bool,
    /// What came of a test.
    tried: Vec<NoticeTried>,
    /// What disks there are, where that is what the step is about.
    disks: Disks,
}

impl StepPage {
    /// Whether the time zone is none of those that are offered.
    fn is_other_zone(&self) -> bool {
        !self.state.zones.iter().any(|zone| self.form.is("time_zone", zone))
    }

    /// What is said of a field with something secret.
    fn secret_hint(&self, field: &str, empty: &'static str) -> &'static str {
        match self.state.secrets.iter().any(|kept| kept == field) {
            true => "It is kept, and shown to nobody. Empty: it stays.",
            false => empty,
        }
    }

    /// Where backups lie.
    fn lies(&self) -> String {
        lies(&self.state)
    }

    /// Whether there is nothing to be done about disks.
    fn has_place(&self) -> bool {
        self.state.array.is_some() || self.state.lies.as_ref().is_some_and(|place| !place.system)
    }

    /// What makes an array of the disks that nobody uses, where there are enough for one that may lose a disk.
    fn make(&self) -> Option<String> {
        let free: Vec<&DiskSeen> = self.disks.disks.iter().filter(|disk| !disk.in_use).collect();
        let name = |disk: &&DiskSeen| show::quoted(disk.serial.as_deref().unwrap_or(&disk.path));
        let names: Vec<String> = free.iter().map(name).collect();
        let folder = show::quoted(&self.disks.folder);
        (names.len() >= 2).then(|| format!("narrowboat --data {folder} disks make {}", names.join(" ")))
    }

    fn mark(&self, disk: &DiskSeen) -> (&'static str, &'static str) {
        match disk.health.verdict {
            Verdict::Good => ("good", "Well"),
            Verdict::Worn => ("warn", "Worn"),
            Verdict::Failing => ("bad", "Failing"),
            Verdict::Unknown => ("still", "Not known"),
        }
    }
}

#[derive(Template)]
#[template(path = "setup_summary.html")]
struct Summary {
    frame: Frame,
    stages: Vec<Stage>,
    rows: Vec<Row>,
    form: Form,
}

#[derive(Template)]
#[template(path = "setup_done.html")]
struct Done {
    frame: Frame,
    applying: bool,
    outcomes: Vec<Outcome>,
    /// The page of the dataset that was made.
    dataset: Option<String>,
    /// A network set-up was typed, and is still to be tried.
    network: bool,
}

#[derive(Template)]
#[template(path = "setup_wait.html")]
struct Wait {
    frame: Frame,
}

#[derive(Template)]
#[template(path = "setup_file.html")]
struct FilePage {
    frame: Frame,
    form: Form,
}

async fn state(signed: &Signed) -> Result<SetUpState, Response> {
    signed.request::<SetUpState>(Request::SetUpShow).await.map_err(|failed| refused(&failed))
}

fn frame(signed: &Signed, title: &str) -> Frame {
    Frame::of(signed, "setup", title)
}

/// All steps, as seen from one; the summary is behind the last.
fn stages(here: usize) -> Vec<Stage> {
    let places = STEPS.iter().map(|step| (step.title, format!("/setup/{}", step.path)));
    let all = places.chain([("Summary", SUMMARY.to_owned())]);
    let state = |place: usize| match place.cmp(&here) {
        std::cmp::Ordering::Less => "past",
        std::cmp::Ordering::Equal => "here",
        std::cmp::Ordering::Greater => "ahead",
    };
    all.enumerate().map(|(place, (title, href))| Stage { title, href, state: state(place) }).collect()
}

/// What stands in a field that nobody has typed anything into.
fn usual(field: &str, state: &SetUpState, signed: &Signed) -> String {
    match field {
        "name" => state.name.clone(),
        "time_zone" => state.time_zone.clone().unwrap_or_else(|| "UTC".into()),
        "network" => "as-is".into(),
        "network_ipv4" => "dhcp".into(),
        "network_ipv6" => "auto".into(),
        "networks" => networks(state, signed),
        "dataset_kind" => "share".into(),
        "dataset_name" => "backups".into(),
        "dataset_every" => "1h".into(),
        "dataset_keep" => "usual".into(),
        "line" => "all".into(),
        _ => String::new(),
    }
}

/// The networks that the box is in, as long as nobody else can be in them, too.
fn networks(state: &SetUpState, signed: &Signed) -> String {
    let own = |address: &str| match address.parse() {
        Ok(std::net::IpAddr::V4(address)) => address.is_private(),
        Ok(std::net::IpAddr::V6(address)) => address.is_unique_local(),
        Err(_) => false,
    };
    let mut networks: Vec<&str> =
        state.places.iter().filter(|place| own(&place.address)).map(|place| place.network.as_str()).collect();
    networks.dedup();
    // Whoever sits at the box itself, and nowhere else, backs up from there.
    if networks.is_empty() && signed.from.is_loopback() {
        networks.push("127.0.0.0/8");
    }
    networks.join(", ")
}

/// All that was typed, and what stands where nothing was.
fn typed(state: &SetUpState, signed: &Signed) -> Typed {
    let fields = STEPS.iter().flat_map(|step| step.fields).copied();
    let value = |field: &str| state.typed.get(field).cloned().unwrap_or_else(|| usual(field, state, signed));
    fields.map(|field| (field.to_owned(), value(field))).collect()
}

/// What is wrong with one step: of a field of it, in a sentence.
fn problem<'s>(step: &Step, state: &'s SetUpState) -> Option<(&'s str, &'s str)> {
    let own = |field: &&&str| state.problems.contains_key(**field);
    let (field, sentence) = state.problems.get_key_value(*step.fields.iter().find(own)?)?;
    Some((field, sentence))
}

pub(super) async fn begin(signed: Signed) -> Response {
    match state(&signed).await {
        Ok(state) if state.applying || !state.outcomes.is_empty() => to("/setup/done"),
        Ok(_) => to("/setup/place"),
        Err(response) => response,
    }
}

pub(super) async fn step(Path(path): Path<String>, signed: Signed) -> Response {
    let Some(place) = STEPS.iter().position(|step| step.path == path) else { return missing(NO_STEP) };
    match state(&signed).await {
        Ok(state) => {
            let all = typed(&state, &signed);
            let form =
                STEPS[place].fields.iter().fold(signed.form(), |form, field| form.with(field, all[*field].clone()));
            show_step(&signed, place, form, state, Vec::new()).await
        }
        Err(response) => response,
    }
}

const NO_STEP: &str = "there is no such step of the set-up";

async fn show_step(signed: &Signed, place: usize, form: Form, state: SetUpState, tried: Vec<NoticeTried>) -> Response {
    let step = &STEPS[place];
    let seen = async {
        let network = match step.path {
            "network" => Some(signed.request(Request::NetworkShow).await?),
            _ => None,
        };
        // The step that only shows: what becomes of disks is decided at the console.
        let disks = match step.path {
            "disks" => signed.request(Request::DiskList).await?,
            _ => Disks::default(),
        };
        Ok::<_, Failed>((network, disks))
    };
    let (network, disks) = match seen.await {
        Ok(seen) => seen,
        Err(failed) => return refused(&failed),
    };
    let frame = frame(signed, step.title);
    show_page(
        of_form(&form),
        &StepPage { frame, stages: stages(place), step, form, state, network, back: place > 0, tried, disks },
    )
}

pub(super) async fn next(Path(path): Path<String>, Change { signed, mut form }: Change) -> Response {
    let Some(place) = STEPS.iter().position(|step| step.path == path) else { return missing(NO_STEP) };
    let step = &STEPS[place];
    let fields: Typed = step.fields.iter().map(|field| ((*field).to_owned(), form.value(field).to_owned())).collect();
    // Whatever it is: who goes back and comes again finds it.
    let state = match signed.request::<SetUpState>(Request::SetUpType { fields }).await {
        Ok(state) => state,
        Err(failed) if failed.field.is_some() => {
            form.failed(WHOLE, &failed);
            match state(&signed).await {
                Ok(state) => state,
                Err(response) => return response,
            }
        }
        Err(failed) => return refused(&failed),
    };
    if form.is("go", "back") && place > 0 {
        return to(&format!("/setup/{}", STEPS[place - 1].path));
    }
    for (field, sentence) in step.fields.iter().filter_map(|field| state.problems.get_key_value(*field)) {
        form.wrong(field, show::sentence(sentence));
    }
    if form.is_good() && form.is("go", "test") {
        return match signed.request::<Vec<NoticeTried>>(Request::SetUpTest).await {
            Ok(tried) => show_step(&signed, place, form, state, tried).await,
            Err(failed) if failed.kind == "refused" => {
                form.failed(WHOLE, &failed);
                show_step(&signed, place, form, state, Vec::new()).await
            }
            Err(failed) => refused(&failed),
        };
    }
    if form.is_good() {
        return match STEPS.get(place + 1).filter(|_| !form.is("go", "summary")) {
            Some(next) => to(&format!("/setup/{}", next.path)),
            None => to(SUMMARY),
        };
    }
    show_step(&signed, place, form, state, Vec::new()).await
}

pub(super) async fn summary(signed: Signed) -> Response {
    let form = signed.form();
    summed_up(&signed, form).await
}

async fn summed_up(signed: &Signed, form: Form) -> Response {
    let state = match state(signed).await {
        Ok(state) => state,
        Err(response) => return response,
    };
    let typed = typed(&state, signed);
    let rows = rows(&typed, &state);
    show_page(of_form(&form), &Summary { frame: frame(signed, "Summary"), stages: stages(STEPS.len()), rows, form })
}
pub(super) async fn apply(Change { signed, mut form }: Change) -> Response {
    let state = match state(&signed).await {
        Ok(state) => state,
        Err(response) => return response,
    };
    let all = typed(&state, &signed);
    if !state.problems.is_empty() {
        form.wrong(WHOLE, "Something below is not right yet: nothing was done.");
        return summed_up(&signed, form).await;
    }
    let mut set_up = typed::set_up(&all);
    // It is tried by whoever is there to find the box at its new address, once all else is done.
    set_up.network = None;
    // Without a box to copy to, how often waits until there is one.
    if set_up.head_office.is_none() {
        set_up.dataset.iter_mut().for_each(|dataset| dataset.every = None);
    }
    match carry_out(&signed, set_up, true).await {
        Ok(response) => response,
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            summed_up(&signed, form).await
        }
        Err(failed) => refused(&failed),
    }
}

async fn carry_out(signed: &Signed, set_up: SetUp, typed: bool) -> Result<Response, Failed> {
    let begun: SetUpBegun = signed.request(Request::SetUpApply { set_up: Box::new(set_up), typed }).await?;
    signed.web.live.forget();
    Ok(if begun.restarting {
        show_page(StatusCode::OK, &Wait { frame: frame(signed, "One moment") })
    } else {
        to("/setup/done")
    })
}

pub(super) async fn done(signed: Signed) -> Response {
    let state = match state(&signed).await {
        Ok(state) => state,
        Err(response) => return response,
    };
    let made = state.outcomes.iter().any(|part| part.part == "dataset" && part.problem.is_none());
    let network = match still_to_be_tried(&signed, &state).await {
        Ok(network) => network,
        Err(failed) => return refused(&failed),
    };
    let dataset =
        state.typed.get("dataset_name").filter(|_| made).map(|name| format!("/datasets/{}", show::part(name)));
    let page =
        Done { frame: frame(&signed, "Set-up"), applying: state.applying, outcomes: state.outcomes, dataset, network };
    show_page(StatusCode::OK, &page)
}

/// Whether a network set-up was typed that does not count yet.
async fn still_to_be_tried(signed: &Signed, state: &SetUpState) -> Result<bool, Failed> {
    let Some(wanted) = typed::set_up(&state.typed).network else { return Ok(false) };
    let network: NetworkState = signed.request(Request::NetworkShow).await?;
    Ok(network.managed && network.kept != Some(wanted))
}

/// What was typed, as a file that sets up another box.
pub(super) async fn save(signed: Signed) -> Response {
    let state = match state(&signed).await {
        Ok(state) => state,
        Err(response) => return response,
    };
    let set_up = typed::set_up(&typed(&state, &signed));
    // A code counts for one box, once.
    let head_office = set_up.head_office.as_ref().map(|head| head.address.clone());
    // What is secret is not shown to whoever saves a file, and what goes with it makes no sense without.
    let (mail, hook) = set_up.notices.as_ref().map_or((false, false), |notices| {
        (notices.mail.as_ref().is_some_and(|mail| mail.user.is_some()), notices.webhook.is_some())
    });
    let notices = set_up.notices.clone().and_then(Notices::for_others);
    let file = SetUp { head_office: None, notices, ..set_up };
    match file.write() {
        Ok(text) => {
            let mut text = with_comments(&text, head_office.as_deref());
            if mail {
                text.push_str("\n# Below [notices.mail], for whoever signs in at the mail server:\n# user = \"box\"\n# password = \"...\"\n");
            }
            if hook {
                text.push_str("\n# The address that is called with notices, and by what calls are signed:\n# [notices.webhook]\n# address = \"https://...\"\n# secret = \"...\"\n");
            }
            let headers = [
                (CONTENT_TYPE, "application/toml; charset=utf-8"),
                (CONTENT_DISPOSITION, "attachment; filename=\"narrowboat-setup.toml\""),
            ];
            (headers, text).into_response()
        }
        Err(failed) => refused(&failed),
    }
}

/// What a person has to fill in before another box takes the file.
fn with_comments(text: &str, address: Option<&str>) -> String {
    let HeadOffice { address, code } =
        HeadOffice { address: address.unwrap_or("hub.example.com:4433").to_owned(), code: "000-000-000".into() };
    format!(
        "# A set-up of Narrowboat. Another box takes it with `narrowboat serve --setup FILE`, or `narrowboat setup apply FILE`.\n{text}\n\
         # An account, so that nobody has to claim the box; `narrowboat setup hash NAME` makes the hash:\n\
         # [administrator]\n# user = \"admin\"\n# password_hash = \"$argon2id$...\"\n\n\
         # Head office; a new invitation there has the code:\n# [head_office]\n# address = {address:?}\n# code = {code:?}\n"
    )
}

pub(super) async fn file_page(signed: Signed) -> Response {
    let form = signed.form();
    show_page(StatusCode::OK, &FilePage { frame: frame(&signed, "A set-up file"), form })
}

/// Does what a file says. Its network is tried by whoever pasted it, as if he had typed it.
async fn take(signed: &Signed, mut set_up: SetUp) -> Result<Response, Failed> {
    if let Some(wanted) = set_up.network.take() {
        let own = [("network", "own".to_owned())];
        let fields = own.into_iter().chain(typed::of_network(&wanted));
        let fields = fields.map(|(field, value)| (field.to_owned(), value)).collect();
        signed.request::<SetUpState>(Request::SetUpType { fields }).await?;
    }
    carry_out(signed, set_up, false).await
}

pub(super) async fn load(Change { signed, mut form }: Change) -> Response {
    let text = form.needs("file", "Paste the file here.");
    if form.is_good() {
        let outcome = match SetUp::read(&text) {
            Ok(set_up) => take(&signed, set_up).await,
            Err(failed) => Err(failed),
        };
        match outcome {
            Ok(response) => return response,
            Err(failed) if failed.kind == "refused" => form.wrong("file", show::sentence(&failed.message)),
            Err(failed) => return refused(&failed),
        }
    }
    show_page(of_form(&form), &FilePage { frame: frame(&signed, "A set-up file"), form })
}
