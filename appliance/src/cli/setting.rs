//! `setting` and `restart`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::show::table;
use super::{Context, Outcome};
use crate::config::settings::{Kind, Setting};
use crate::control::reports::{Acknowledged, Settings};
use crate::control::{Failed, Request};

#[derive(Subcommand)]
pub(super) enum SettingCommand {
    /// List all settings that can be changed here, and what the config file says of each.
    List,
    /// Change settings in the config file; comments and all else in it stay. They count from the next start on (`narrowboat restart`).
    ///
    /// Lists are written with commas: `narrowboat setting set nfs.allow=192.168.7.0/24,10.0.0.0/8 share.films.read_only=true`. Nothing is changed where one of
    /// them makes no sense.
    Set {
        /// KEY=VALUE, one or several.
        #[arg(required = true, value_name = "KEY=VALUE")]
        changes: Vec<String>,
    },
    /// Take settings out of the config file, so that the default counts.
    Unset {
        /// Which.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

pub(super) fn setting(context: &Context, command: SettingCommand) -> Outcome {
    match command {
        SettingCommand::List => {
            if let Some(settings) = context.ask::<Settings>(&Request::SettingList)? {
                show(&settings);
            }
        }
        SettingCommand::Set { changes } => {
            let known = known(context)?;
            let changes = changes.iter().map(|change| parse(change, &known)).collect::<Result<_, _>>()?;
            change(context, changes)?;
        }
        SettingCommand::Unset { keys } => change(context, keys.into_iter().map(|key| (key, None)).collect())?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restart(context: &Context) -> Outcome {
    if let Some(done) = context.ask::<Acknowledged>(&Request::Restart)? {
        say!("{}", done.message);
    }
    Ok(ExitCode::SUCCESS)
}

fn change(context: &Context, changes: BTreeMap<String, Option<Value>>) -> Result<(), Failed> {
    if let Some(done) = context.ask::<Acknowledged>(&Request::SettingSet { changes })? {
        say!("{}", done.message);
    }
    Ok(())
}

/// What each setting takes, whatever is to be printed.
fn known(context: &Context) -> Result<Vec<Setting>, Failed> {
    let quiet = Context { data: context.data.clone(), json: false };
    Ok(quiet.ask::<Settings>(&Request::SettingList)?.map(|settings| settings.settings).unwrap_or_default())
}

fn parse(change: &str, known: &[Setting]) -> Result<(String, Option<Value>), Failed> {
    let Some((key, text)) = change.split_once('=') else {
        return Err(Failed::refused(format!("{change:?}: expected KEY=VALUE")));
    };
    let kind = known.iter().find(|setting| setting.key == key).map(|setting| setting.kind);
    let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let value = match kind.unwrap_or_else(|| kind_of_rule(key)) {
        Kind::Text => Value::from(text),
        Kind::Flag => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Number => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        Kind::List => words().collect(),
    };
    Ok((key.to_owned(), Some(value)))
}

/// Rules of single shares and volumes are only listed where there are some: they take what those of all take.
fn kind_of_rule(key: &str) -> Kind {
    match key.rsplit_once('.').map(|(_, last)| last) {
        Some("root_squash" | "read_only") => Kind::Flag,
        Some("allow" | "initiators") => Kind::List,
        _ => Kind::Text,
    }
}

fn show(settings: &Settings) {
    let value = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    let row = |setting: &Setting| {
        vec![setting.key.clone(), setting.value.as_ref().map_or("(default)".into(), value), setting.means.clone()]
    };
    table(&["KEY", "VALUE", "MEANS"], &settings.settings.iter().map(row).collect::<Vec<_>>());
    if settings.pending {
        say!("NOTICE  the config file was changed since the box was started: `narrowboat restart` has that count");
    }
}
