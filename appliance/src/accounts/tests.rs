use std::net::Ipv6Addr;
use std::path::Path;

use super::*;
use crate::config::Config;
use crate::node::open_store;

const GOOD: &str = "Tram 12 smells of rye bread";
const BETTER: &str = "Nine blue ladders, one goat";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 7, 4));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 7, 5));

fn accounts(data: &Path) -> Accounts {
    let (store, _) = open_store(data, &Config::default()).expect("a sound folder");
    Accounts::new(Arc::new(store), "office-bonn".into())
}

/// A box of Anna's, and Anna.
fn claimed(data: &Path) -> (Accounts, Proof) {
    let accounts = accounts(data);
    let code = accounts.claim_code().expect("nobody has claimed it");
    let begun = accounts.claim(&code, "anna", GOOD, HERE).expect("the code is right");
    (accounts, Proof::Session(begun.session))
}

fn asker(accounts: &Accounts, proof: &Proof) -> Asker {
    accounts.asker(Some(proof), true).expect("signed in")
}

fn kind<T>(outcome: Result<T, Failed>) -> String {
    outcome.err().map_or("done".into(), |failed| failed.kind)
}

#[test]
fn the_claim_code_counts_once_and_the_owner_stays_over_restarts() {
    let data = tempfile::tempdir().expect("a folder");
    let code = accounts(data.path()).claim_code().expect("a new box");
    let first = accounts(data.path());
    assert_eq!(first.claim_code().as_ref(), Some(&code), "the same after a restart: it may be on a label");
    assert!(!first.claimed());
    let weak = first.claim(&code, "anna", "password", HERE).map(drop).expect_err("weak");
    assert_eq!(weak.field.as_deref(), Some("password"));
    assert!(first.claim(&code, "", GOOD, HERE).is_err_and(|failed| failed.field.as_deref() == Some("user")));
    let begun = first.claim(&code.to_lowercase().replace('-', " "), "anna", GOOD, HERE).expect("right");
    assert_eq!(begun.person.role, Role::Administrator);
    assert!(first.claim(&code, "mallory", GOOD, HERE).is_err() && first.claim_code().is_none());
    drop(first);
    let again = accounts(data.path());
    assert!(again.claimed() && again.claim_code().is_none());
    assert_eq!(
        kind(again.asker(Some(&Proof::Session(begun.session)), true)),
        "signed-out",
        "a restart signs everybody out"
    );
    again.sign_in("anna", GOOD, None, HERE).expect("her password stays");
}

#[test]
fn codes_are_not_guessed() {
    let data = tempfile::tempdir().expect("a folder");
    let accounts = accounts(data.path());
    let code = accounts.claim_code().expect("a new box");
    for nth in 0..6 {
        let from = IpAddr::V6(Ipv6Addr::from_bits(nth));
        assert_eq!(kind(accounts.claim("0000-0000-0000-0000", "anna", GOOD, from)), "refused");
    }
    assert_eq!(kind(accounts.claim("0000-0000-0000-0000", "anna", GOOD, HERE)), "wait");
    assert_eq!(kind(accounts.claim(&code, "anna", GOOD, HERE)), "wait", "nobody learns meanwhile which is right");
    assert!(!accounts.claimed());
}

#[test]
fn passwords_are_not_guessed_and_a_stranger_locks_nobody_out() {
    let data = tempfile::tempdir().expect("a folder");
    let (accounts, _) = claimed(data.path());
    let wrong = |user: &str, from| kind(accounts.sign_in(user, "wrong", None, from));
    let answers: Vec<String> = (0..7).map(|_| wrong("anna", THERE)).collect();
    assert_eq!(answers[..6], ["refused"; 6].map(str::to_owned));
    assert_eq!(answers[6], "wait");
    assert_eq!(kind(accounts.sign_in("anna", GOOD, None, THERE)), "wait", "from where it was guessed");
    accounts.sign_in("anna", GOOD, None, HERE).expect("from elsewhere");
    assert_eq!(wrong("nobody", THERE), "refused", "and users that there are not look the same");
    let said = |user: &str| accounts.sign_in(user, "wrong", None, HERE).map(drop).expect_err("wrong").message;
    assert_eq!(said("nobody"), said("anna"));
}

#[test]
fn who_tries_many_names_waits_too_and_who_waits_is_told_without_being_counted() {
    let data = tempfile::tempdir().expect("a folder");
    let (accounts, _) = claimed(data.path());
    for nth in 0..21 {
        assert_eq!(kind(accounts.sign_in(&format!("user {nth}"), "wrong", None, THERE)), "refused", "{nth}");
    }
    assert_eq!(kind(accounts.may_sign_in("somebody else", THERE)), "wait");
    assert_eq!(kind(accounts.sign_in("somebody else", "wrong", None, THERE)), "wait");
    assert_eq!(kind(accounts.may_sign_in("anna", HERE)), "done", "from elsewhere");
    accounts.sign_in("anna", GOOD, None, HERE).expect("her password");
}

#[test]
fn a_second_factor_is_asked_for_and_counts_once() {
    let data = tempfile::tempdir().expect("a folder");
    let (accounts, proof) = claimed(data.path());
    let anna = asker(&accounts, &proof);
    assert!(accounts.confirm_second_factor(&anna, "123456").is_err(), "nothing was offered");
    let offer = accounts.offer_second_factor(&anna).expect("offered");
    assert!(offer.url.contains(&offer.secret) && offer.url.contains("office-bonn"));
    assert!(accounts.confirm_second_factor(&anna, "12345").is_err());
    accounts.sign_in("anna", GOOD, None, HERE).expect("what was offered does not count yet");
    let code = now_shown(&offer.secret, 0);
    accounts.confirm_second_factor(&anna, &code).expect("right");
    assert!(accounts.whoami(&anna).expect("there").second_factor);
    let missing = accounts.sign_in("anna", GOOD, None, HERE).map(drop).expect_err("it is asked for");
    assert_eq!(missing.field.as_deref(), Some("code"));
    assert_eq!(kind(accounts.sign_in("anna", GOOD, Some(&code), HERE)), "refused", "it was used to confirm");
    accounts.sign_in("anna", GOOD, Some(&now_shown(&offer.secret, 30)), HERE).expect("the next one");
    assert!(accounts.remove_second_factor(&anna, "wrong", HERE).is_err());
    accounts.remove_second_factor(&anna, GOOD, HERE).expect("with the password");
    accounts.sign_in("anna", GOOD, None, HERE).expect("without it again");
}

/// What a telephone shows, so many seconds from now.
fn now_shown(secret: &str, seconds: u64) -> String {
    let now = u64::try_from(clock::wall().seconds()).expect("after 1970") + seconds;
    let right =
        |code: &u32| second_factor::step(secret, &format!("{code:06}"), now, Some(now / 30 - 1)) == Some(now / 30);
    format!("{:06}", (0..1_000_000).find(right).expect("one of them"))
}

#[test]
fn users_come_and_go_with_all_that_is_theirs() {
    let data = tempfile::tempdir().expect("a folder");
    let (accounts, proof) = claimed(data.path());
    assert!(accounts.remove_user("anna").is_err(), "the last administrator stays");
    for name in ["", " bert", "bert\u{202E}", "a\nb", "console", &"x".repeat(65)] {
        let failed = accounts.add_user(name, Role::Viewer, GOOD).expect_err(name);
        assert_eq!(failed.field.as_deref(), Some("user"), "{name:?}");
    }
    accounts.add_user("Бёрт 老师", Role::Operator, GOOD).expect("any script");
    assert!(accounts.add_user("Бёрт 老师", Role::Viewer, GOOD).is_err(), "once");
    let session = Proof::Session(accounts.sign_in("Бёрт 老师", GOOD, None, HERE).expect("he may").session);
    let bert = asker(&accounts, &session);
    let token = Proof::Token(accounts.add_token(&bert, "nagios", Role::Viewer, 30).expect("he may").token);
    assert_eq!(asker(&accounts, &token).role, Role::Viewer);
    assert_eq!(accounts.sessions(&bert, Some(&session)).len(), 1, "he sees his own");
    assert_eq!(accounts.sessions(&asker(&accounts, &proof), Some(&proof)).len(), 2);
    accounts.change_password(&bert, Some(&session), GOOD, BETTER, HERE).expect("he knows the old one");
    assert!(accounts.asker(Some(&session), true).is_ok(), "the session that changed it stays");
    accounts.reset_password("Бёрт 老师", GOOD).expect("at the console");
    assert_eq!(kind(accounts.asker(Some(&session), true)), "signed-out");
    assert_eq!(kind(accounts.asker(Some(&token), true)), "signed-out");
    accounts.remove_user("Бёрт 老师").expect("he is there");
    assert!(accounts.sign_in("Бёрт 老师", GOOD, None, HERE).is_err());
    assert_eq!(accounts.users().expect("readable").len(), 1);
}

#[test]
fn tokens_do_what_they_were_made_for_until_they_end() {
    let data = tempfile::tempdir().expect("a folder");
    let (accounts, proof) = claimed(data.path());
    let anna = asker(&accounts, &proof);
    accounts.add_user("bert", Role::Operator, GOOD).expect("room");
    let bert = Asker { user: "bert".into(), role: Role::Operator, by: "session".into() };
    assert!(
        accounts
            .add_token(&bert, "x", Role::Administrator, 1)
            .is_err_and(|failed| failed.field.as_deref() == Some("role"))
    );
    assert!(
        accounts.add_token(&anna, " ", Role::Viewer, 1).is_err()
            && accounts.add_token(&anna, "x", Role::Viewer, 0).is_err()
    );
    let made = accounts.add_token(&anna, "grafana", Role::Viewer, 2).expect("made");
    let found = asker(&accounts, &Proof::Token(made.token.clone()));
    assert_eq!((found.user.as_str(), found.role, found.by), ("anna", Role::Viewer, format!("token {}", made.id)));
    let mut other = made.token.clone();
    other.replace_range(made.token.len() - 1.., if made.token.ends_with('0') { "1" } else { "0" });
    for wrong in ["", "narrowboat_", &other, &made.token[..made.token.len() - 1]] {
        assert_eq!(kind(accounts.asker(Some(&Proof::Token(wrong.into())), true)), "signed-out");
    }
    let kept = accounts.lock().kept.clone().expect("readable");
    let day = 86_400_000_000_000;
    let at = |time: i64| {
        tokens::asker(&kept, &made.token, narrowboat_storage::units::Timestamp(clock::now().0 + time)).is_some()
    };
    assert!(at(day) && !at(2 * day));
    assert!(!serde_json::to_string(&kept.tokens[0].hash).expect("text").contains(&made.token), "it is not kept");
    assert!(accounts.remove_token(&bert, &made.id).is_err(), "it is not his");
    accounts.remove_token(&anna, &made.id).expect("hers");
    assert!(accounts.asker(Some(&Proof::Token(made.token)), true).is_err());
}

#[test]
fn a_setting_that_makes_no_sense_lets_nobody_in_and_is_not_written_over() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, _) = open_store(data.path(), &Config::default()).expect("a sound folder");
    store.set_setting("accounts", Some(b"{nonsense"), clock::now()).expect("room");
    let store = Arc::new(store);
    let accounts = Accounts::new(store.clone(), "box".into());
    assert!(accounts.claim_code().is_none() && !accounts.claimed());
    assert_eq!(kind(accounts.sign_in("anna", GOOD, None, HERE)), "damage");
    assert_eq!(kind(accounts.claim("0", "anna", GOOD, HERE)), "damage");
    assert_eq!(store.setting("accounts").as_deref(), Some(&b"{nonsense"[..]));
}
