//! Which limits count now, and why, in sentences.

use crate::control::reports::{CaughtUp, ExplainedPeer, Limit};
use crate::web::show;

/// What counts of one limit, until when, and what then.
pub(super) fn of_limit(limit: &Limit, whose: &str) -> String {
    let now = show::cap(&limit.limit);
    let until = limit.until.as_deref().map(show::when);
    let then = until.map(|until| format!(" until {until}, then: {}", show::cap(&limit.then))).unwrap_or_default();
    match (limit.reason.as_str(), &limit.rule) {
        ("override", _) => format!("{whose}: {now}. It was set by hand{then}."),
        ("rule", Some(rule)) => format!("{whose}: {now}. So says the calendar ({rule}){then}."),
        _ if limit.calendar.is_empty() => format!("{whose}: {now}, at any time."),
        _ => format!("{whose}: {now}. The calendar says nothing now{then}."),
    }
}

/// All that bounds what is sent to a peer, and what follows from it.
pub(super) fn of_peer(peer: &ExplainedPeer, whole: &Limit) -> Vec<String> {
    let mut says = vec![of_limit(&peer.cap, "Its own limit")];
    if whole.limit.is_some() || !whole.calendar.is_empty() {
        says.push(of_limit(whole, "The box as a whole"));
    }
    if let Some(granted) = &peer.granted {
        says.push(format!("It lets itself be sent {}.", show::rate(granted)));
    }
    if let Some(recovery) = &peer.recovery {
        let by = show::when(&recovery.deadline);
        says.push(match (recovery.misses_bytes, &recovery.pace) {
            (0, Some(pace)) => format!(
                "What it lacks has to be there by {by}: {} is enough for that, so no more is sent.",
                show::rate(pace)
            ),
            (0, None) => format!("What it lacks has to be there by {by}: that takes all that is allowed."),
            (misses, _) => {
                format!("What it lacks has to be there by {by}, and {} of it will not be.", show::size(&misses))
            }
        });
    }
    says.push(match &peer.in_force {
        Some(bits) => format!("The lowest counts: {}.", show::cap(&Some(*bits))),
        None => "So nothing bounds what is sent but the line.".into(),
    });
    if let Some(line) = &peer.line {
        says.push(format!("The line was seen to take {} at most.", show::rate(line)));
    }
    if !peer.behind.is_empty() {
        let under_way = if peer.under_way == 0 { " Nothing is on its way to it now." } else { "" };
        says.push(format!(
            "It lacks the newest of {}: {} at most.{under_way}",
            peer.behind.join(", "),
            show::size(&peer.left_bytes)
        ));
    }
    says.push(caught_up(&peer.caught_up));
    says
}

/// When a peer will have caught up.
pub(super) fn caught_up(answer: &CaughtUp) -> String {
    match answer {
        CaughtUp::Now => "It has everything.".into(),
        CaughtUp::At { time, .. } => format!("It will have caught up by {}.", show::when(time)),
        CaughtUp::Never => "It will never catch up at these limits.".into(),
        CaughtUp::After { time } => format!("It will not have caught up before {}.", show::when(time)),
        CaughtUp::Unknown { .. } => {
            "When it will have caught up is not known: no limit bounds the line, and it was not measured.".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reports::Recovery;

    #[test]
    fn every_answer_is_said_in_words() {
        let plain = Limit { reason: "rate".into(), limit: Some(20_000_000), ..Limit::default() };
        assert_eq!(of_limit(&plain, "Its own limit"), "Its own limit: 20.00 Mbit/s, at any time.");
        let by_hand = Limit {
            reason: "override".into(),
            limit: Some(0),
            until: Some("2026-11-23T18:00:00Z".into()),
            then: None,
            ..Limit::default()
        };
        assert_eq!(
            of_limit(&by_hand, "The box"),
            "The box: paused. It was set by hand until 23 Nov 2026, 18:00, then: no limit."
        );
        let ruled = Limit {
            reason: "rule".into(),
            rule: Some("mon 08:00-18:00 4Mbit".into()),
            limit: Some(4_000_000),
            ..by_hand.clone()
        };
        assert!(of_limit(&ruled, "x").contains("So says the calendar (mon 08:00-18:00 4Mbit) until"));
        let peer = ExplainedPeer {
            cap: plain.clone(),
            received: None,
            granted: Some(5_000_000),
            receiving: 0,
            in_force: Some(1_000_000),
            recovery: Some(Recovery {
                seconds: 86_400,
                deadline: "2026-11-24T12:00:00Z".into(),
                pace: Some(1_000_000),
                misses_bytes: 0,
            }),
            line: Some(8_000_000),
            sending: 0,
            behind: vec!["office".into()],
            under_way: 0,
            left_bytes: 1 << 20,
            caught_up: CaughtUp::Never,
        };
        let says = of_peer(&peer, &by_hand).join(" ");
        for said in [
            "Its own limit: 20.00 Mbit/s",
            "The box as a whole: paused",
            "lets itself be sent 5.00 Mbit/s",
            "1.00 Mbit/s is enough",
            "The lowest counts: 1.00 Mbit/s",
            "take 8.00 Mbit/s",
            "lacks the newest of office: 1.00 MiB",
            "Nothing is on its way",
            "never catch up",
        ] {
            assert!(says.contains(said), "{said}: {says}");
        }
        let none = ExplainedPeer { in_force: None, recovery: None, behind: vec![], ..peer };
        assert!(
            of_peer(&none, &Limit { reason: "rate".into(), ..Limit::default() }).join(" ").contains("nothing bounds")
        );
    }
}
