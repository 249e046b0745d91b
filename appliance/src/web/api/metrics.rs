//! `/metrics`: the status as Prometheus reads it. `docs/metrics.md` has the same table, and a test that both say the same; a name that was there once
//! never means anything else.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::Response;

use super::problem::Problem;
use super::{Asker, asker_of, no_method};
use crate::control::door::Ask;
use crate::control::reports::Status;
use crate::control::{Failed, Request as BoxRequest};
use crate::web::pages::Web;

/// The media type of what Prometheus reads.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A name, and where its values come from.
struct Metric {
    name: &'static str,
    /// "gauge" or "counter".
    kind: &'static str,
    help: &'static str,
    values: fn(&Status, &mut Values<'_>),
}

/// Where values go.
struct Values<'a> {
    name: &'static str,
    text: &'a mut String,
}

/// What can be the value of a metric.
trait Number {
    fn written(self) -> String;
}

impl Number for u64 {
    fn written(self) -> String {
        self.to_string()
    }
}

impl Number for usize {
    fn written(self) -> String {
        self.to_string()
    }
}

impl Number for f64 {
    fn written(self) -> String {
        self.to_string()
    }
}

impl Number for bool {
    fn written(self) -> String {
        u8::from(self).to_string()
    }
}

impl Values<'_> {
    /// A value of the box.
    fn own(&mut self, value: impl Number) {
        self.of(&[], value);
    }

    /// A value where there is one.
    fn some(&mut self, value: Option<impl Number>) {
        if let Some(value) = value {
            self.own(value);
        }
    }

    /// A value of something.
    fn of(&mut self, labels: &[(&str, &str)], value: impl Number) {
        let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "{}{labels} {}", self.name, value.written());
    }
}

/// The text of a label (Prometheus text format 0.0.4).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

const fn gauge(name: &'static str, help: &'static str, values: fn(&Status, &mut Values<'_>)) -> Metric {
    Metric { name, kind: "gauge", help, values }
}

const fn counter(name: &'static str, help: &'static str, values: fn(&Status, &mut Values<'_>)) -> Metric {
    Metric { name, kind: "counter", help, values }
}

/// All of them.
const ALL: [Metric; 43] = [
    gauge("narrowboat_info", "1, with what runs where.", |status, values| {
        let labels = [("name", &status.name[..]), ("version", &status.version), ("store", &status.store)];
        values.of(&labels, 1_u64);
    }),
    gauge(
        "narrowboat_status_age_seconds",
        "How old the other figures are; 0 unless the disk does not answer.",
        |status, values| {
            values.own(status.age_seconds.unwrap_or_default());
        },
    ),
    gauge("narrowboat_logical_bytes", "What clients see: the sum of all datasets now.", |status, values| {
        values.own(status.logical_bytes)
    }),
    gauge("narrowboat_protected_bytes", "The same over all snapshots.", |status, values| {
        values.own(status.protected_bytes)
    }),
    gauge("narrowboat_unique_bytes", "What is left after deduplication.", |status, values| {
        values.own(status.unique_bytes)
    }),
    gauge("narrowboat_stored_bytes", "What is left after compression.", |status, values| {
        values.own(status.stored_bytes)
    }),
    gauge("narrowboat_folder_bytes", "What the data folder holds, all in all.", |status, values| {
        values.own(status.folder_bytes)
    }),
    gauge("narrowboat_index_bytes", "The index.", |status, values| values.own(status.index_bytes)),
    gauge("narrowboat_journal_bytes", "The journal.", |status, values| values.own(status.journal_bytes)),
    gauge("narrowboat_history_bytes", "What was split off the journal for windows.", |status, values| {
        values.own(status.history_bytes)
    }),
    gauge("narrowboat_overlay_bytes", "Memory of data that waits for the drain.", |status, values| {
        values.own(status.overlay_bytes)
    }),
    gauge("narrowboat_objects", "Chunks and tree nodes.", |status, values| values.own(status.objects)),
    gauge("narrowboat_containers", "Containers.", |status, values| values.own(status.containers)),
    gauge("narrowboat_damaged_objects", "Objects that are known to be damaged.", |status, values| {
        values.own(status.damaged_objects)
    }),
    gauge("narrowboat_disk_bytes", "The size of the disk.", |status, values| values.own(status.disk_bytes)),
    gauge("narrowboat_disk_free_bytes", "What is free of it.", |status, values| values.own(status.disk_free_bytes)),
    gauge(
        "narrowboat_disk_full",
        "1 where so little is free that writes are refused, or will be soon.",
        |status, values| values.own(status.full),
    ),
    counter(
        "narrowboat_disk_faults_total",
        "Operations that failed as on no sound disk, since the box was started.",
        |status, values| values.own(status.disk.faults),
    ),
    gauge(
        "narrowboat_disk_waiting_seconds",
        "For how long the disk has not answered an operation; 0 where it answers.",
        |status, values| {
            values.own(status.disk.waits.as_ref().map_or(0.0, |wait| wait.seconds));
        },
    ),
    gauge("narrowboat_disk_slow", "1 where the disk is slow.", |status, values| values.own(status.disk.slow.is_some())),
    gauge(
        "narrowboat_disk_stopped",
        "1 where nothing is written any more until the box is restarted.",
        |status, values| values.own(status.disk.stopped.is_some()),
    ),
    gauge("narrowboat_drain_stalled", "1 where the last step of the drain failed.", |status, values| {
        values.own(status.stalled.is_some())
    }),
    gauge("narrowboat_array_disks", "Disks that the array is made of, where there is one.", |status, values| {
        values.some(status.array.as_ref().map(|array| u64::from(array.disks)));
    }),
    gauge("narrowboat_array_degraded_disks", "Of these, missing or not rebuilt yet.", |status, values| {
        values.some(status.array.as_ref().map(|array| u64::from(array.degraded)));
    }),
    gauge("narrowboat_quarantine_datasets", "Deleted datasets that can be had back.", |status, values| {
        values.own(status.quarantine.datasets)
    }),
    gauge("narrowboat_quarantine_snapshots", "Deleted snapshots that can be had back.", |status, values| {
        values.own(status.quarantine.snapshots)
    }),
    gauge(
        "narrowboat_reclaim_end_time_seconds",
        "When the last run of reclaim ended, in seconds since 1970.",
        |status, values| {
            values.some(status.reclaim.as_ref().map(|reclaim| reclaim.ended_nanoseconds as f64 / 1e9));
        },
    ),
    gauge("narrowboat_reclaim_freed_bytes", "What the last run of reclaim gave back.", |status, values| {
        values.some(status.reclaim.as_ref().map(|reclaim| reclaim.freed_bytes));
    }),
    gauge(
        "narrowboat_owed_thaws",
        "Applications that may stand still, for nobody could thaw them.",
        |status, values| values.own(status.owed_thaws.len()),
    ),
    gauge("narrowboat_dataset_logical_bytes", "The sum of file lengths; a volume's size.", |status, values| {
        status.datasets.iter().for_each(|of| values.of(&[("dataset", &of.name), ("kind", &of.kind)], of.logical_bytes));
    }),
    gauge("narrowboat_dataset_snapshots", "Snapshots of a dataset.", |status, values| {
        status.datasets.iter().for_each(|of| values.of(&[("dataset", &of.name)], of.snapshots));
    }),
    gauge("narrowboat_dataset_damaged", "1 where a dataset can't be served or counted.", |status, values| {
        status.datasets.iter().for_each(|of| values.of(&[("dataset", &of.name)], of.damage.is_some()));
    }),
    gauge("narrowboat_peer_connected", "1 where a peer is connected.", |status, values| {
        status.peers.iter().for_each(|of| values.of(&[("peer", &of.name)], of.connected_from.is_some()));
    }),
    gauge(
        "narrowboat_peer_round_trip_seconds",
        "The round trip to a peer, while it is connected.",
        |status, values| {
            let known = status.peers.iter().filter_map(|of| Some((of, of.round_trip_ms?)));
            known.for_each(|(of, round_trip)| values.of(&[("peer", &of.name)], round_trip / 1e3));
        },
    ),
    counter(
        "narrowboat_peer_sent_bytes_total",
        "Bytes on the wire to a peer, since the box was started.",
        |status, values| {
            status.peers.iter().for_each(|of| values.of(&[("peer", &of.name)], of.wire_bytes_sent));
        },
    ),
    counter(
        "narrowboat_peer_received_bytes_total",
        "Bytes on the wire from a peer, since the box was started.",
        |status, values| {
            status.peers.iter().for_each(|of| values.of(&[("peer", &of.name)], of.wire_bytes_received));
        },
    ),
    gauge(
        "narrowboat_peer_limit_bits_per_second",
        "The cap of what is sent to a peer, where there is one.",
        |status, values| {
            let known = status.peers.iter().filter_map(|of| Some((of, of.limit?)));
            known.for_each(|(of, limit)| values.of(&[("peer", &of.name)], limit));
        },
    ),
    counter(
        "narrowboat_peer_refusals_total",
        "How often a peer was refused something, as far as that is kept.",
        |status, values| {
            status.peers.iter().for_each(|of| values.of(&[("peer", &of.name)], of.refusals));
        },
    ),
    gauge(
        "narrowboat_peer_behind_seconds",
        "The age of the newest moment of a dataset that a peer has whole.",
        |status, values| {
            for of in &status.peers {
                of.lag.iter().for_each(|lag| values.of(&[("peer", &of.name), ("dataset", &lag.dataset)], lag.seconds));
            }
        },
    ),
    gauge(
        "narrowboat_peer_behind_snapshots",
        "Newer snapshots of a dataset that a peer does not have.",
        |status, values| {
            for of in &status.peers {
                of.lag
                    .iter()
                    .for_each(|lag| values.of(&[("peer", &of.name), ("dataset", &lag.dataset)], lag.snapshots_behind));
            }
        },
    ),
    gauge(
        "narrowboat_plan_failing",
        "1 where the last sending of a plan failed and none has succeeded since.",
        |status, values| {
            let plans = status.plans.iter();
            plans.for_each(|of| values.of(&[("dataset", &of.dataset), ("peer", &of.peer)], of.error.is_some()));
        },
    ),
    gauge("narrowboat_plan_paused", "1 where somebody has paused a plan.", |status, values| {
        let plans = status.plans.iter();
        plans.for_each(|of| values.of(&[("dataset", &of.dataset), ("peer", &of.peer)], of.state == "paused"));
    }),
    gauge("narrowboat_replications_running", "Replications that are under way.", |status, values| {
        values.own(status.replications.iter().filter(|of| of.state == "running").count());
    }),
];

/// The status, a line a value.
fn text(status: &Status) -> String {
    let mut text = String::new();
    for metric in &ALL {
        // Writing to a string can't fail.
        let _ =
            writeln!(text, "# HELP {} {}\n# TYPE {} {}", metric.name, escaped(metric.help), metric.name, metric.kind);
        (metric.values)(status, &mut Values { name: metric.name, text: &mut text });
    }
    text
}

/// Answers whoever watches with a viewer's token.
pub(super) async fn answer(State(web): State<Arc<Web>>, request: Request) -> Response {
    match answered(&web, &request.into_parts().0).await {
        Ok(response) => response,
        Err(problem) => problem.response(),
    }
}

async fn answered(web: &Web, head: &Parts) -> Result<Response, Problem> {
    if !matches!(head.method.as_str(), "GET" | "HEAD") {
        return Err(no_method(["GET"].into_iter()));
    }
    let asker: Asker<'_> = asker_of(web, &head.headers, &head.extensions)?;
    let _place = web.api.enter(&asker.token)?;
    let report = asker.ask(Ask::Box { request: BoxRequest::Status }, None).await?;
    let status: Status = serde_json::from_value(report)
        .map_err(|error| Failed::environment(format!("the box answered something else: {error}")))?;
    let mut response = Response::new(Body::from(text(&status)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reports::Peer;

    #[test]
    fn names_are_written_so_that_they_end_where_they_do() {
        let peer = Peer { name: "a\\b\"c\nd".into(), wire_bytes_sent: u64::MAX, ..Peer::default() };
        let text = text(&Status { peers: vec![peer], ..Status::default() });
        let line = r#"narrowboat_peer_sent_bytes_total{peer="a\\b\"c\nd"} 18446744073709551615"#;
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("narrowboat_array_disks")), "there is no array");
    }

    #[test]
    fn names_end_with_their_unit_and_counters_with_total() {
        for metric in &ALL {
            assert!(metric.name.starts_with("narrowboat_"));
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
        }
    }

    /// The page has a row for each metric, and no other.
    #[test]
    fn the_page_says_what_is_served() {
        let page = include_str!("../../../../docs/metrics.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `narrowboat_")).collect();
        let told = |metric: &Metric| format!("| `{}` | {} |", metric.name, metric.kind);
        for (row, metric) in rows.iter().zip(&ALL) {
            assert!(row.starts_with(&told(metric)) && row.contains(metric.help), "{row}: {}", told(metric));
        }
        assert_eq!(rows.len(), ALL.len());
    }

    /// The dashboard asks for nothing that is not served.
    #[test]
    fn the_dashboard_asks_for_what_is_served() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../../docs/grafana/narrowboat.json")).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        let asked: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
        assert!(asked.len() >= panels.len() / 2 && panels.len() > 5);
        for expression in asked {
            let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            let names: Vec<&str> = words.filter(|word| word.starts_with("narrowboat_")).collect();
            assert!(!names.is_empty(), "{expression}");
            for name in names {
                assert!(ALL.iter().any(|metric| metric.name == name), "{name} in {expression}");
            }
        }
    }
}
