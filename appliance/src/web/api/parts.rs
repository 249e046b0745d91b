//! Lists in parts: `limit` entries, and a `cursor` for what comes behind them.
//!
//! A cursor is the key of the last entry that was shown. So what is added or removed meanwhile neither repeats an entry nor hides one, and nothing
//! is kept here between two requests.

use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::table::{Order, Shape};

/// Entries in one answer where nothing is said.
pub(super) const LIMIT: u32 = 100;
/// And at most.
pub(super) const LIMIT_MAX: u32 = 1000;
/// What stands between the fields of a key, before every byte that a name can have.
const BETWEEN: char = '\0';

/// Which part is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub limit: u32,
    /// The key of the entry behind which it begins, or what else somebody gives for one.
    pub after: Option<Vec<u8>>,
}

impl Part {
    /// All of a list, as far as one answer goes.
    pub(super) fn whole() -> Part {
        Part { limit: LIMIT, after: None }
    }

    /// Takes it out of the pairs of a query.
    pub(super) fn take(pairs: &mut Vec<(String, String)>, shape: Shape) -> Result<Part, Problem> {
        let mut take = |name: &str| {
            let at = pairs.iter().position(|(found, _)| found == name)?;
            Some(pairs.remove(at).1)
        };
        let wrong = || Problem::bad("limit", format!("limit is a whole number from 1 to {LIMIT_MAX}"));
        let limit = match take("limit") {
            None => LIMIT,
            Some(text) => text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(wrong)?,
        };
        let is_numbered = matches!(shape, Shape::Numbered(_));
        let after = match take("cursor") {
            None => None,
            Some(text) if is_numbered => Some(text.into_bytes()),
            Some(text) => Some(read(&text).ok_or_else(|| Problem::bad("cursor", "this cursor is none of this box"))?),
        };
        let part = Part { limit, after: after.filter(|after| !after.is_empty()) };
        if is_numbered {
            part.number()?;
        }
        Ok(part)
    }

    /// The number that the cursor of a numbered list is.
    pub(super) fn number(&self) -> Result<Option<u64>, Problem> {
        let digits = |after: &Vec<u8>| std::str::from_utf8(after).ok()?.parse().ok();
        let wrong = || Problem::bad("cursor", "this cursor is not of this list");
        self.after.as_ref().map(|after| digits(after).ok_or_else(wrong)).transpose()
    }
}

/// The part of a report that was asked for.
pub(super) fn shown(report: Value, shape: Shape, part: &Part) -> Value {
    match (shape, report) {
        (Shape::List(order), Value::Array(entries)) => {
            let (items, next) = cut(entries, order, part);
            json!({ "items": items, "next": next })
        }
        (Shape::Holds(field, order), Value::Object(mut report)) => {
            if let Some(Value::Array(entries)) = report.get_mut(field).map(Value::take) {
                let (items, next) = cut(entries, order, part);
                report.insert(field.to_owned(), Value::Array(items));
                report.insert("next".to_owned(), json!(next));
            }
            Value::Object(report)
        }
        (Shape::Numbered(field), Value::Array(items)) => {
            let last = items.last().filter(|_| items.len() >= part.limit as usize);
            // Number 0 is the first of all.
            let next = last.and_then(|last| last[field].as_u64()).filter(|number| *number > 0);
            json!({ "next": next.map(|number| number.to_string()), "items": items })
        }
        (_, report) => report,
    }
}

fn cut(entries: Vec<Value>, order: Order, part: &Part) -> (Vec<Value>, Option<String>) {
    let mut keyed: Vec<(String, Value)> = entries.into_iter().map(|entry| (key(&entry, order), entry)).collect();
    keyed.sort_by(|(one, _), (other, _)| if order.backwards { other.cmp(one) } else { one.cmp(other) });
    let is_behind = |key: &str| match &part.after {
        None => true,
        Some(after) if order.backwards => key.as_bytes() < after.as_slice(),
        Some(after) => key.as_bytes() > after.as_slice(),
    };
    keyed.retain(|(key, _)| is_behind(key));
    let limit = part.limit as usize;
    let next = keyed.get(limit - 1).filter(|_| keyed.len() > limit).map(|(key, _)| written(key));
    keyed.truncate(limit);
    (keyed.into_iter().map(|(_, entry)| entry).collect(), next)
}

/// What an entry is found by. Numbers stand in it so that they are in their order as text.
fn key(entry: &Value, order: Order) -> String {
    let field = |name: &&str| match &entry[*name] {
        Value::String(text) => text.clone(),
        Value::Number(number) => format!("{:020}", number.as_u64().unwrap_or_default()),
        _ => String::new(),
    };
    order.by.iter().map(field).collect::<Vec<_>>().join(&BETWEEN.to_string())
}

/// A key as a cursor: digits, so that nobody takes it for more than it is.
fn written(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read(cursor: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        cursor.bytes().map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// What a cursor looks like.
pub(super) fn pattern(shape: Shape) -> &'static str {
    if matches!(shape, Shape::Numbered(_)) { "^[0-9]{0,18}$" } else { "^([0-9a-f]{2})*$" }
}

/// The one entry of a list in which a field is what was asked for.
pub(super) fn one(report: Value, field: &str, wanted: &str) -> Option<Value> {
    let Value::Array(entries) = report else { return None };
    entries.into_iter().find(|entry| entry[field] == wanted)
}

/// The schema of a page of a list.
pub(super) fn schema(report: &Value, shape: Shape, defined: &Map<String, Value>) -> Value {
    let next = json!({
        "type": ["string", "null"],
        "description": "What is to be given as `cursor` for what comes behind; null where nothing does."
    });
    match shape {
        Shape::List(_) | Shape::Numbered(_) => json!({
            "type": "object",
            "required": ["items", "next"],
            "properties": { "items": report, "next": next }
        }),
        Shape::Holds(..) => json!({
            "allOf": [report, { "type": "object", "required": ["next"], "properties": { "next": next } }]
        }),
        Shape::One(..) => resolved(report, defined)["items"].clone(),
        Shape::Whole => report.clone(),
    }
}

/// A schema where only its name stands.
fn resolved<'a>(schema: &'a Value, defined: &'a Map<String, Value>) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    name.and_then(|name| defined.get(name)).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_NAME: Order = Order { by: &["name"], backwards: false };

    fn names(page: &Value) -> Vec<&str> {
        page["items"].as_array().expect("a list").iter().filter_map(|item| item["name"].as_str()).collect()
    }

    const LIST: Shape = Shape::List(BY_NAME);

    fn part(limit: u32, page: &Value) -> Part {
        part_of(limit, page, LIST)
    }

    fn part_of(limit: u32, page: &Value, shape: Shape) -> Part {
        let mut pairs = vec![("limit".into(), limit.to_string())];
        pairs.extend(page["next"].as_str().map(|next| ("cursor".into(), next.to_owned())));
        Part::take(&mut pairs, shape).expect("a part")
    }

    #[test]
    fn each_entry_is_shown_once_whatever_changes_meanwhile() {
        let list = |names: &[&str]| Value::from_iter(names.iter().map(|name| json!({ "name": name })));
        let first = shown(list(&["d", "a", "c", "b", "e"]), Shape::List(BY_NAME), &part(2, &Value::Null));
        assert_eq!(names(&first), ["a", "b"]);
        // The last that was shown is gone, and something was added before it and behind it.
        let second = shown(list(&["d", "a", "aa", "c", "e", "cc"]), Shape::List(BY_NAME), &part(2, &first));
        assert_eq!(names(&second), ["c", "cc"]);
        let third = shown(list(&["d", "e"]), Shape::List(BY_NAME), &part(2, &second));
        assert_eq!((names(&third), &third["next"]), (vec!["d", "e"], &Value::Null), "the last page says so");
    }

    #[test]
    fn numbers_come_in_their_order_and_backwards_too() {
        let order = Order { by: &["id"], backwards: true };
        let list = || json!([{ "id": 9, "name": "n" }, { "id": 10, "name": "t" }, { "id": 1, "name": "o" }]);
        let first = shown(list(), Shape::List(order), &part(2, &Value::Null));
        assert_eq!(names(&first), ["t", "n"]);
        assert_eq!(names(&shown(list(), Shape::List(order), &part(2, &first))), ["o"]);
    }

    #[test]
    fn a_report_may_hold_a_list_and_a_list_may_be_numbered() {
        let held = json!({ "from": "x", "changes": [{ "name": "b" }, { "name": "a" }] });
        let first = shown(held, Shape::Holds("changes", BY_NAME), &part(1, &Value::Null));
        assert_eq!((&first["from"], &first["changes"]), (&json!("x"), &json!([{ "name": "a" }])));
        assert!(first["next"].is_string());
        let first = shown(json!([{ "n": 8 }, { "n": 7 }]), Shape::Numbered("n"), &part(2, &Value::Null));
        assert_eq!(part_of(2, &first, Shape::Numbered("n")).number().expect("a number"), Some(7));
        let last = shown(json!([{ "n": 1 }]), Shape::Numbered("n"), &part_of(2, &first, Shape::Numbered("n")));
        assert_eq!(last["next"], Value::Null);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for (name, value) in
            [("cursor", "xyz"), ("cursor", "abc"), ("limit", "0"), ("limit", "1001"), ("limit", "many")]
        {
            let problem = Part::take(&mut vec![(name.into(), value.into())], LIST).expect_err("no part");
            assert_eq!((problem.status(), problem.field.as_deref()), (400, Some(name)), "{value}");
        }
        let key = "office\0日本";
        assert_eq!(read(&written(key)).as_deref(), Some(key.as_bytes()));
        let odd = Part::take(&mut vec![("cursor".into(), "ff".into())], LIST).expect("behind everything");
        assert_eq!(shown(json!([{ "name": "a" }]), LIST, &odd), json!({ "items": [], "next": null }));
        assert!(
            Part::take(&mut vec![("cursor".into(), "6f".into())], Shape::Numbered("n")).is_err(),
            "of another list"
        );
    }
}
