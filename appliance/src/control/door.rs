//! What the page worker asks of the box: requests of people, each with what their browser or program showed to prove who they are.
//!
//! A call is one line of JSON, the answer as on the control socket: progress, then a result or a failure. Kinds of failures that only a door
//! has: "signed-out" (nobody is signed in by this proof), "forbidden" (he may not), "wait" (too many wrong tries; try again later).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Request;
use crate::accounts::Role;
use crate::repeats::Once;

/// What shows who asks. Neither is ever logged.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// A session of somebody who signed in, as the box gave it.
    Session(String),
    /// An API token, as the box gave it.
    Token(String),
}

/// A request that came to the page.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Who asks; nobody where there is none.
    pub proof: Option<Proof>,
    /// From where.
    pub from: IpAddr,
    /// The address of the box at which he came, where that is known.
    #[serde(default)]
    pub at: Option<IpAddr>,
    /// An open page asks by itself, nobody touched it: that is no use of a session.
    #[serde(default)]
    pub by_itself: bool,
    /// It is to be done once, however often it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// What.
    pub ask: Ask,
}

/// What can be asked through the door.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// What anybody may know: [`State`].
    State,
    /// Makes whoever holds the claim code the box's first administrator: [`SignedIn`].
    Claim {
        /// The code, as typed.
        code: String,
        /// The administrator's name.
        user: String,
        /// His password.
        password: String,
    },
    /// How good a password is: [`Strength`].
    Strength {
        /// The password.
        password: String,
        /// Words that make it worse: the user's name, the box's name.
        beside: Vec<String>,
    },
    /// Begins a session: [`SignedIn`].
    SignIn {
        /// The user.
        user: String,
        /// His password.
        password: String,
        /// The six digits of his second factor, where he has one.
        code: Option<String>,
    },
    /// Ends the session that is the proof.
    SignOut,
    /// Who the proof stands for: [`Person`].
    Whoami,
    /// A request as of the command line, where the role allows it; answered by the report of that request.
    Box {
        /// Which.
        request: Request,
    },
    /// What lies in a folder of a share: a [`Folder`].
    Browse {
        /// `DATASET` or `DATASET@MOMENT`.
        source: String,
        /// Names between slashes, each as [`FolderEntry::part`] has it; empty for all of it.
        path: String,
        /// Behind this entry; 0 from the start.
        after: u64,
        /// At most so many entries.
        limit: u32,
    },
    /// The same by name, folders first, and only what has a text in its name: a [`Sorted`].
    BrowseSorted {
        /// `DATASET` or `DATASET@MOMENT`.
        source: String,
        /// As in [`Ask::Browse`].
        path: String,
        /// What is in the names, in letters large or small; everything where it is empty.
        holds: String,
        /// Behind this entry, as [`FolderEntry::place`] has it; from the start where it is empty.
        after: String,
        /// At most so many entries.
        limit: u32,
    },
    /// A file, a folder (as a tar archive) or a volume: a [`Download`], and behind its line the bytes in frames
    /// ([`crate::jobs::download`]).
    Download {
        /// `DATASET` or `DATASET@MOMENT`.
        source: String,
        /// As in [`Ask::Browse`].
        path: String,
    },
    /// The support bundle: a [`Download`], and behind its line a tar archive in frames. For administrators.
    Support,
    /// A new password for whoever asks.
    PasswordChange {
        /// The one that he has.
        old: String,
        /// The new one.
        new: String,
    },
    /// A secret for a second factor, which counts once it was confirmed: [`TotpOffer`].
    TotpOffer,
    /// Has the second factor that was offered count from now on.
    TotpConfirm {
        /// Six digits that it shows.
        code: String,
    },
    /// Drops the second factor of whoever asks.
    TotpRemove {
        /// His password.
        password: String,
    },
    /// Makes an API token: [`NewToken`].
    TokenAdd {
        /// What it is for.
        label: String,
        /// What it may do: no more than who makes it.
        role: Role,
        /// After how many days it ends.
        days: u32,
    },
    /// Tokens, of everybody for administrators: a list of [`TokenRow`].
    Tokens,
    /// Ends a token.
    TokenRemove {
        /// Its id.
        id: String,
    },
    /// Sessions, of everybody for administrators: a list of [`SessionRow`].
    Sessions,
    /// Ends a session.
    SessionEnd {
        /// Its id.
        id: String,
    },
}

/// What anybody may know who finds the box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct State {
    /// How the box calls itself.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// False until somebody has claimed it.
    pub claimed: bool,
    /// True while it can't keep what it is given: writes have failed, or the disk does not answer.
    #[serde(default)]
    pub failing: bool,
}

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Person {
    /// His name.
    pub user: String,
    /// What he may do.
    pub role: Role,
    /// Whether he has a second factor.
    pub second_factor: bool,
}

/// A session that has begun.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignedIn {
    /// What is to be shown as [`Proof::Session`] from now on.
    pub session: String,
    /// Who it stands for.
    pub person: Person,
}

/// A part of what lies in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// In no order that means something to people.
    pub entries: Vec<FolderEntry>,
    /// Behind which entry there are more; nothing where these were the last.
    pub next: Option<u64>,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderEntry {
    /// Its name, as far as that is text.
    pub name: String,
    /// Its name as a part of a path, whatever bytes it has.
    pub part: String,
    /// "file", "folder", "link" or "special".
    pub kind: String,
    /// Its length.
    pub bytes: u64,
    /// When its content changed last (RFC 3339).
    pub modified: String,
    /// Where to go on behind it.
    pub cookie: u64,
}

impl FolderEntry {
    /// Where it stands among entries by name: its part, and a slash behind that of a folder.
    pub fn place(&self) -> String {
        format!("{}{}", self.part, if self.kind == "folder" { "/" } else { "" })
    }
}

/// A part of what lies in a folder, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sorted {
    /// Folders, then everything else.
    pub entries: Vec<FolderEntry>,
    /// Whether more follow.
    pub more: bool,
    /// How many entries there are in all that were asked for.
    pub count: u64,
}

/// What is about to be downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// What it may be called where it goes.
    pub name: String,
    /// How long it is, where that is known before.
    pub bytes: Option<u64>,
}

/// How good a password is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strength {
    /// 0 (worst) to 4.
    pub score: u8,
    /// Whether it is taken.
    pub enough: bool,
    /// What to do about it, in a sentence; empty where it is good.
    pub advice: String,
}

/// A second factor that is not confirmed yet.
#[derive(Clone, Serialize, Deserialize)]
pub struct TotpOffer {
    /// The secret, base32.
    pub secret: String,
    /// The same for a program to read from a picture: `otpauth://…`.
    pub url: String,
}

/// A token that was made. It is shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewToken {
    /// Its id, which may be seen.
    pub id: String,
    /// What is to be shown as [`Proof::Token`].
    pub token: String,
}

/// A token as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub label: String,
    /// Whose it is.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// When it ends (RFC 3339).
    pub ends: String,
}

/// A session as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its id, which proves nothing.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// From where it was begun.
    pub from: String,
    /// When (RFC 3339).
    pub begun: String,
    /// When it was used last (RFC 3339).
    pub used: String,
    /// Whether it is the one that asks.
    pub own: bool,
}
