//! The namespace over a plain map: against a model, against the expectations of a conformance suite, damaged, and
//! against its format page.

mod damage;
mod model;
mod page;
mod posix;
mod random;
mod shell;
mod table;

use super::key;
