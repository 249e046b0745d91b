//! Assessment: which line an office needs, measured on its own data with nothing sent.
//!
//! A path is looked at again and again ([`scan`]) and kept in a store of the assessment's own ([`scratch`]); what each look would have put on the wire is
//! rehearsed with the real protocol ([`looks`], `narrowboat_wan::assess`) and written down as a row ([`spans`]). [`answer`] replays the rows against lines, and [`report`] shows what came of it.
//! Decision 41 says why.

pub mod answer;
pub mod looks;
pub mod report;
pub mod run;
pub mod scan;
pub mod scratch;
pub mod spans;
