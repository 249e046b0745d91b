//! `replicate` and `replication`: sending by hand, what is being sent, and why it took what it took.

use std::process::ExitCode;

use clap::Subcommand;

use super::show::{size, table};
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{Acknowledged, Choices, Replication};
use crate::units::{bit_rate, duration};

#[derive(Subcommand)]
pub(super) enum ReplicationCommand {
    /// List what is being sent, and the last that ended.
    List,
    /// Show one: what it moved, what it chose by itself, and why.
    Show {
        /// Its number in the list.
        number: u64,
    },
    /// Stop sending one. What arrived stays at the peer; sent again, it goes on there.
    Cancel {
        /// Its number in the list.
        number: u64,
    },
}

/// What is to be sent by hand, and how.
pub(super) struct Asked {
    pub source: String,
    pub peer: String,
    pub class: String,
    pub wait: bool,
    pub explain: bool,
}

pub(super) fn replicate(context: &Context, asked: Asked) -> Outcome {
    let Asked { source, peer, class, wait, explain } = asked;
    let request = Request::Replicate { source, peer, wait: wait || explain, class: Some(class) };
    if let Some(report) = context.ask::<Replication>(&request)? {
        show(&report);
        if explain {
            say!("");
            explanation(&report).iter().for_each(|line| say!("{line}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn replication(context: &Context, command: ReplicationCommand) -> Outcome {
    match command {
        ReplicationCommand::List => {
            if let Some(list) = context.ask::<Vec<Replication>>(&Request::ReplicationList)? {
                show_list(&list);
            }
        }
        ReplicationCommand::Show { number } => {
            if let Some(report) = context.ask::<Replication>(&Request::ReplicationShow { id: number })? {
                show(&report);
                say!("");
                explanation(&report).iter().for_each(|line| say!("{line}"));
            }
        }
        ReplicationCommand::Cancel { number } => {
            if let Some(done) = context.ask::<Acknowledged>(&Request::ReplicationCancel { id: number })? {
                say!("{}", done.message);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_list(list: &[Replication]) {
    let row = |sent: &Replication| {
        vec![
            sent.id.to_string(),
            sent.snapshot.clone(),
            sent.peer.clone(),
            sent.class.clone(),
            sent.state.clone(),
            size(sent.wire_bytes_sent),
            sent.begun.clone(),
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    table(&["NUMBER", "SNAPSHOT", "TO", "CLASS", "STATE", "SENT", "BEGUN"], &rows);
    for (sent, trouble) in list.iter().filter_map(|sent| Some((sent, sent.trouble.as_ref()?))) {
        say!("{} to {} was interrupted, and is tried again: {trouble}", sent.snapshot, sent.peer);
    }
}

fn show(report: &Replication) {
    match report.state.as_str() {
        "done" => say!("{} is at {}, whole and verified", report.snapshot, report.peer),
        "running" => {
            say!("{} is on its way to {}: `narrowboat status` shows how far it is", report.snapshot, report.peer);
            if let Some(trouble) = &report.trouble {
                say!("  interrupted   {trouble}; it is tried again and again");
            }
        }
        state => {
            let why = report.error.as_deref().unwrap_or("nothing is known of it");
            say!("{} did not get to {}: {state}, {why}", report.snapshot, report.peer);
        }
    }
    if report.wire_bytes_sent == 0 {
        return;
    }
    say!("  snapshot      {}", size(report.logical_bytes));
    say!(
        "  chunks        {} offered, {} known, {} sent",
        report.chunks.offered,
        report.chunks.known,
        report.chunks.sent
    );
    say!("  tree nodes    {} offered, {} known, {} sent", report.nodes.offered, report.nodes.known, report.nodes.sent);
    say!(
        "  payload       {} ({} as stored, {} before compression)",
        size(report.payload_bytes),
        size(report.stored_bytes),
        size(report.raw_bytes)
    );
    if report.differences > 0 {
        say!("  differences   {} objects were sent as their difference from what the peer has", report.differences);
    }
    say!("  on the wire   {} there, {} back", size(report.wire_bytes_sent), size(report.wire_bytes_received));
    say!(
        "  time          {}, highest second {}",
        duration(report.seconds),
        bit_rate(report.peak_bits_per_second as f64)
    );
    if report.state == "done" {
        let root = report.root.clone().unwrap_or_else(|| "none (empty)".into());
        say!("  root          {root}, {}", if report.proved { "equal at both ends" } else { "NOT PROVED" });
    }
}

/// What was chosen, and why, a sentence a line.
fn explanation(report: &Replication) -> Vec<String> {
    let chosen = &report.choices;
    let mut lines = vec!["What was chosen, and why:".to_owned()];
    lines.push(format!("  questions     {}", questions(report, chosen)));
    lines.push(format!("  packing       {}", packing(chosen)));
    if report.raw_bytes > 0 {
        lines.push(format!("                {}", levels(report)));
    }
    if chosen.incompressible_bytes > 0 {
        let bytes = size(chosen.incompressible_bytes);
        lines.push(format!("                {bytes} went as they are: packing made them no smaller"));
    }
    lines.push(format!("  differences   {}", differences(report, chosen)));
    lines
}

fn questions(report: &Replication, chosen: &Choices) -> String {
    let asked = report.chunks.offered + report.nodes.offered;
    let skipped = report.shared;
    match (&chosen.base, chosen.unasked) {
        (None, _) => {
            format!("{asked} names were asked: the peer has no earlier snapshot of this dataset to build upon")
        }
        (Some(_), true) => format!(
            "the ledger knows what the peer had proved to have, so what is newer was sent unasked; {asked} older names were \
             asked, {skipped} references skipped"
        ),
        (Some(_), false) => format!(
            "{asked} names were asked: the peer has an earlier snapshot, but this is a first copy by this box or goes on after a \
             break; {skipped} references that both share were skipped"
        ),
    }
}

fn packing(chosen: &Choices) -> String {
    let Choices { harder, easier, .. } = chosen;
    match (chosen.compression.as_str(), chosen.bundles) {
        (_, false) => "one by one, as stored: the peer's software takes no bundles".into(),
        ("stored", _) => {
            "as stored where nothing else is needed: the config file says `wan.compression = \"stored\"`".into()
        }
        ("adaptive" | "", _) => {
            let begun = match chosen.expected_bits_per_second {
                Some(bits) => format!("begun for a line of {}", bit_rate(bits as f64)),
                None => "begun without knowing the line".into(),
            };
            format!(
                "{begun}; harder {harder} times, when the line was what limited, and less hard {easier} times, when packing was"
            )
        }
        (level, _) => format!("at zstd level {level}, as the config file says"),
    }
}

fn levels(report: &Replication) -> String {
    let name = |level: i32| if level == 0 { "as stored".to_owned() } else { format!("zstd {level}") };
    let parts: Vec<String> =
        report.levels.iter().map(|(level, bytes)| format!("{} {}", size(*bytes), name(*level))).collect();
    parts.join(", ")
}

fn differences(report: &Replication, chosen: &Choices) -> String {
    match report.differences {
        _ if !chosen.delta => "none: the config file says `wan.delta = false`".into(),
        0 if chosen.base.is_none() => {
            "none: there is no earlier snapshot at the peer that they could be taken from".into()
        }
        0 => "none: nothing new lies in the place of something that the peer has".into(),
        count if chosen.resembling == 0 => {
            format!("{count} objects, against what lies in their place in the earlier snapshot at the peer")
        }
        count => format!(
            "{count} objects, against what lies in their place in the earlier snapshot at the peer, and what resembles them elsewhere \
             in it, which was found for {}",
            chosen.resembling
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(report: &Replication) -> String {
        explanation(report).join("\n")
    }

    #[test]
    fn each_choice_is_told_with_its_reason() {
        let mut report = Replication { raw_bytes: 5_000_000, differences: 7, shared: 30, ..Replication::default() };
        report.choices = Choices {
            compression: "adaptive".into(),
            delta: true,
            bundles: true,
            unasked: true,
            base: Some("one".into()),
            expected_bits_per_second: Some(2_000_000),
            harder: 3,
            ..Choices::default()
        };
        report.levels = [(0, 1_000_000), (12, 4_000_000)].into();
        let told = text(&report);
        for part in ["sent unasked", "30 references", "2.00 Mbit/s", "harder 3 times", "zstd 12", "7 objects"] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
        report.choices.resembling = 5;
        assert!(text(&report).contains("resembles them elsewhere in it, which was found for 5"));
        report.choices = Choices { compression: "9".into(), bundles: true, delta: false, ..Choices::default() };
        let told = text(&report);
        for part in ["no earlier snapshot", "zstd level 9, as the config file says", "wan.delta = false"] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
        report.choices.bundles = false;
        assert!(text(&report).contains("takes no bundles"));
    }
}
