//! `notice`.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::show::table;
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{NoticeTold, NoticeTried, NoticeWay, Notices};
use crate::units::duration;

#[derive(Subcommand)]
pub(super) enum NoticeCommand {
    /// What was told lately, what is wrong now, and how each way to tell it does.
    List {
        /// So many notices, the newest.
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    /// See whether notices arrive: tells something that means nothing, and says what the other side said.
    ///
    /// It ends with 1 where one of them did not take it. What waits for a way that failed is told at once after a test that went well.
    Test {
        /// By one way alone [default: by all that the config has].
        #[arg(long, value_enum)]
        way: Option<CliWay>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum CliWay {
    Mail,
    Webhook,
    Syslog,
}

impl CliWay {
    fn name(self) -> &'static str {
        match self {
            CliWay::Mail => "mail",
            CliWay::Webhook => "webhook",
            CliWay::Syslog => "syslog",
        }
    }
}

pub(super) fn notice(context: &Context, command: NoticeCommand) -> Outcome {
    match command {
        NoticeCommand::List { limit } => {
            if let Some(notices) = context.ask::<Notices>(&Request::NoticeList)? {
                show(&notices, limit);
            }
            Ok(ExitCode::SUCCESS)
        }
        NoticeCommand::Test { way } => {
            let request = Request::NoticeTest { way: way.map(|way| way.name().into()) };
            let tried =
                context.ask_and_show::<Vec<NoticeTried>>(&request, |tried| tried.iter().for_each(show_tried))?;
            let arrived = tried.iter().all(|tried| tried.arrived);
            Ok(if arrived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn show_tried(tried: &NoticeTried) {
    match &tried.error {
        None => say!("{}: taken by {}", tried.way, tried.target),
        Some(why) => say!("{}: NOT taken by {}: {why}", tried.way, tried.target),
    }
}

fn show(notices: &Notices, limit: usize) {
    if notices.ways.is_empty() {
        say!(
            "Nobody is told anything: [notices.mail], [notices.webhook] or [notices.syslog] in the config file says who is."
        );
        say!("What would have been told stands below, and in the log of the program.");
    } else {
        table(&["WAY", "TELLS", "LAST", "STATE"], &notices.ways.iter().map(row).collect::<Vec<_>>());
    }
    let (after, remind) = (duration(notices.after_seconds as f64), duration(notices.remind_seconds as f64));
    say!(
        "A problem that lasts {after} is told, and again after {remind}; {} notices an hour at most.",
        notices.per_hour
    );
    if let Some(since) = &notices.held_since {
        say!("NOTICE  there were so many that the rest waits since {since}");
    }
    for open in &notices.open {
        let told = if open.told { "told" } else { "not told yet" };
        say!("  wrong since {} ({told}): {}", open.since, open.what);
    }
    for told in notices.notices.iter().take(limit) {
        show_told(told);
    }
}

fn row(way: &NoticeWay) -> Vec<String> {
    let state = match (&way.error, &way.failing_since, way.waiting) {
        (Some(why), Some(since), waiting) => {
            format!("FAILING since {since} ({} tries, {waiting} waiting): {why}", way.tries)
        }
        (_, _, 0) => "well".into(),
        (_, _, waiting) => format!("{waiting} waiting"),
    };
    let told = way.told.clone().unwrap_or_else(|| "never".into());
    vec![way.way.clone(), way.target.clone().unwrap_or_default(), told, state]
}

fn show_told(told: &NoticeTold) {
    say!("\nnotice {} at {}", told.n, told.at);
    for item in &told.items {
        say!("  {}  {}", item.word, item.what);
        if !item.remedy.is_empty() {
            say!("      {}", item.remedy);
        }
    }
    if told.more > 0 {
        say!("  and {} more", told.more);
    }
    if let Some(since) = &told.held_since {
        say!("  some of it waited since {since}, because as many notices as an hour may have had been made");
    }
}
