//! A form as it was sent, with what is wrong with it: what comes back holds all that was typed, but secrets.

use super::show::Moment;
use crate::control::Failed;
use crate::units::{ByteSize, parse_duration};

/// The field with the token that shows where a form comes from.
pub(super) const TOKEN: &str = "form";
/// The name under which a problem of the whole form stands.
pub(super) const WHOLE: &str = "";

/// The field that says which of two moments is meant.
pub(super) const WHICH: &str = "which";

/// Values of fields, and a sentence for each that is wrong, in their order on the page.
#[derive(Clone, Default)]
pub(super) struct Form {
    values: Vec<(String, String)>,
    problems: Vec<(String, String)>,
    /// Of a moment that the clock showed twice: both, each with its offset.
    twice: Vec<(String, String)>,
    /// The token for the form when it is shown.
    pub token: String,
}

impl Form {
    /// One that nobody has filled in.
    pub(super) fn new(token: &str) -> Form {
        Form { token: token.to_owned(), ..Form::default() }
    }

    /// As it came. What is no UTF-8 shows as such.
    pub(super) fn read(body: &[u8]) -> Form {
        let pairs = form_urlencoded::parse(body).into_owned();
        let (tokens, values): (Vec<_>, Vec<_>) = pairs.partition(|(name, _)| name == TOKEN);
        Form {
            values,
            problems: Vec::new(),
            twice: Vec::new(),
            token: tokens.into_iter().next().map(|(_, token)| token).unwrap_or_default(),
        }
    }

    /// With a value that stands there from the beginning.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Form {
        self.values.push((name.to_owned(), value.into()));
        self
    }

    /// What a field holds, as it was typed; empty where it is missing.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// Whether the field was there, filled in or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(found, _)| found == name)
    }

    /// Whether something was typed into one of these, or is wrong with it.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| !self.text(name).is_empty() || self.problem(name).is_some())
    }

    /// The same without spaces around it.
    pub(super) fn text(&self, name: &str) -> &str {
        self.value(name).trim()
    }

    /// The same where there is anything.
    pub(super) fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Whether a field of a choice holds this value.
    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.value(name) == value
    }

    /// Notes what is wrong with a field. The first sentence counts.
    pub(super) fn wrong(&mut self, name: &str, sentence: impl Into<String>) {
        if self.problem(name).is_none() {
            self.problems.push((name.to_owned(), sentence.into()));
        }
    }

    /// What is needed: says so where it is empty.
    pub(super) fn needs(&mut self, name: &str, sentence: &str) -> String {
        let text = self.text(name).to_owned();
        if text.is_empty() {
            self.wrong(name, sentence);
        }
        text
    }

    /// A size in bytes that is needed, as in 500GB.
    pub(super) fn size(&mut self, name: &str, sentence: &str) -> Option<u64> {
        let text = self.needs(name, sentence);
        let read = text.replace(',', "").parse::<ByteSize>().map(|ByteSize(bytes)| bytes);
        self.understood(name, read)
    }

    /// A length of time in seconds that is needed, as in 30d.
    pub(super) fn length(&mut self, name: &str, sentence: &str) -> Option<u64> {
        let text = self.needs(name, sentence);
        let read =
            parse_duration(&text).and_then(|seconds| if seconds == 0 { Err(sentence.to_owned()) } else { Ok(seconds) });
        self.understood(name, read)
    }

    fn understood(&mut self, name: &str, read: Result<u64, String>) -> Option<u64> {
        read.map_err(|why| self.wrong(name, super::show::sentence(&why))).ok()
    }

    /// A moment by the clock on the wall, in RFC 3339. Of one that the clock showed twice it is asked which: the field behind it says so then.
    pub(super) fn moment(&mut self, name: &str, example: &str) -> Option<String> {
        let text = self.text(name).to_owned();
        match super::show::instant(&text) {
            Moment::At(moment) => return Some(moment),
            Moment::Twice(both) => {
                let [first, second] = both
                    .map(|(moment, offset)| if self.is(WHICH, &moment) { Ok(moment) } else { Err((moment, offset)) });
                match (first, second) {
                    (Ok(moment), _) | (_, Ok(moment)) => return Some(moment),
                    (Err(first), Err(second)) => {
                        self.twice = vec![first, second];
                        self.wrong(name, "The clock showed that twice, for it was set back: say which.");
                    }
                }
            }
            Moment::Never => self.wrong(name, "The clock never showed that: it was set forward over it."),
            Moment::No => self.wrong(name, example),
        }
        None
    }

    /// The two moments of which it is asked which, each with its offset.
    pub(super) fn twice(&self) -> &[(String, String)] {
        &self.twice
    }

    /// What the box said about it: beside the field that it means, or else beside this one.
    pub(super) fn failed(&mut self, name: &str, failed: &Failed) {
        let meant = failed.field.as_deref().filter(|field| self.values.iter().any(|(found, _)| found == field));
        self.wrong(meant.unwrap_or(name), super::show::sentence(&failed.message));
    }

    /// What is wrong with a field.
    pub(super) fn problem(&self, name: &str) -> Option<&str> {
        self.problems.iter().find(|(found, _)| found == name).map(|(_, sentence)| sentence.as_str())
    }

    /// What is wrong with the form as a whole.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.problem(WHOLE)
    }

    /// Whether nothing is wrong.
    pub(super) fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether this is where the reader should go first.
    pub(super) fn is_first(&self, name: &str) -> bool {
        self.problems.first().is_some_and(|(first, _)| first == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_comes_back() {
        let mut form = Form::read(b"name=+%3Cb%3E%22+&form=t&kind=share");
        assert_eq!((form.value("name"), form.text("name"), form.token.as_str()), (" <b>\" ", "<b>\"", "t"));
        assert!(form.is("kind", "share") && form.is_good());
        form.wrong("name", "No.");
        form.wrong("name", "Still no.");
        assert_eq!((form.problem("name"), form.is_first("name"), form.is_good()), (Some("No."), true, false));
        assert_eq!(form.needs("size", "How large?"), "");
        let mut form = Form::read(b"size=1,000GB&long=36h&never=0d&odd=%FF&none=+");
        assert_eq!((form.size("size", "?"), form.length("long", "?")), (Some(1_000_000_000_000), Some(129_600)));
        assert_eq!((form.length("never", "How long?"), form.problem("never")), (None, Some("How long?")));
        assert_eq!((form.size("none", "How large?"), form.problem("none")), (None, Some("How large?")));
        assert!(form.size("odd", "?").is_none() && form.problem("odd").is_some_and(|why| why.contains("no size")));
        assert!(form.has("none") && !form.has("size "));
        let mut form = Form::read(b"name=");
        form.wrong("name", "No.");
        form.needs("size", "How large?");
        assert!(form.problem("size").is_some() && !form.is_first("size"));
    }
}
