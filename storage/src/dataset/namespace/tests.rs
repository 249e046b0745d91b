//! The namespace over a plain map: against a model, against the expectations of a conformance suite, damaged, and
//! against its format page.

mod model;
mod random;
mod table;

use super::key;
