//! `account` and `audit`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::disks::key::typed;
use super::show::table;
use super::{Context, Outcome};
use crate::accounts::Role;
use crate::control::reports::{Acknowledged, AuditEntry, Claim, Person};
use crate::control::{Failed, Request};
use crate::disks::tools::Secret;
use crate::qr;

#[derive(Subcommand)]
pub(super) enum AccountCommand {
    /// The claim code of a box that nobody owns yet, where its page is, and by what browsers know it.
    ///
    /// Who types the code on the page becomes the box's administrator; then it counts no more. The fingerprint is that of the certificate: the browser shows
    /// the same one before it is told to go on, or somebody stands between.
    Claim {
        /// Draws the picture for a telephone's camera, which leads to the page with the code, also where this is no terminal.
        #[arg(long)]
        qr: bool,
    },
    /// List everybody who may sign in to the page.
    List,
    /// Let one more sign in to the page.
    ///
    /// Viewers see everything and change nothing. Operators make snapshots, send and pause. Administrators may do what the page can do.
    Add {
        /// His name.
        user: String,
        /// What he may do.
        #[arg(long, value_enum, default_value_t = Role::Administrator)]
        role: Role,
        #[command(flatten)]
        password: PasswordFile,
    },
    /// Let somebody sign in no more. His sessions and API tokens end.
    Remove {
        /// His name.
        user: String,
    },
    /// Give somebody a new password who has forgotten his. His second factor, sessions and API tokens go.
    Password {
        /// His name.
        user: String,
        #[command(flatten)]
        password: PasswordFile,
    },
}

#[derive(clap::Args)]
pub(super) struct PasswordFile {
    /// File with the password, `-` for standard input [default: asks at the terminal]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) fn account(context: &Context, command: AccountCommand) -> Outcome {
    match command {
        AccountCommand::Claim { qr } => {
            if let Some(claim) = context.ask::<Claim>(&Request::AccountClaim)? {
                show_claim(&claim, qr || std::io::stdout().is_terminal());
            }
        }
        AccountCommand::List => {
            if let Some(people) = context.ask::<Vec<Person>>(&Request::AccountList)? {
                show_people(&people);
            }
        }
        AccountCommand::Add { user, role, password } => {
            let password = password.read()?;
            acknowledge(context, &Request::AccountAdd { user, role, password })?;
        }
        AccountCommand::Remove { user } => acknowledge(context, &Request::AccountRemove { user })?,
        AccountCommand::Password { user, password } => {
            let password = password.read()?;
            acknowledge(context, &Request::AccountReset { user, password })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn audit(context: &Context, before: Option<u64>, limit: u32) -> Outcome {
    if let Some(entries) = context.ask::<Vec<AuditEntry>>(&Request::Audit { before, limit })? {
        let row = |entry: &AuditEntry| {
            let who =
                if entry.from.is_empty() { entry.who.clone() } else { format!("{} from {}", entry.who, entry.from) };
            let said = match (&entry.outcome, entry.of) {
                (Some(outcome), Some(of)) => format!("{of}: {outcome}"),
                _ if entry.with.is_null() => String::new(),
                _ => entry.with.to_string(),
            };
            vec![entry.n.to_string(), entry.at.clone(), who, entry.what.clone(), said]
        };
        table(&["ENTRY", "WHEN", "WHO", "WHAT", "SAID"], &entries.iter().map(row).collect::<Vec<_>>());
    }
    Ok(ExitCode::SUCCESS)
}

fn acknowledge(context: &Context, request: &Request) -> Result<(), Failed> {
    if let Some(done) = context.ask::<Acknowledged>(request)? {
        say!("{}", done.message);
    }
    Ok(())
}

fn show_claim(claim: &Claim, draw: bool) {
    match (&claim.address, &claim.fingerprint) {
        (Some(address), Some(fingerprint)) => {
            let own = [format!("https://{address}/")];
            let urls = if claim.urls.is_empty() { &own[..] } else { &claim.urls };
            urls.iter().for_each(|url| say!("page         {url}"));
            say!("certificate  SHA-256 {fingerprint}");
        }
        _ => say!("This box has no page: `[page] listen` in its config says where it is to be."),
    }
    match &claim.code {
        Some(code) => {
            say!("claim code   {code}");
            // The code stands behind the #: no log sees it.
            let picture = claim.urls.first().filter(|_| draw).and_then(|url| qr::blocks(&format!("{url}#c={code}")));
            if let Some(picture) = picture {
                say!("\n{picture}");
            }
        }
        None if claim.claimed => say!("The box was claimed: `narrowboat account list` says who may sign in."),
        None => say!("PROBLEM  the accounts of this box can't be read: see its log"),
    }
}

fn show_people(people: &[Person]) {
    let row = |person: &Person| {
        vec![
            person.user.clone(),
            person.role.name().to_owned(),
            if person.second_factor { "yes" } else { "no" }.to_owned(),
        ]
    };
    table(&["USER", "ROLE", "SECOND FACTOR"], &people.iter().map(row).collect::<Vec<_>>());
}

impl PasswordFile {
    /// The password, without the end of its line; typed twice where there is no file.
    pub(super) fn read(&self) -> Result<String, Failed> {
        let secret = match &self.password_file {
            Some(file) => Secret::read(file)?,
            None => {
                let first = typed("Password: ")?;
                if !first.is(&typed("The same once more: ")?) {
                    return Err(Failed::refused("these were two different ones"));
                }
                first
            }
        };
        secret.text().map(str::to_owned).ok_or_else(|| Failed::refused("the password is not text (UTF-8)"))
    }
}
