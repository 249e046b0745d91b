//! A box is set up: on its page, step by step, and by a file, without a screen. Real boxes, a real pairing, a real restart.

#[path = "page/browser.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod browser;
mod common;
#[path = "page/real.rs"]
mod real;

use std::fs;
use std::path::Path;

use browser::{Answer, Browser};
use common::{Served, data_folder, facts, until};
use narrowboat::control::Request;
use narrowboat::control::reports::{SetUpState, Status};
use real::{address, follow, text, with_page};

const GOOD: &str = "Tram 12 smells of rye bread";

/// The code of a new invitation of a box, and where it is reached.
fn invitation(hub: &Path) -> (String, String) {
    let invited = facts(hub, &["peer", "invite"]);
    (text(&invited["code"]), text(&invited["listen"]))
}

/// Claims a box and stands before the first step.
fn claimed(browser: &mut Browser, data: &Path) -> Answer {
    let claim = browser.get("/");
    let code = text(&facts(data, &["account", "claim"])["code"]);
    let fields = [("code", code.as_str()), ("user", "admin"), ("password", GOOD), ("again", GOOD)];
    let entered = browser.submit(&claim, "/claim", &fields);
    follow(browser, &entered)
}

/// Whether the box, which starts again in between, says what became of its set-up.
fn is_set_up(served: &Served) -> bool {
    served.ask::<SetUpState>(&Request::SetUpShow).is_ok_and(|state| !state.applying && !state.outcomes.is_empty())
}

/// How often the box has come to serve.
fn starts(served: &Served) -> usize {
    served.log().matches("replayed=").count()
}

fn value_of<'a>(answer: &'a Answer, field: &str) -> &'a str {
    answer.between(&format!("id=\"{field}\" name=\"{field}\" value=\""), "\"")
}

#[test]
fn a_person_sets_up_a_box_step_by_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = data_folder(folder.path(), "hub");
    let _hub = Served::start(&hub);
    let data = with_page(folder.path());
    let served = Served::start(&data);
    let mut browser = Browser::new(address(&data));
    let place = claimed(&mut browser, &data);
    assert!(place.body.contains("This place") && value_of(&place, "name") == "box", "{}", place.body);

    // What is typed stays, whatever sense it makes, also for who goes back.
    let wrong = browser.submit(
        &place,
        "/setup/place",
        &[("name", "bonn <b>\u{2764}"), ("time_zone", "Europe/Berlin"), ("go", "next")],
    );
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.body.contains("id=\"name-wrong\"") && wrong.body.contains("bonn &#60;b&#62;\u{2764}"),
        "{}",
        wrong.body
    );
    let next = browser.submit(
        &wrong,
        "/setup/place",
        &[("name", "office-bonn"), ("time_zone", "Europe/Berlin"), ("go", "next")],
    );
    let disks = follow(&mut browser, &next);
    assert!(
        disks.body.contains("What backups lie on") && disks.body.contains("When it dies, only head office")
            || disks.body.contains("nothing to do here")
            || disks.body.contains("runs from"),
        "{}",
        disks.body
    );
    let next = browser.submit(&disks, "/setup/disks", &[("go", "next")]);
    // This machine's network is its own affair: the step says so, and there is nothing to do.
    let network = follow(&mut browser, &next);
    assert!(network.body.contains("set up by the machine itself") && !network.body.contains("network_address4"));
    let next = browser.submit(&network, "/setup/network", &[("go", "next")]);
    let clients = follow(&mut browser, &next);
    let back = browser.submit(&clients, "/setup/clients", &[("networks", "nonsense 老师"), ("go", "back")]);
    let network = follow(&mut browser, &back);
    let back = browser.submit(&network, "/setup/network", &[("go", "back")]);
    let disks = follow(&mut browser, &back);
    let back = browser.submit(&disks, "/setup/disks", &[("go", "back")]);
    let place = follow(&mut browser, &back);
    assert_eq!(value_of(&place, "name"), "office-bonn");
    assert!(place.body.contains("<option selected>Europe/Berlin"));
    let clients = browser.get("/setup/clients");
    assert_eq!(value_of(&clients, "networks"), "nonsense 老师");
    let refused = browser.submit(&clients, "/setup/clients", &[("networks", "nonsense 老师"), ("go", "next")]);
    assert!(refused.status == 422 && refused.body.contains("id=\"networks-wrong\""), "{}", refused.body);
    // The summary says so, too, and does nothing.
    let summary = browser.get("/setup/summary");
    let refused = browser.submit(&summary, "/setup/apply", &[]);
    assert!(refused.status == 422 && facts(&data, &["dataset", "list"]).as_array().expect("a list").is_empty());
    let next = browser.submit(&clients, "/setup/clients", &[("networks", "127.0.0.0/8"), ("go", "next")]);
    let dataset = follow(&mut browser, &next);
    let fields = [
        ("dataset_kind", "share"),
        ("dataset_name", "backups"),
        ("dataset_size", ""),
        ("dataset_every", "1h"),
        ("dataset_keep", "usual"),
        ("go", "next"),
    ];
    let next = browser.submit(&dataset, "/setup/dataset", &fields);
    let head = follow(&mut browser, &next);
    let (code, at) = invitation(&hub);
    let next = browser.submit(
        &head,
        "/setup/head-office",
        &[("head_office_address", &at), ("head_office_code", &code), ("go", "next")],
    );
    let line = follow(&mut browser, &next);
    let fields =
        [("line", "hours"), ("line_rate", "20Mbit"), ("line_calendar", "mon-fri 08:00-18:00 4Mbit"), ("go", "next")];
    let next = browser.submit(&line, "/setup/line", &fields);
    let notices = follow(&mut browser, &next);
    // Who is told is tried before it is done; a password is shown to nobody, and stays.
    let fields = [
        ("notices_mail_to", "anna@example.org"),
        ("notices_mail_server", "127.0.0.1:9"),
        ("notices_mail_user", "box"),
        ("notices_mail_password", "seven-barges-pass"),
        ("go", "test"),
    ];
    let tried = browser.submit(&notices, "/setup/notices", &fields);
    assert!(tried.body.contains("Mail: not taken by") && tried.body.contains("this machine itself"), "{}", tried.body);
    assert!(tried.body.contains("It is kept, and shown to nobody") && !tried.body.contains("seven-barges-pass"));
    let file = browser.get("/setup/save");
    assert!(file.body.contains("anna@example.org") && file.body.contains("# password"), "{}", file.body);
    assert!(!file.body.contains("seven-barges-pass"), "{}", file.body);
    let refused = browser.submit(&tried, "/setup/notices", &[("notices_mail_to", "everybody"), ("go", "next")]);
    assert!(refused.status == 422 && refused.body.contains("id=\"notices_mail_to-wrong\""), "{}", refused.body);
    let fields = [("notices_mail_to", ""), ("notices_mail_server", ""), ("notices_mail_user", ""), ("go", "next")];
    let next = browser.submit(&refused, "/setup/notices", &fields);
    assert!(!data.join("secrets/typed.notices_mail_password").exists(), "nobody signs in any more");
    let summary = follow(&mut browser, &next);
    for said in [
        "office-bonn",
        "Europe/Berlin",
        "127.0.0.0/8",
        "A share called backups",
        "Every 1h",
        &at,
        "At most 20Mbit",
        "Nobody, for now",
        "Where backups lie",
    ] {
        assert!(summary.body.contains(said), "{said}: {}", summary.body);
    }
    let file = browser.get("/setup/save");
    assert!(file.header("content-disposition").contains("narrowboat-setup.toml"));
    assert!(file.body.contains("office-bonn") && !file.body.contains(&code), "{}", file.body);

    // The box starts again with its name, and does the rest then.
    let waits = browser.submit(&summary, "/setup/apply", &[]);
    assert!(waits.status == 200 && waits.body.contains("One moment"), "{}", waits.body);
    until("it is set up", || is_set_up(&served));
    let state = facts(&data, &["setup", "show"]);
    for part in state["outcomes"].as_array().expect("a list") {
        assert!(part["problem"].is_null(), "{part}");
    }
    let status = facts(&data, &["status"]);
    assert_eq!(text(&status["name"]), "office-bonn");
    assert_eq!(text(&status["datasets"][0]["name"]), "backups");
    assert_eq!(status["plans"].as_array().map(Vec::len), Some(1), "{status}");
    assert_eq!(facts(&data, &["peer", "list"]).as_array().map(Vec::len), Some(1));
    assert!(state["typed"]["head_office_code"].is_null(), "{state}");
    let log = facts(&data, &["audit"]).to_string();
    assert!(log.contains("set-up-apply") && !log.contains(&code), "{log}");

    // He signs in once more, and is led to what became of it.
    let mut browser = Browser::new(address(&data));
    let sign_in = browser.get("/setup/done");
    let sign_in = follow(&mut browser, &sign_in);
    let to = sign_in.between("name=\"to\" value=\"", "\"").to_owned();
    let entered =
        browser.submit(&sign_in, "/sign-in", &[("user", "admin"), ("password", GOOD), ("code", ""), ("to", &to)]);
    assert_eq!(entered.header("location"), "/setup/done");
    let done = follow(&mut browser, &entered);
    assert!(done.body.contains("/datasets/backups") && !done.body.contains("Not done"), "{}", done.body);
}

/// Writes a set-up file of an office with an account, for a box that knows `hub`.
fn write_file(path: &Path, hub: &Path) {
    let hash = narrowboat::accounts::hash_for("anna", GOOD).expect("good enough");
    let (code, at) = invitation(hub);
    let text = format!(
        "set_up = 1\nname = 'office-ulm'\ntime_zone = 'Europe/Berlin'\nnetworks = ['127.0.0.0/8']\n\
         [administrator]\nuser = 'anna'\npassword_hash = '{hash}'\n\
         [[dataset]]\nname = 'backups'\nevery = '1h'\nkeep = {{ daily = 14 }}\n\
         [[dataset]]\nname = 'server-1'\nsize = '500GB'\n\
         [head_office]\naddress = '{at}'\ncode = '{code}'\n\
         [line]\nrate = '20Mbit'\n[settings]\n'scrub.every' = '14d'\n"
    );
    fs::write(path, text).expect("written");
}

#[test]
fn a_file_sets_up_a_box_without_a_screen() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = data_folder(folder.path(), "hub");
    let _hub = Served::start(&hub);
    let data = with_page(folder.path());
    let file = folder.path().join("setup.toml");
    write_file(&file, &hub);
    let served = Served::start_with(&data, |command| {
        command.arg("--setup").arg(&file);
    });
    until("it is set up", || is_set_up(&served));
    let state = facts(&data, &["setup", "show"]);
    let parts: Vec<String> =
        state["outcomes"].as_array().expect("a list").iter().map(|part| text(&part["part"])).collect();
    assert_eq!(parts, ["settings", "dataset", "dataset", "head_office", "copies", "line", "administrator"], "{state}");
    assert!(state["outcomes"].as_array().expect("a list").iter().all(|part| part["problem"].is_null()), "{state}");
    let status = facts(&data, &["status"]);
    assert_eq!((text(&status["name"]), status["datasets"].as_array().map(Vec::len)), ("office-ulm".into(), Some(2)));
    // Anna signs in; nobody has to claim it, and nobody can.
    let mut browser = Browser::new(address(&data));
    let form = browser.get("/sign-in");
    let entered = browser.submit(&form, "/sign-in", &[("user", "anna"), ("password", GOOD), ("code", "")]);
    assert!(follow(&mut browser, &entered).body.contains("backups"));
    // What she deletes stays deleted, although the box starts with the same file again.
    facts(&data, &["dataset", "delete", "server-1"]);
    facts(&data, &["restart"]);
    until("it has started again", || starts(&served) == 3);
    until("it answers", || served.ask::<Status>(&Request::Status).is_ok());
    assert_eq!(facts(&data, &["dataset", "list"]).as_array().map(Vec::len), Some(1));
    assert!(!served.log().contains(GOOD));
}
