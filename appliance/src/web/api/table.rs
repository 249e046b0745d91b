//! What an operation is: one row of the table that both the router and the document are made from.

use std::collections::BTreeMap;

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::{Problem, Sort};
use crate::accounts::Role;
use crate::control::Request;
use crate::control::door::Ask;

/// What a row makes of its input.
type Make = dyn Fn(&Place, Value) -> Result<Ask, Problem> + Send + Sync;

/// An operation.
pub(super) struct Operation {
    /// Its name, which programs are generated with.
    pub id: &'static str,
    pub method: Method,
    /// Below `/api/v1`, with parameters in braces; `{id}` is a number.
    pub path: &'static str,
    /// The role that is needed. The box decides by its own table, which says the same.
    pub role: Role,
    /// A sentence.
    pub summary: &'static str,
    /// The status where it was done.
    pub done: u16,
    /// How the report is shown.
    pub shape: Shape,
    /// What is taken: of the query for GET and DELETE, else of the body.
    pub input: fn(&mut SchemaGenerator) -> Schema,
    /// What the box answers with.
    pub report: fn(&mut SchemaGenerator) -> Schema,
    make: Box<Make>,
}

/// How a report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As it is.
    Whole,
    /// It is a list, and shown in pages.
    List(Order),
    /// It holds a list in a field of this name, of which a page is shown.
    Holds(&'static str, Order),
    /// It is a list that the box itself gives in parts: the newest first, behind a number.
    Numbered(&'static str),
    /// It is a list, of which the one is shown whose field is what the parameter of the path says.
    One(&'static str, &'static str),
}

/// In which order a list is shown: by fields that together are of one entry alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub by: &'static [&'static str],
    /// The last first.
    pub backwards: bool,
}

/// Takes nothing.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// What a row of the table makes of a request.
pub(super) trait Made {
    fn made(self) -> Result<Ask, Problem>;
}

impl Made for Request {
    fn made(self) -> Result<Ask, Problem> {
        Ok(Ask::Box { request: self })
    }
}

impl Made for Ask {
    fn made(self) -> Result<Ask, Problem> {
        Ok(self)
    }
}

impl Made for Result<Request, Problem> {
    fn made(self) -> Result<Ask, Problem> {
        self.and_then(Request::made)
    }
}

impl Operation {
    /// One that takes an `I`, makes of it what `make` says, and is answered by an `R`.
    pub(super) fn new<I, R, M>(
        id: &'static str,
        method: Method,
        path: &'static str,
        role: Role,
        summary: &'static str,
        make: fn(&Place, I) -> M,
    ) -> Operation
    where
        I: DeserializeOwned + JsonSchema + 'static,
        R: JsonSchema,
        M: Made + 'static,
    {
        let make = move |place: &Place, input: Value| {
            let input = serde_json::from_value(input)
                .map_err(|error| Problem::of(Sort::BadRequest, format!("this does not fit: {error}")))?;
            make(place, input).made()
        };
        Operation {
            id,
            method,
            path,
            role,
            summary,
            done: 200,
            shape: Shape::Whole,
            input: |generator| generator.subschema_for::<I>(),
            report: |generator| generator.subschema_for::<R>(),
            make: Box::new(make),
        }
    }

    /// It makes something that was not there.
    pub(super) fn creates(self) -> Operation {
        Operation { done: 201, ..self }
    }

    /// How its report is shown.
    pub(super) fn shown(self, shape: Shape) -> Operation {
        Operation { shape, ..self }
    }

    /// Shows a list in the order of these fields.
    pub(super) fn list(self, by: &'static [&'static str]) -> Operation {
        self.shown(Shape::List(Order { by, backwards: false }))
    }

    /// What is asked of the box.
    pub(super) fn make(&self, place: &Place, input: Value) -> Result<Ask, Problem> {
        (self.make)(place, input)
    }

    /// Whether its input comes with the address.
    pub(super) fn takes_query(&self) -> bool {
        self.method == Method::GET || self.method == Method::DELETE
    }

    /// Whether it shows a part of a list.
    pub(super) fn has_pages(&self) -> bool {
        matches!(self.shape, Shape::List(_) | Shape::Holds(..) | Shape::Numbered(_))
    }

    /// The names of the parameters of its path.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(parameter)
    }

    /// What the parameters of its path are in another path; nothing where that is not its path.
    pub(super) fn matches(&self, path: &[String]) -> Option<Place> {
        let own: Vec<&'static str> = self.path.split('/').skip(1).collect();
        let mut place = Place::default();
        if own.len() != path.len() {
            return None;
        }
        for (own, part) in own.into_iter().zip(path) {
            match parameter(own) {
                Some(_) if part.is_empty() => return None,
                Some(name) => drop(place.0.insert(name, part.clone())),
                None if own == part => {}
                None => return None,
            }
        }
        Some(place)
    }
}

fn parameter(part: &'static str) -> Option<&'static str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

/// The parameters of a path.
#[derive(Debug, Default)]
pub(super) struct Place(BTreeMap<&'static str, String>);

impl Place {
    /// One of them.
    pub(super) fn text(&self, name: &str) -> String {
        debug_assert!(self.0.contains_key(name), "no path with a {name}");
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// `DATASET@SNAPSHOT`.
    pub(super) fn snapshot(&self) -> String {
        self.of_dataset(&self.text("snapshot"))
    }

    /// Something of the dataset, behind an `@`.
    pub(super) fn of_dataset(&self, what: &str) -> String {
        format!("{}@{what}", self.text("dataset"))
    }

    /// The number that `{id}` is.
    pub(super) fn number(&self) -> Result<u64, Problem> {
        self.text("id").parse().map_err(|_| Problem::bad("id", "the last part of this address is a number"))
    }

    /// Refuses what can be no name where one is meant.
    pub(super) fn check(&self) -> Result<(), Problem> {
        for (name, value) in &self.0 {
            // Behind an @ of its own, a dataset would be another one's snapshot.
            if *name == "dataset" && value.contains('@') {
                return Err(Problem::of(Sort::Missing, format!("{value} is no name of a dataset")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Vec<String> {
        path.split('/').skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn a_path_is_matched_part_by_part() {
        let operation = Operation::new::<Nothing, (), Request>(
            "test",
            Method::GET,
            "/datasets/{dataset}/snapshots/{snapshot}",
            Role::Viewer,
            "",
            |_, Nothing {}| Request::Status,
        );
        let place = operation.matches(&parts("/datasets/office/snapshots/2026 a@b")).expect("its path");
        assert_eq!(place.snapshot(), "office@2026 a@b");
        assert!(place.check().is_ok());
        assert_eq!(operation.parameters().collect::<Vec<_>>(), ["dataset", "snapshot"]);
        for other in
            ["/datasets", "/datasets/office/snapshots", "/datasets/office/plans/x", "/datasets/a/snapshots/b/c"]
        {
            assert!(operation.matches(&parts(other)).is_none(), "{other}");
        }
        let place = operation.matches(&parts("/datasets/a@b/snapshots/c")).expect("its path");
        assert_eq!(place.check().map_err(|problem| problem.status()), Err(404));
    }
}
