//! What a request brings: of its query or its body, held against the schema of its operation, so that what is wrong is told by its field.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::problem::{Problem, Sort};

/// Longest body, in bytes: with the longest path it is still no longer than what goes through the door.
pub(super) const BODY_BYTES_MAX: usize = 32 << 10;
/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(20);

/// The body as it came, for what is JSON or nothing at all.
pub(super) async fn body(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let bytes = match timeout(BODY, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            return Err(Problem::of(Sort::TooLarge, format!("a body has at most {BODY_BYTES_MAX} bytes")));
        }
        Err(_) => return Err(Problem::of(Sort::TooSlow, "the body did not arrive in time")),
    };
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    if kind.is_some_and(|kind| !is_json(kind)) || (kind.is_none() && !bytes.is_empty()) {
        return Err(Problem::of(Sort::NotJson, "a body is sent as application/json"));
    }
    Ok(bytes.into())
}

fn is_json(kind: &str) -> bool {
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// The fields of a body. None at all is what an empty object is.
pub(super) fn of_body(bytes: &[u8], schema: &Value) -> Result<Value, Problem> {
    if bytes.is_empty() {
        return checked(Map::new(), schema);
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => checked(fields, schema),
        Ok(_) => Err(Problem::of(Sort::BadRequest, "the body is a JSON object")),
        Err(error) => Err(Problem::of(Sort::BadRequest, format!("the body is no JSON: {error}"))),
    }
}

/// Pairs of a query, each name once.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    for (at, (name, _)) in pairs.iter().enumerate() {
        if pairs[..at].iter().any(|(before, _)| before == name) {
            return Err(Problem::bad(name, format!("{name} is there twice")));
        }
    }
    Ok(pairs)
}

/// The fields of a query, which are text: what the schema takes for a number or a truth is read as one.
pub(super) fn of_query(pairs: Vec<(String, String)>, schema: &Value) -> Result<Value, Problem> {
    let mut fields = Map::new();
    for (name, text) in pairs {
        let property = &schema["properties"][&name];
        let value = if takes(property, "boolean") {
            Value::Bool(text.parse().map_err(|_| Problem::bad(&name, format!("{name} is true or false")))?)
        } else if takes(property, "integer") {
            Value::from(text.parse::<u64>().map_err(|_| Problem::bad(&name, format!("{name} is a whole number")))?)
        } else {
            Value::String(text)
        };
        fields.insert(name, value);
    }
    checked(fields, schema)
}

/// Whether a property may be of a type.
fn takes(property: &Value, kind: &str) -> bool {
    match &property["type"] {
        Value::String(own) => own == kind,
        Value::Array(own) => own.iter().any(|own| own == kind),
        _ => false,
    }
}

/// Looks for what serde would only tell without the field's name: what is missing, unknown, or of another type.
fn checked(mut fields: Map<String, Value>, schema: &Value) -> Result<Value, Problem> {
    let needed = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in needed {
        if !fields.contains_key(name) {
            return Err(Problem::bad(name, format!("{name} is missing")));
        }
    }
    for (name, value) in &mut fields {
        let Some(property) = schema["properties"].get(name) else {
            return Err(Problem::bad(name, format!("there is no field {name} here")));
        };
        if let Some(whole) = whole(value).filter(|_| takes(property, "integer")) {
            *value = whole;
        }
        if !fits(value, property) {
            return Err(Problem::bad(name, format!("{name} is {}", meant(property))));
        }
    }
    Ok(Value::Object(fields))
}

/// A whole number that is written with a fraction of nought: an integer for JSON Schema, and not for serde.
fn whole(value: &Value) -> Option<Value> {
    /// Beyond this, such numbers have gaps.
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    let number = value.as_f64().filter(|_| value.is_f64())?;
    (number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number)).then(|| Value::from(number as u64))
}

/// Whether a value is what its own schema says, as far down as that says it plainly.
fn fits(value: &Value, schema: &Value) -> bool {
    if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        return choices.iter().any(|choice| fits(value, choice));
    }
    if let Some(own) = schema.get("const") {
        return own == value;
    }
    if let Some(own) = schema.get("enum").and_then(Value::as_array) {
        return own.contains(value);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let typed = schema.get("type").is_none() || takes(schema, kind) || (kind == "integer" && takes(schema, "number"));
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let within = value.as_f64().is_none_or(|number| {
        bound("minimum").is_none_or(|least| number >= least) && bound("maximum").is_none_or(|most| number <= most)
    });
    let all = value
        .as_array()
        .is_none_or(|values| values.iter().all(|value| schema.get("items").is_none_or(|items| fits(value, items))));
    typed && within && all
}

/// What a field takes, in words.
fn meant(property: &Value) -> String {
    if let Some(choices) = property.get("anyOf").or_else(|| property.get("oneOf")).and_then(Value::as_array) {
        return choices.iter().map(meant).collect::<Vec<_>>().join(" or ");
    }
    if let Some(own) = property.get("const") {
        return own.to_string();
    }
    if let Some(own) = property.get("enum").and_then(Value::as_array) {
        return own.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
    }
    let kinds: Vec<&str> = match &property["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut meant = kinds.join(" or ");
    for (name, word) in [("minimum", "at least"), ("maximum", "at most")] {
        if let Some(bound) = property.get(name) {
            meant += &format!(", {word} {bound}");
        }
    }
    meant
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({ "type": "object", "required": ["name"], "properties": {
            "name": { "type": "string" },
            "size": { "type": ["integer", "null"], "minimum": 0, "maximum": 1000 },
            "off": { "type": "boolean" },
            "kind": { "oneOf": [{ "const": "share" }, { "const": "volume" }] },
            "all": { "type": "array", "items": { "type": "string" } }
        } })
    }

    fn wrong(outcome: Result<Value, Problem>) -> (u16, Option<String>) {
        let problem = outcome.expect_err("it does not fit");
        (problem.status(), problem.field)
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_field() {
        let cases = [
            (r#"{}"#, Some("name")),
            ("", Some("name")),
            (r#"{"name":1}"#, Some("name")),
            (r#"{"name":"a","size":-1}"#, Some("size")),
            (r#"{"name":"a","size":1001}"#, Some("size")),
            (r#"{"name":"a","size":1.5}"#, Some("size")),
            (r#"{"name":"a","kind":"other"}"#, Some("kind")),
            (r#"{"name":"a","all":[1]}"#, Some("all")),
            (r#"{"name":"a","nmae":"b"}"#, Some("nmae")),
            ("[]", None),
            ("{\"name\":", None),
            ("\u{fffd}", None),
        ];
        for (body, field) in cases {
            assert_eq!(wrong(of_body(body.as_bytes(), &schema())), (400, field.map(str::to_owned)), "{body}");
        }
        let whole = of_body(br#"{"name":"a","size":7.0}"#, &schema()).expect("it fits");
        assert_eq!(whole, json!({ "name": "a", "size": 7 }));
        let good = json!({ "name": "a", "size": null, "kind": "volume", "all": ["b"] });
        assert_eq!(of_body(good.to_string().as_bytes(), &schema()).expect("it fits"), good);
    }

    #[test]
    fn a_query_holds_numbers_and_truths() {
        let read = |query: &str| of_query(pairs(query)?, &schema());
        assert_eq!(
            read("name=a+b%26&size=7&off=true").expect("it fits"),
            json!({ "name": "a b&", "size": 7, "off": true })
        );
        for (query, field) in
            [("name=a&name=b", "name"), ("name=a&size=x", "size"), ("name=a&off=1", "off"), ("off=true", "name")]
        {
            assert_eq!(wrong(read(query)), (400, Some(field.into())), "{query}");
        }
    }

    #[test]
    fn a_media_type_may_have_parameters() {
        assert!(is_json("application/json") && is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("text/plain") && !is_json("application/jsonx") && !is_json(""));
    }
}
