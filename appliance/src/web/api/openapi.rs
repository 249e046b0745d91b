//! The document of the interface (OpenAPI 3.1), made from the same table as the router: what is not in it is not served.

use std::sync::OnceLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::{MEDIA_TYPE, Sent, Sort};
use super::table::Operation;
use super::{BASE, parts, repeats, rows};

/// Where schemas with a name stand.
const NAMED: &str = "/components/schemas";

/// The document as it is sent.
pub(super) fn document() -> &'static [u8] {
    static DOCUMENT: OnceLock<Vec<u8>> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::to_vec_pretty(&made()).unwrap_or_default())
}

/// What an operation takes, whole in itself.
pub(super) fn input(operation: &Operation) -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = (operation.input)(&mut SchemaGenerator::new(settings)).to_value();
    bound(&mut schema);
    // Whatever serde would pass over: a field that is not known is a mistake.
    schema["additionalProperties"] = Value::Bool(false);
    schema
}

fn made() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = NAMED.into();
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings);
    generator.subschema_for::<Sent<'_>>();
    let reports: Vec<Value> = rows().iter().map(|row| (row.operation.report)(&mut generator).to_value()).collect();
    let mut named = Value::Object(generator.take_definitions(true));
    bound(&mut named);
    let named = named.as_object().cloned().unwrap_or_default();
    let mut paths = Map::new();
    for (row, report) in rows().iter().zip(&reports) {
        let answer = parts::schema(report, row.operation.shape, &named);
        let path = paths.entry(row.operation.path).or_insert_with(|| json!({}));
        path[row.operation.method.as_str().to_lowercase()] = operation(&row.operation, &row.input, &answer);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Narrowboat",
            "version": "1",
            "description": "What the command line asks of a box, for programs. A token of the page proves who asks.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": BASE }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": named,
            "responses": problems(),
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of the page, `narrowboat_…`. It may do what its role may."
            } }
        }
    })
}

fn operation(operation: &Operation, input: &Value, answer: &Value) -> Value {
    let mut responses = json!({
        operation.done.to_string(): {
            "description": if operation.done == 201 { "It was made." } else { "It was done." },
            "content": { "application/json": { "schema": answer } }
        }
    });
    for sort in Sort::ALL.into_iter().filter(|sort| concerns(*sort, operation)) {
        let status = sort.status().to_string();
        responses[&status] = json!({ "$ref": format!("#/components/responses/{status}") });
    }
    let tag = operation.path.split('/').nth(1).unwrap_or_default();
    let role = operation.role.name();
    let mut described = json!({
        "operationId": operation.id,
        "tags": [tag],
        "summary": operation.summary,
        "description": format!("Needs the role {role}."),
        "x-narrowboat-role": role,
        "parameters": parameters(operation, input),
        "responses": responses
    });
    if !operation.takes_query() {
        let is_needed = input["required"].as_array().is_some_and(|required| !required.is_empty());
        described["requestBody"] =
            json!({ "required": is_needed, "content": { "application/json": { "schema": input } } });
    }
    described
}

fn parameters(operation: &Operation, input: &Value) -> Vec<Value> {
    let of_path = |name: &'static str| {
        let schema = match name {
            "id" => json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
            _ => json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    };
    let mut all: Vec<Value> = operation.parameters().map(of_path).collect();
    if operation.takes_query() {
        let needed = |name: &String| input["required"].as_array().is_some_and(|all| all.iter().any(|own| own == name));
        for (name, schema) in input["properties"].as_object().into_iter().flatten() {
            all.push(json!({ "name": name, "in": "query", "required": needed(name), "schema": schema,
                "description": schema["description"] }));
        }
    }
    if operation.has_pages() {
        all.push(json!({ "name": "limit", "in": "query", "description": "Entries in the answer, at most.",
            "schema": { "type": "integer", "minimum": 1, "maximum": parts::LIMIT_MAX, "default": parts::LIMIT } }));
        all.push(json!({ "name": "cursor", "in": "query", "description": "What the answer before gave as `next`.",
            "schema": { "type": "string", "pattern": parts::pattern(operation.shape) } }));
    }
    if operation.method == axum::http::Method::POST {
        let means = "A word that is new for each request. Sent again with the same word within a day, the request is not done again: its answer is.";
        all.push(json!({ "name": "Idempotency-Key", "in": "header", "description": means,
            "schema": { "type": "string", "pattern": "^[!-~]{1,255}$" } }));
    }
    debug_assert!(repeats::HEADER.eq_ignore_ascii_case("Idempotency-Key"));
    all
}

/// Whether a sort of problem can be one of an operation.
fn concerns(sort: Sort, operation: &Operation) -> bool {
    match sort {
        // Of addresses that are none of these.
        Sort::NoOperation | Sort::NoMethod => false,
        Sort::TooSlow | Sort::TooLarge | Sort::NotJson => !operation.takes_query(),
        _ => true,
    }
}

/// A description of each status that is a problem.
fn problems() -> Value {
    let mut all = Map::new();
    for sort in Sort::ALL {
        let status = sort.status().to_string();
        let one = format!("`{}`: {}", sort.urn(), sort.title());
        let known = all.entry(status).or_insert_with(|| {
            json!({ "description": "", "content": { MEDIA_TYPE: { "schema": { "$ref": format!("#{NAMED}/Problem") } } } })
        });
        let before = known["description"].as_str().filter(|before| !before.is_empty());
        known["description"] = json!(before.map_or_else(|| one.clone(), |before| format!("{before}; {one}")));
        let header = |means: &str, kind: &str| json!({ "description": means, "schema": { "type": kind } });
        match sort {
            Sort::Unauthenticated => known["headers"]["WWW-Authenticate"] = header("`Bearer`.", "string"),
            Sort::TooMany | Sort::Busy => known["headers"]["Retry-After"] = header("Seconds.", "integer"),
            _ => {}
        }
    }
    Value::Object(all)
}

/// Says of numbers how large they may be, which their format alone does not say to most programs.
fn bound(schema: &mut Value) {
    if schema["type"] == "integer"
        || schema["type"].as_array().is_some_and(|own| own.iter().any(|own| own == "integer"))
    {
        let most = match schema["format"].as_str() {
            Some("uint8") => Some(u64::from(u8::MAX)),
            Some("uint16") => Some(u64::from(u16::MAX)),
            Some("uint32") => Some(u64::from(u32::MAX)),
            Some("uint64" | "uint") => Some(u64::MAX),
            _ => None,
        };
        if let (Some(most), Some(fields)) = (most, schema.as_object_mut()) {
            fields.entry("maximum").or_insert(json!(most));
        }
    }
    match schema {
        Value::Object(fields) => fields.values_mut().for_each(bound),
        Value::Array(items) => items.iter_mut().for_each(bound),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_is_described_once_and_every_name_is_found() {
        let document: Value = serde_json::from_slice(document()).expect("JSON");
        let described: usize =
            document["paths"].as_object().expect("paths").values().filter_map(Value::as_object).map(Map::len).sum();
        assert_eq!(described, rows().len());
        let ids: BTreeSet<&str> = rows().iter().map(|row| row.operation.id).collect();
        assert_eq!(ids.len(), rows().len(), "two operations have one name");
        let text = document.to_string();
        for used in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(used).is_some(), "{used}");
        }
        // Names that stand for two types get a number.
        let named = document["components"]["schemas"].as_object().expect("schemas");
        assert!(named.keys().all(|name| !name.ends_with(|last: char| last.is_ascii_digit())), "{:?}", named.keys());
        let list = &document["paths"]["/datasets"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(list["properties"]["items"]["items"]["$ref"], "#/components/schemas/Dataset");
        let one = &document["paths"]["/datasets/{dataset}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(one["$ref"], "#/components/schemas/Dataset");
    }

    #[test]
    fn the_role_of_each_operation_is_what_the_box_goes_by() {
        use crate::accounts::{Right, Role, right};
        use crate::control::door::Ask;
        for row in rows() {
            let path: Vec<String> =
                row.operation.path.split('/').skip(1).map(|part| part.replace("{id}", "7")).collect();
            let place = row.operation.matches(&path).expect("its own path");
            let ask = row.operation.make(&place, example(row.operation.id, &row.input));
            let ask = ask.unwrap_or_else(|problem| panic!("{}: {}", row.operation.id, problem.detail));
            let role = match &ask {
                Ask::Box { request } => right(request),
                _ => Right::Role(Role::Viewer),
            };
            assert_eq!(
                role,
                Right::Role(row.operation.role),
                "{}: {}",
                row.operation.id,
                serde_json::to_string(&ask).expect("JSON")
            );
        }
    }

    /// Something that fits.
    fn example(id: &str, input: &Value) -> Value {
        let mut fields = Map::new();
        for name in input["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let property = &input["properties"][name];
            let choice = ["oneOf", "anyOf"]
                .into_iter()
                .find_map(|word| property[word][0].get("const").or(property[word][0].get("enum").map(|all| &all[0])));
            let plain = match property["type"].as_str() {
                Some("integer") => json!(1),
                Some("array") => json!([]),
                Some("object") => json!({}),
                _ => json!("x"),
            };
            fields.insert(name.into(), choice.or(property["enum"].get(0)).cloned().unwrap_or(plain));
        }
        let one_of = match id {
            "setWindow" => Some(("seconds", json!(60))),
            "changeLimit" | "changePeerLimit" => Some(("rate", json!("1Mbit"))),
            _ => None,
        };
        fields.extend(one_of.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(fields)
    }
}
