//! How fast is sent and received, of the box or of one peer: what counts now and why, by hand, always, and by a calendar.

use askama::Template;
use axum::response::Response;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use narrowboat_wan::shape::{Calendar, Rate, parse_limit, print_limit};

use super::{Frame, done, explained, of_form, refused, show_page};
use crate::accounts::Role;
use crate::control::reports::{Explained, Limit};
use crate::control::{Failed, Request};
use crate::units::parse_duration;
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};
use crate::web::week::{BRUSHES, Row, Week, clock, minutes};

/// Rows that are free to be filled in.
const FREE: usize = 3;
/// A calendar with more rows is edited as text.
const ROWS_MAX: usize = 40;
const DAYS: [(&str, &str); 7] =
    [("mon", "Mon"), ("tue", "Tue"), ("wed", "Wed"), ("thu", "Thu"), ("fri", "Fri"), ("sat", "Sat"), ("sun", "Sun")];

/// What limits are about.
#[derive(Clone)]
struct Subject {
    /// The peer; the whole box where there is none.
    peer: Option<String>,
    receive: bool,
}

#[derive(Template)]
#[template(path = "limits.html")]
struct Limits {
    frame: Frame,
    subject: Subject,
    says: Vec<String>,
    limit: Limit,
    /// What the grid shows; nothing where hours are not enough to show it.
    grid: Option<Grid>,
    rows: Vec<Shown>,
    /// Too long for rows.
    long: bool,
    text: String,
    form: Form,
    operates: bool,
}

struct Grid {
    cells: String,
    brushes: Vec<String>,
}

/// A row as its fields hold it.
struct Shown {
    nth: usize,
    days: [bool; 7],
    from: String,
    until: String,
    rate: String,
}

impl Subject {
    fn of(peer: Option<String>, way: &str) -> Subject {
        Subject { peer, receive: way == "received" }
    }

    fn href(&self) -> String {
        self.peer.as_ref().map_or_else(|| "/limits".into(), |peer| format!("/peers/{}/limits", show::part(peer)))
    }

    fn way(&self) -> &'static str {
        if self.receive { "received" } else { "sent" }
    }

    fn request(&self) -> Request {
        let (peer, receive) = (self.peer.clone(), self.receive);
        Request::Limit { peer, rate: None, seconds: None, calendar: None, resume: false, as_configured: false, receive }
    }
}

pub(super) async fn of_box(signed: Signed) -> Response {
    let (subject, form) = (Subject::of(None, signed.query.text("way")), signed.form());
    page(&signed, subject, form).await
}

pub(super) async fn of_peer(Path(name): Path<String>, signed: Signed) -> Response {
    let (subject, form) = (Subject::of(Some(name), signed.query.text("way")), signed.form());
    page(&signed, subject, form).await
}

async fn page(signed: &Signed, subject: Subject, form: Form) -> Response {
    let asked = async {
        let limit: Limit = signed.request(subject.request()).await?;
        let explained: Explained = signed.request(Request::LimitExplain { peer: subject.peer.clone() }).await?;
        Ok::<_, Failed>((limit, explained))
    };
    let (limit, explained) = match asked.await {
        Ok(known) => known,
        Err(failed) => return refused(&failed),
    };
    let week = Week::read(&limit.calendar).unwrap_or_default();
    let zone = limit.zone.as_deref().filter(|zone| *zone != show::zone());
    let title = match (&subject.peer, subject.receive) {
        (Some(peer), false) => format!("What is sent to {peer}"),
        (Some(peer), true) => format!("What is received from {peer}"),
        (None, false) => "What this box sends".into(),
        (None, true) => "What this box receives".into(),
    };
    let page = Limits {
        frame: Frame::of(signed, "peers", title),
        says: says(&subject, &limit, &explained),
        grid: grid(&week, &form),
        rows: rows(&week, &form),
        long: week.rows.len() > ROWS_MAX,
        text: if form.is("what", "text") { form.value("calendar").to_owned() } else { week.text(zone) },
        operates: signed.may(Role::Operator),
        subject,
        limit,
        form,
    };
    show_page(of_form(&page.form), &page)
}

fn says(subject: &Subject, limit: &Limit, explained: &Explained) -> Vec<String> {
    match (&subject.peer, explained.peers.first()) {
        (Some(_), Some(peer)) if !subject.receive => explained::of_peer(peer, &explained.whole),
        _ => vec![explained::of_limit(limit, "The limit")],
    }
}

fn grid(week: &Week, form: &Form) -> Option<Grid> {
    let (cells, mut brushes) = week.cells()?;
    if form.is("what", "grid") {
        let typed = (1..=BRUSHES).map(|nth| form.value(&format!("brush-{nth}")).to_owned());
        return Some(Grid { cells: form.value("cells").to_owned(), brushes: typed.collect() });
    }
    brushes.resize(BRUSHES, String::new());
    Some(Grid { cells, brushes })
}

fn rows(week: &Week, form: &Form) -> Vec<Shown> {
    let typed = |nth: usize| Shown {
        nth,
        days: DAYS.map(|(day, _)| form.has(&format!("row-{nth}-{day}"))),
        from: form.value(&format!("row-{nth}-from")).to_owned(),
        until: form.value(&format!("row-{nth}-until")).to_owned(),
        rate: form.value(&format!("row-{nth}-rate")).to_owned(),
    };
    if form.is("what", "rows") || form.is("what", "grid") {
        return (1..=ROWS_MAX + FREE).take_while(|nth| form.has(&format!("row-{nth}-rate"))).map(typed).collect();
    }
    let kept = week.rows.iter().take(ROWS_MAX).enumerate().map(|(at, row)| Shown {
        nth: at + 1,
        days: row.days,
        from: clock(row.from),
        until: clock(row.until),
        rate: row.rate.clone(),
    });
    let free = week.rows.len().min(ROWS_MAX);
    let free = (1..=FREE).map(|more| Shown {
        nth: free + more,
        days: [false; 7],
        from: String::new(),
        until: String::new(),
        rate: String::new(),
    });
    kept.chain(free).collect()
}

impl Limits {
    fn days(&self) -> [(&'static str, &'static str); 7] {
        DAYS
    }

    /// What stands in a field: what was typed, or else this.
    fn value(&self, name: &str, else_: &str) -> String {
        if self.form.has(name) { self.form.value(name).to_owned() } else { else_.to_owned() }
    }

    fn dated(&self) -> String {
        let dated = Week::read(&self.limit.calendar).unwrap_or_default().dated;
        self.value("dated", &dated.join("\n"))
    }

    fn zone(&self) -> String {
        self.value("zone", self.limit.zone.as_deref().unwrap_or_default())
    }

    /// The limit where the calendar says nothing, as somebody would type it.
    fn rate(&self) -> String {
        let rate = self.limit.rate.map(Rate::from_bits).transpose();
        self.value("rate", &rate.map(print_limit).unwrap_or_default())
    }

    fn brush(&self, nth: &usize) -> String {
        format!("brush-{nth}")
    }

    fn cell(&self, nth: &usize, what: &str) -> String {
        format!("row-{nth}-{what}")
    }
}

pub(super) async fn set_box(Change { signed, form }: Change) -> Response {
    let subject = Subject::of(None, form.text("way"));
    set(&signed, subject, form).await
}

pub(super) async fn set_peer(Path(name): Path<String>, Change { signed, form }: Change) -> Response {
    let subject = Subject::of(Some(name), form.text("way"));
    set(&signed, subject, form).await
}

async fn set(signed: &Signed, subject: Subject, mut form: Form) -> Response {
    let mut request = subject.request();
    let mut field = WHOLE;
    if let Request::Limit { rate, seconds, calendar, resume, as_configured, .. } = &mut request {
        match form.value("what").to_owned().as_str() {
            "pause" => (*rate, *seconds) = (Some("pause".into()), lasts(&mut form)),
            "override" => {
                field = "by-hand";
                (*rate, *seconds) = (Some(rate_of(&mut form, field)), lasts(&mut form));
            }
            "resume" => *resume = true,
            "forget" => *as_configured = true,
            what @ ("grid" | "rows" | "text") => {
                field = "calendar";
                *calendar = text_of(what, &mut form);
            }
            _ => {
                field = "rate";
                *rate = Some(rate_of(&mut form, field));
            }
        }
    }
    if !form.is_good() {
        return page(signed, subject, form).await;
    }
    match signed.request::<Limit>(request).await {
        Ok(_) => {
            let way = if subject.receive { "&way=received" } else { "" };
            let back = done(signed, &subject.href(), "limit");
            if way.is_empty() { back } else { super::to(&format!("{}?done=limit{way}", subject.href())) }
        }
        Err(failed) if failed.kind == "refused" => {
            form.failed(field, &failed);
            page(signed, subject, form).await
        }
        Err(failed) => refused(&failed),
    }
}

/// A rate as it was typed, checked here so that what is wrong stands beside it.
fn rate_of(form: &mut Form, field: &str) -> String {
    let typed = form.needs(field, "Say how fast, as in 20Mbit, or pause, or unlimited.").replace(' ', "");
    if !typed.is_empty()
        && let Err(why) = parse_limit(&typed)
    {
        form.wrong(field, show::sentence(&why.to_string()));
    }
    typed
}

/// For how long something counts.
fn lasts(form: &mut Form) -> Option<u64> {
    let typed = form.needs("lasts", "Say for how long, as in 30min, 2h or 3d.");
    match parse_duration(&typed) {
        Ok(seconds) => Some(seconds),
        Err(why) => {
            form.wrong("lasts", show::sentence(&why.to_string()));
            None
        }
    }
}

/// The text of a calendar that was painted, filled in as rows, or typed.
fn text_of(what: &str, form: &mut Form) -> Option<String> {
    if what == "text" {
        return Some(form.value("calendar").replace("\r\n", "\n"));
    }
    let rows = if what == "grid" { painted(form) } else { filled_in(form) };
    let dated: Vec<String> =
        form.value("dated").lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    match Calendar::parse(&dated.join("\n"), &TimeZone::UTC) {
        Err(why) => form.wrong("dated", show::sentence(&why.to_string())),
        Ok(calendar) if calendar.rules().iter().any(|rule| !rule.is_dated()) => {
            form.wrong("dated", "Each line here begins with a date, as in 2026-12-24 or 2026-12-24..2027-01-01.");
        }
        Ok(_) => {}
    }
    let zone = form.some("zone").filter(|zone| *zone != show::zone());
    // Of the program's own list: there is no file here to read it from.
    if zone.as_deref().is_some_and(|zone| TimeZoneDatabase::bundled().get(zone).is_err()) {
        form.wrong("zone", "This is no time zone: write a place of the IANA database, such as Europe/London, or UTC.");
    }
    let week = Week { rows: rows?, dated };
    form.is_good().then(|| week.text(zone.as_deref()))
}

fn painted(form: &mut Form) -> Option<Vec<Row>> {
    let cells = form.value("cells").to_owned();
    let mut rates = Vec::new();
    for nth in 1..=BRUSHES {
        let field = format!("brush-{nth}");
        let is_used = cells.contains(char::from(b'0' + nth as u8));
        let typed = form.text(&field).replace(' ', "");
        if is_used && let Err(why) = parse_limit(&typed) {
            form.wrong(&field, show::sentence(&why.to_string()));
        }
        rates.push(typed);
    }
    let rows = Week::painted(&cells, &rates);
    if rows.is_none() {
        form.wrong("calendar", "The grid did not come whole: paint it again, or use the rows.");
    }
    rows
}

fn filled_in(form: &mut Form) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    for nth in (1..=ROWS_MAX + FREE).take_while(|nth| form.has(&format!("row-{nth}-rate"))).collect::<Vec<_>>() {
        let field = |what: &str| format!("row-{nth}-{what}");
        let days = DAYS.map(|(day, _)| form.has(&field(day)));
        let [from, until, rate] = ["from", "until", "rate"].map(|what| form.text(&field(what)).to_owned());
        if rate.is_empty() && from.is_empty() && until.is_empty() {
            // Emptied, or never filled in.
            if days.contains(&true) {
                form.wrong(&field("rate"), "These days have no rate: say how fast, as in 4Mbit, or take them away.");
            }
            continue;
        }
        let times =
            (minutes(if from.is_empty() { "0" } else { &from }), minutes(if until.is_empty() { "24" } else { &until }));
        let rate = rate.replace(' ', "");
        if let Err(why) = parse_limit(&rate) {
            form.wrong(&field("rate"), show::sentence(&why.to_string()));
        }
        match times {
            _ if !days.contains(&true) => form.wrong(&field("rate"), "On which days? Check one, or empty the row."),
            (Some(from), Some(until)) if from != until && from < 1440 => rows.push(Row { days, from, until, rate }),
            (Some(_), Some(_)) => {
                form.wrong(&field("from"), "These hours end when they begin: for a whole day leave both empty.")
            }
            (None, _) => form.wrong(&field("from"), "This is no time of the day: write it as 08:00."),
            (_, None) => form.wrong(&field("until"), "This is no time of the day: write it as 18:00, or 24:00."),
        }
    }
    Some(rows)
}
