//! Users: who may sign in, their passwords, second factors and sessions.

use std::net::IpAddr;

use super::kept::{Kept, User};
use super::{Accounts, Asker, Known, Role, password, person, second_factor};
use crate::control::Failed;
use crate::control::door::{Person, Proof, SessionRow, TotpOffer};
use crate::units::rfc3339;

/// Longest name of a user, in characters.
const NAME_MAX: usize = 64;
/// Most users.
const USERS_MAX: usize = 200;

/// Refuses what is no name of a user.
pub(super) fn check_name(name: &str) -> Result<(), Failed> {
    let characters = name.chars().count();
    let sentence = if characters == 0 || characters > NAME_MAX {
        format!("A name has 1 to {NAME_MAX} characters.")
    } else if name.trim() != name || name.chars().any(is_invisible) {
        "A name has no space at its ends, and nothing that can't be seen.".to_owned()
    } else if name == "console" {
        "The audit log calls whoever sits at the box itself `console`: please take another name.".to_owned()
    } else {
        return Ok(());
    };
    Err(Failed::about("user", sentence))
}

/// The hash of a password that is good enough for somebody of this name.
pub fn hash_for(name: &str, password: &str) -> Result<String, Failed> {
    check_name(name)?;
    password::hash(password, &[name.to_owned()])
}

/// What looks like nothing, or makes a name look like another one: control characters, marks of direction, joiners.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

impl Accounts {
    /// Who somebody is who has proved that.
    pub fn whoami(&self, asker: &Asker) -> Result<Person, Failed> {
        let known = self.lock();
        let user = found(known.kept()?, &asker.user)?;
        Ok(Person { role: asker.role, ..person(user) })
    }

    /// Everybody who may sign in.
    pub fn users(&self) -> Result<Vec<Person>, Failed> {
        Ok(self.lock().kept()?.users.iter().map(person).collect())
    }

    /// One more.
    pub fn add_user(&self, name: &str, role: Role, password: &str) -> Result<(), Failed> {
        check_name(name)?;
        let hash = self.hash(password, &[name])?;
        self.change(|kept| {
            if kept.user(name).is_some() {
                return Err(Failed::about("user", format!("There is a user {name} already.")));
            }
            if kept.users.len() >= USERS_MAX {
                return Err(Failed::refused(format!("There are {USERS_MAX} users, which is all that a box takes.")));
            }
            // A box that has a user belongs to somebody.
            kept.claim = None;
            kept.users.push(User { name: name.to_owned(), role, password: hash, second_factor: None });
            Ok(())
        })
    }

    /// Gives a box that nobody has claimed its first administrator, by a hash that another box or the console made.
    pub fn first(&self, name: &str, hash: &str) -> Result<(), Failed> {
        check_name(name)?;
        self.change(|kept| {
            if kept.claim.take().is_none() {
                return Err(Failed::refused("this box has an owner already"));
            }
            let (name, role) = (name.to_owned(), Role::Administrator);
            kept.users.push(User { name, role, password: hash.to_owned(), second_factor: None });
            Ok(())
        })
    }

    /// One less; his sessions and tokens end. The last administrator stays.
    pub fn remove_user(&self, name: &str) -> Result<(), Failed> {
        self.change(|kept| {
            found(kept, name)?;
            kept.users.retain(|user| user.name != name);
            kept.tokens.retain(|token| token.user != name);
            if !kept.users.iter().any(|user| user.role == Role::Administrator) {
                let sentence =
                    "This is the last administrator: make another one first, or nobody could look after the box.";
                return Err(Failed::refused(sentence));
            }
            Ok(())
        })?;
        self.lock().forget(name);
        Ok(())
    }

    /// Gives whoever asks a new password; his other sessions end.
    pub fn change_password(
        &self,
        asker: &Asker,
        proof: Option<&Proof>,
        old: &str,
        new: &str,
        from: IpAddr,
    ) -> Result<(), Failed> {
        self.prove_password(&asker.user, old, from, "old")?;
        let hash = self.hash(new, &[&asker.user]).map_err(|failed| Failed { field: Some("new".into()), ..failed })?;
        self.change(|kept| set(kept, &asker.user, |user| user.password = hash))?;
        let own = proof.and_then(|proof| match proof {
            Proof::Session(proof) => Some(super::sessions::id_of(proof)),
            Proof::Token(_) => None,
        });
        let others = |id: &str, user: &str| user == asker.user && own.as_deref() != Some(id);
        self.lock().sessions.end_where(|id, session| others(id, &session.user));
        Ok(())
    }

    /// Sets the password of a user without asking for the old one, and drops his second factor, sessions and tokens: at the console.
    pub fn reset_password(&self, name: &str, new: &str) -> Result<(), Failed> {
        found(self.lock().kept()?, name)?;
        let hash = self.hash(new, &[name])?;
        self.change(|kept| {
            kept.tokens.retain(|token| token.user != name);
            set(kept, name, |user| (user.password, user.second_factor) = (hash, None))
        })?;
        self.lock().forget(name);
        Ok(())
    }

    /// A secret for a second factor. It counts once a code of it was seen.
    pub fn offer_second_factor(&self, asker: &Asker) -> Result<TotpOffer, Failed> {
        let mut known = self.lock();
        found(known.kept()?, &asker.user)?;
        let secret = second_factor::new_secret(rand::random());
        known.offers.insert(asker.user.clone(), secret.clone());
        Ok(TotpOffer { url: second_factor::url(&secret, &asker.user, &self.name), secret })
    }

    /// Has the second factor that was offered last count from now on.
    pub fn confirm_second_factor(&self, asker: &Asker, code: &str) -> Result<(), Failed> {
        let secret = {
            let mut known = self.lock();
            let secret = known.offers.get(&asker.user).cloned();
            let secret = secret.ok_or_else(|| Failed::refused("No second factor was offered: please begin again."))?;
            known.steps.remove(&asker.user);
            known.use_code(&asker.user, &secret, code)?;
            secret
        };
        self.change(|kept| set(kept, &asker.user, |user| user.second_factor = Some(secret)))?;
        self.lock().offers.remove(&asker.user);
        Ok(())
    }

    /// Drops the second factor of whoever asks.
    pub fn remove_second_factor(&self, asker: &Asker, password: &str, from: IpAddr) -> Result<(), Failed> {
        self.prove_password(&asker.user, password, from, "password")?;
        self.change(|kept| set(kept, &asker.user, |user| user.second_factor = None))
    }

    /// Sessions: of whoever asks, of everybody for administrators.
    pub fn sessions(&self, asker: &Asker, proof: Option<&Proof>) -> Vec<SessionRow> {
        let proof = proof.and_then(|proof| match proof {
            Proof::Session(proof) => Some(proof.as_str()),
            Proof::Token(_) => None,
        });
        let all = self.lock().sessions.all(proof, self.now()).into_iter();
        let seen = all.filter(|(_, session, _)| asker.sees(&session.user));
        let row = |(id, session, own): (String, super::sessions::Session, bool)| SessionRow {
            id,
            user: session.user,
            from: session.from.to_canonical().to_string(),
            begun: rfc3339(session.since),
            used: rfc3339(session.seen),
            own,
        };
        seen.map(row).collect()
    }

    /// Ends a session by its id.
    pub fn end_session(&self, asker: &Asker, id: &str) -> Result<(), Failed> {
        match self.lock().sessions.end_where(|of, session| of == id && asker.sees(&session.user)) {
            0 => Err(Failed::refused(format!("There is no session {id} any more."))),
            _ => Ok(()),
        }
    }

    /// Asks for the password once more, with the same patience as for signing in.
    fn prove_password(&self, user: &str, password: &str, from: IpAddr, field: &str) -> Result<(), Failed> {
        let party = (user.to_owned(), from.into());
        let of = {
            let mut known = self.lock();
            known.tries(&party, self.now())?;
            found(known.kept()?, user)?.clone()
        };
        if !self.is_password(password, Some(&of)) {
            return Err(Failed::about(field, "This is not your password."));
        }
        self.lock().was_right(&party);
        Ok(())
    }
}

impl Known {
    /// Ends what somebody has who has no account any more, or a new one.
    fn forget(&mut self, name: &str) {
        self.sessions.end_where(|_, session| session.user == name);
        self.offers.remove(name);
        self.steps.remove(name);
    }
}

fn found<'k>(kept: &'k Kept, name: &str) -> Result<&'k User, Failed> {
    kept.user(name).ok_or_else(|| nobody(name))
}

fn set(kept: &mut Kept, name: &str, change: impl FnOnce(&mut User)) -> Result<(), Failed> {
    kept.users.iter_mut().find(|user| user.name == name).map(change).ok_or_else(|| nobody(name))
}

fn nobody(name: &str) -> Failed {
    Failed { field: Some("user".into()), ..Failed::missing(format!("There is no user {name}.")) }
}
