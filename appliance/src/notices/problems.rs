//! What of a status is worth a notice: the problems that the page shows, and ways of notices that fail.

use super::core::{Seen, Severity};
use super::text::plain;
use crate::control::reports::Status;
use crate::web::{Mark, problems};

/// All that is wrong. What of it is one thing in several sentences is one.
pub(super) fn seen(status: &Status) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for problem in problems(status).into_iter().filter(|problem| problem.mark >= Mark::Warn) {
        let about = if problem.name.is_empty() { String::new() } else { format!("{}: ", problem.name) };
        let what = plain(&format!("{about}{}", problem.what));
        match all.iter_mut().find(|seen| seen.key == problem.key) {
            Some(seen) => seen.what = format!("{} {what}", seen.what),
            None => all.push(Seen {
                once: problem.key.starts_with("only-here/"),
                key: plain(&problem.key),
                severity: if problem.mark == Mark::Bad { Severity::Problem } else { Severity::Warning },
                what,
                remedy: plain(&problem.remedy),
            }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::reports::NoticeWay;

    #[test]
    fn what_the_page_shows_is_told_and_names_of_others_are_only_names() {
        let dataset = |name: &str| {
            json!({
                "name": name, "id": "00", "kind": "share", "dedup": "inline", "read_only": false, "origin": null, "created": "",
                "logical_bytes": 0, "used_bytes": null, "files": 0, "directories": 0, "snapshots": 0, "newest_snapshot": null, "export": null,
                "target": null, "lun": null, "damage": null, "window": null, "deferred": null
            })
        };
        let of = |name| serde_json::from_value(dataset(name)).expect("a dataset");
        let status = Status {
            full: true,
            datasets: vec![of("films"), of("x\r\nBcc: all@example.org\u{202e}")],
            ..Status::default()
        };
        let all = seen(&status);
        let keys: Vec<_> = all.iter().map(|seen| (seen.key.as_str(), seen.severity, seen.once)).collect();
        assert_eq!(
            keys,
            [
                ("disk-full", Severity::Problem, false),
                ("only-here/films", Severity::Warning, true),
                ("only-here/x Bcc: all@example.org", Severity::Warning, true),
            ]
        );
        assert!(all.iter().all(|seen| !seen.what.contains(char::is_control) && !seen.what.contains('\u{202e}')));
        let failing =
            NoticeWay { way: "mail".into(), error: Some("nobody listens there".into()), ..NoticeWay::default() };
        let status = Status { notices: vec![failing, NoticeWay::default()], ..Status::default() };
        let all = seen(&status);
        assert_eq!((all.len(), all[0].key.as_str()), (1, "notices/mail"));
    }
}
