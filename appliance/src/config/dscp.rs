//! `wan.dscp`: what datagrams say about themselves to routers.

use std::collections::BTreeMap;

use narrowboat_wan::shape::{Class, Dscp, Marks};
use serde::Deserialize;

/// Marks on, off, or different for some classes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Marking {
    /// `true`: those of [`Marks::default`]; `false`: none.
    Switch(bool),
    /// By class, as in `{ scavenger = "LE" }`; classes that are not named keep theirs.
    Classes(BTreeMap<String, String>),
}

impl Default for Marking {
    fn default() -> Self {
        Marking::Switch(true)
    }
}

impl Marking {
    /// The marks that are meant, or what is wrong.
    pub fn marks(&self) -> Result<Marks, String> {
        match self {
            Marking::Switch(true) => Ok(Marks::default()),
            Marking::Switch(false) => Ok(Marks::OFF),
            Marking::Classes(classes) => classes.iter().try_fold(Marks::default(), |marks, (class, mark)| {
                let known: Class = class.parse().map_err(|refusal| format!("wan.dscp: {refusal}"))?;
                let mark: Dscp = mark.parse().map_err(|refusal| format!("wan.dscp.{class}: {refusal}"))?;
                Ok(marks.with(known, mark))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        #[serde(default)]
        dscp: Marking,
    }

    fn marks(text: &str) -> Result<Marks, String> {
        toml::from_str::<Holder>(text).expect("sound").dscp.marks()
    }

    #[test]
    fn marks_are_on_off_or_ones_own() {
        assert_eq!(marks(""), Ok(Marks::default()));
        assert_eq!(marks("dscp = true"), Ok(Marks::default()));
        assert_eq!(marks("dscp = false"), Ok(Marks::OFF));
        let own = marks("dscp = { normal = 'CS1', scavenger = '8' }").expect("sound");
        assert_eq!([Class::Normal, Class::Scavenger, Class::Restore].map(|class| own.of(class).code()), [8, 8, 18]);
        for (wrong, why) in [("{ fast = 'LE' }", "no class"), ("{ normal = 'fast' }", "wan.dscp.normal")] {
            let refusal = marks(&format!("dscp = {wrong}")).expect_err(wrong);
            assert!(refusal.contains(why), "{refusal}");
        }
    }
}
