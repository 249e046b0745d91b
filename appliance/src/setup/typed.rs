//! A set-up as it is typed on the page: texts by the names of fields. What is typed stays, whatever sense it makes; a [`SetUp`] is made of it when
//! somebody goes on.

use std::collections::BTreeMap;

use super::{Dataset, HeadOffice, Line, SetUp};
use crate::retention::Rules;

/// What was typed, by field.
pub type Typed = BTreeMap<String, String>;

/// What a dataset keeps if nobody says otherwise: two weeks by days, two months by weeks, a year by months.
pub const KEEP: Rules =
    Rules { last: 0, hourly: 24, daily: 14, weekly: 8, monthly: 12, yearly: 0, within: None, least: 0 };

/// The set-up that was typed. What is left empty is not said.
pub fn set_up(typed: &Typed) -> SetUp {
    let text = |field: &str| typed.get(field).map(|text| text.trim()).filter(|text| !text.is_empty());
    let owned = |field: &str| text(field).map(str::to_owned);
    SetUp {
        name: owned("name"),
        time_zone: owned("time_zone"),
        networks: text("networks").map(list).unwrap_or_default(),
        dataset: dataset(&text, &owned).into_iter().collect(),
        head_office: head_office(&owned),
        line: line(&text, &owned),
        ..SetUp::default()
    }
}

/// What is wrong with what was typed, by the name of its field on the page.
pub fn problems(typed: &Typed) -> BTreeMap<String, String> {
    let problems = set_up(typed).problems().into_iter();
    problems.map(|failed| (failed.field.unwrap_or_default().replace('.', "_"), failed.message)).collect()
}

/// Texts between commas, semicolons or spaces.
fn list(text: &str) -> Vec<String> {
    text.split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn dataset<'t>(text: &impl Fn(&str) -> Option<&'t str>, owned: &impl Fn(&str) -> Option<String>) -> Option<Dataset> {
    let volume = match text("dataset_kind")? {
        "share" => false,
        "volume" => true,
        _ => return None,
    };
    Some(Dataset {
        name: owned("dataset_name").unwrap_or_default(),
        // An empty one is refused beside its field.
        size: volume.then(|| owned("dataset_size").unwrap_or_else(|| "0".into())),
        dedup: owned("dataset_dedup"),
        every: owned("dataset_every").filter(|every| every != "never"),
        keep: (text("dataset_keep") == Some("usual")).then_some(KEEP),
    })
}

fn head_office(owned: &impl Fn(&str) -> Option<String>) -> Option<HeadOffice> {
    let (address, code) = (owned("head_office_address"), owned("head_office_code"));
    (address.is_some() || code.is_some())
        .then(|| HeadOffice { address: address.unwrap_or_default(), code: code.unwrap_or_default() })
}

fn line<'t>(text: &impl Fn(&str) -> Option<&'t str>, owned: &impl Fn(&str) -> Option<String>) -> Option<Line> {
    match text("line")? {
        "rate" => Some(Line { rate: Some(owned("line_rate").unwrap_or_default()), calendar: None }),
        "hours" => Some(Line { rate: owned("line_rate"), calendar: Some(owned("line_calendar").unwrap_or_default()) }),
        _ => None,
    }
}
