//! Who may do what with the box from the page: users, sessions, tokens, and the claim of a box that nobody owns yet
//! (docs/decisions/0038-the-page-is-a-process-of-its-own.md).

pub mod audit;
mod claim;
mod kept;
mod password;
mod people;
mod roles;
mod second_factor;
mod sessions;
mod throttle;
mod tokens;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::Store;

use crate::clock;
use crate::control::Failed;
use crate::control::door::{Person, Proof, SignedIn};
use claim::ClaimCode;
use kept::{Kept, User};
use sessions::Sessions;
use throttle::Throttle;

pub use password::{is_sound as password_hash_is_sound, strength};
pub use people::hash_for;
pub use roles::{Right, Role, only_looks, right};

/// The accounts of a box.
pub struct Accounts {
    store: Arc<Store>,
    name: String,
    begun: Instant,
    known: Mutex<Known>,
    /// One change at a time. Who changes holds `known` only to look and to put in its place what was written: a disk that does not answer keeps
    /// nobody from asking.
    changing: Mutex<()>,
    /// One password is hashed at a time: each takes 19 MiB.
    hashing: Mutex<()>,
}

struct Known {
    /// Or why that can't be read; then nobody signs in.
    kept: Result<Kept, Failed>,
    sessions: Sessions,
    /// Wrong tries by account and network: who guesses from one place is stopped there.
    guesses: Throttle<(String, Network)>,
    /// By account alone, gently: a crowd of places.
    crowds: Throttle<String>,
    /// By network alone, gently: a crowd of names.
    places: Throttle<Network>,
    claims: Throttle<()>,
    /// Second factors that were offered and not confirmed yet.
    offers: BTreeMap<String, String>,
    /// The step of the second factor that each user used last: none counts twice.
    steps: BTreeMap<String, u64>,
}

/// Where somebody asks from, as far as he can't choose it at will: an IPv4 address, or 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Network(u128);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network(u128::from(u32::from(address))),
            IpAddr::V6(address) => Network(u128::from(address) >> 64 << 64),
        }
    }
}

/// Who asks, once that is proved.
#[derive(Clone, Debug, PartialEq)]
pub struct Asker {
    /// His name.
    pub user: String,
    /// What he may do by this proof: a token may do less than its user.
    pub role: Role,
    /// "session" or "token ID".
    pub by: String,
}

impl Asker {
    /// True where he may see what is of a user.
    fn sees(&self, user: &str) -> bool {
        self.role == Role::Administrator || self.user == user
    }
}

impl Accounts {
    /// Those of the box that keeps `store`. A box that nobody owns has a claim code from now on.
    pub fn new(store: Arc<Store>, name: String) -> Accounts {
        let kept = Kept::of(&store).and_then(|kept| kept.map_or_else(|| begin(&store), Ok));
        if let Err(failed) = &kept {
            tracing::error!(%failed, "nobody can sign in");
        }
        let known = Known {
            kept,
            sessions: Sessions::default(),
            guesses: Throttle::new(5, Duration::from_secs(5), Duration::from_secs(900)),
            crowds: Throttle::new(100, Duration::from_secs(1), Duration::from_secs(10)),
            places: Throttle::new(20, Duration::from_secs(1), Duration::from_secs(60)),
            claims: Throttle::new(5, Duration::from_secs(10), Duration::from_secs(600)),
            offers: BTreeMap::new(),
            steps: BTreeMap::new(),
        };
        let (known, changing, hashing) = (Mutex::new(known), Mutex::new(()), Mutex::new(()));
        Accounts { store, name, begun: Instant::now(), known, changing, hashing }
    }

    /// True once somebody has claimed the box.
    pub fn claimed(&self) -> bool {
        self.lock().kept.as_ref().is_ok_and(|kept| kept.claim.is_none())
    }

    /// The claim code, in groups; `None` once the box was claimed.
    pub fn claim_code(&self) -> Option<String> {
        self.lock().kept.as_ref().ok()?.claim.as_ref().map(ClaimCode::shown)
    }

    /// Makes whoever has the claim code the first administrator, and signs him in.
    pub fn claim(&self, code: &str, user: &str, password: &str, from: IpAddr) -> Result<SignedIn, Failed> {
        {
            let mut known = self.lock();
            let Some(expected) = known.kept()?.claim.clone() else {
                return Err(Failed::refused(
                    "this box was claimed already: sign in, or have an administrator make you an account",
                ));
            };
            let now = self.now();
            known.may_claim(now)?;
            known.claims.tried(&(), now);
            if !expected.is(code) {
                let sentence = "This is not the claim code. It is on the box's display or label, and `narrowboat account claim` shows it at its console.";
                return Err(Failed::about("code", sentence));
            }
            known.claims.right(&());
        }
        people::check_name(user)?;
        let hash = self.hash(password, &[user])?;
        let user = User { name: user.to_owned(), role: Role::Administrator, password: hash, second_factor: None };
        self.change(|kept| {
            if kept.claim.take().is_none() {
                return Err(Failed::refused("somebody else has claimed this box a moment ago"));
            }
            kept.users.push(user.clone());
            Ok(())
        })?;
        Ok(self.begin_session(&mut self.lock(), &user, from))
    }

    /// Refuses who has to wait before he may try to claim the box. Nothing is counted.
    pub fn may_claim(&self) -> Result<(), Failed> {
        self.lock().may_claim(self.now())
    }

    /// Refuses who has to wait before he may try to sign in. Nothing is counted.
    pub fn may_sign_in(&self, user: &str, from: IpAddr) -> Result<(), Failed> {
        self.lock().may_sign_in(&(user.to_owned(), from.into()), self.now())
    }

    /// Signs somebody in.
    pub fn sign_in(&self, user: &str, password: &str, code: Option<&str>, from: IpAddr) -> Result<SignedIn, Failed> {
        let party = (user.to_owned(), Network::from(from));
        let found = {
            let mut known = self.lock();
            known.tries(&party, self.now())?;
            known.kept()?.user(user).cloned()
        };
        let right = self.is_password(password, found.as_ref());
        let wrong = || Failed::about("password", "Name or password is wrong.");
        let found = found.filter(|_| right).ok_or_else(wrong)?;
        let mut known = self.lock();
        // He may have been removed, or have got another password, while it was hashed.
        let found = known.kept()?.user(user).filter(|now| now.password == found.password).cloned().ok_or_else(wrong)?;
        if let Some(secret) = &found.second_factor {
            let Some(code) = code.filter(|code| !code.trim().is_empty()) else {
                // He knows the password: that he has to say more is no wrong try.
                known.was_right(&party);
                return Err(Failed::about("code", "Please type the six digits that your second factor shows."));
            };
            known.use_code(user, secret, code)?;
        }
        known.was_right(&party);
        Ok(self.begin_session(&mut known, &found, from))
    }

    /// Who a proof stands for; "signed-out" where it is of nobody. `used`: somebody does something with it, which keeps a session alive.
    pub fn asker(&self, proof: Option<&Proof>, used: bool) -> Result<Asker, Failed> {
        let nobody = || Failed::of("signed-out", "Please sign in.");
        let mut known = self.lock();
        let now = self.now();
        match proof.ok_or_else(nobody)? {
            Proof::Session(proof) => {
                let user = known.sessions.user(proof, now, used.then(clock::now)).ok_or_else(nobody)?;
                let role = known.kept()?.user(&user).map(|user| user.role).ok_or_else(nobody)?;
                Ok(Asker { user, role, by: "session".into() })
            }
            Proof::Token(token) => tokens::asker(known.kept()?, token, clock::now()).ok_or_else(nobody),
        }
    }

    /// Ends a session.
    pub fn sign_out(&self, proof: Option<&Proof>) {
        if let Some(Proof::Session(proof)) = proof {
            self.lock().sessions.end(proof);
        }
    }

    fn begin_session(&self, known: &mut Known, user: &User, from: IpAddr) -> SignedIn {
        let session = sessions::proof(rand::random());
        known.sessions.begin(&session, &user.name, from, self.now(), clock::now());
        SignedIn { session, person: person(user) }
    }

    fn hash(&self, password: &str, beside: &[&str]) -> Result<String, Failed> {
        let beside: Vec<String> = beside.iter().copied().chain([self.name.as_str()]).map(str::to_owned).collect();
        let _one = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        password::hash(password, &beside)
            .map_err(|failed| Failed { field: failed.field.or(Some("password".into())), ..failed })
    }

    /// Whether this is the password of a user; of nobody it takes as long to say no.
    fn is_password(&self, password: &str, user: Option<&User>) -> bool {
        let _one = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        password::verify(password, user.map(|user| user.password.as_str()))
    }

    /// Changes what is kept, if `change` takes it as it is: in the store first.
    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> Result<T, Failed>) -> Result<T, Failed> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = self.lock().kept()?.clone();
        let outcome = change(&mut kept)?;
        kept.keep(&self.store)?;
        self.lock().kept = Ok(kept);
        Ok(outcome)
    }

    /// Of a clock that nobody can set.
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn kept(&self) -> Result<&Kept, Failed> {
        self.kept.as_ref().map_err(Clone::clone)
    }

    fn may_claim(&self, now: Duration) -> Result<(), Failed> {
        refuse_waiting(self.claims.wait(&(), now), "Too many wrong codes were tried")
    }

    fn may_sign_in(&self, party: &(String, Network), now: Duration) -> Result<(), Failed> {
        let wait =
            self.guesses.wait(party, now).max(self.crowds.wait(&party.0, now)).max(self.places.wait(&party.1, now));
        refuse_waiting(wait, "Too many wrong passwords were tried")
    }

    /// Counts a try with a password, wrong until [`Known::was_right`] says otherwise; refused where it has to wait.
    fn tries(&mut self, party: &(String, Network), now: Duration) -> Result<(), Failed> {
        self.may_sign_in(party, now)?;
        self.guesses.tried(party, now);
        self.crowds.tried(&party.0, now);
        self.places.tried(&party.1, now);
        Ok(())
    }

    fn was_right(&mut self, party: &(String, Network)) {
        self.guesses.right(party);
        self.crowds.right(&party.0);
        self.places.right(&party.1);
    }

    /// Refuses a wrong code of a second factor; a right one does not count again.
    fn use_code(&mut self, user: &str, secret: &str, code: &str) -> Result<(), Failed> {
        let seconds = u64::try_from(clock::wall().seconds()).unwrap_or_default();
        let step = second_factor::step(secret, code, seconds, self.steps.get(user).copied());
        let wrong = "These digits are wrong, or were used already. If they are right, the clock of the box or of your telephone is wrong.";
        self.steps.insert(user.to_owned(), step.ok_or_else(|| Failed::about("code", wrong))?);
        Ok(())
    }
}

fn begin(store: &Store) -> Result<Kept, Failed> {
    let kept = Kept { claim: Some(ClaimCode::new(rand::random())), ..Kept::default() };
    kept.keep(store)?;
    Ok(kept)
}

fn person(user: &User) -> Person {
    Person { user: user.name.clone(), role: user.role, second_factor: user.second_factor.is_some() }
}

fn refuse_waiting(wait: Duration, why: &str) -> Result<(), Failed> {
    if wait.is_zero() {
        return Ok(());
    }
    let seconds = wait.as_secs() + 1;
    let message = format!("{why}: please try again in {}.", crate::units::duration(seconds as f64));
    Err(Failed::of("wait", message))
}
