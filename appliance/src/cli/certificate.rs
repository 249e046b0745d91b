//! `certificate`.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{Acknowledged, PageCertificate};

#[derive(Subcommand)]
pub(super) enum CertificateCommand {
    /// Which certificate the page shows, until when it counts, and how it stands with the authority that gives them.
    Show,
    /// Order another one now, whether it is time or not. `narrowboat certificate` shows what came of it.
    Order,
}

pub(super) fn certificate(context: &Context, command: Option<CertificateCommand>) -> Outcome {
    match command.unwrap_or(CertificateCommand::Show) {
        CertificateCommand::Show => {
            context.ask_and_show::<PageCertificate>(&Request::CertificateShow, show)?;
        }
        CertificateCommand::Order => {
            context.ask_and_show::<Acknowledged>(&Request::CertificateOrder, |done| say!("{}", done.message))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(certificate: &PageCertificate) {
    let whose = match certificate.kind.as_str() {
        "authority" => "one that an authority gave",
        "file" => "the one that the config file names",
        _ => "one that the box made for itself: browsers ask, and show its fingerprint",
    };
    say!("the page shows {whose}");
    say!("  fingerprint  {}", certificate.fingerprint);
    say!("  names        {}", certificate.names.join(", "));
    if let Some(issuer) = &certificate.issuer {
        say!("  issuer       {issuer}");
    }
    if let Some(until) = &certificate.until {
        say!("  until        {until}");
    }
    let Some(authority) = &certificate.authority else { return };
    say!("the authority is {}, for {}", authority.directory, authority.names.join(", "));
    match (&authority.until, authority.ordering) {
        (_, true) => say!("  a certificate is being ordered now"),
        (Some(until), _) => say!("  what it gave counts until {until}; the next is ordered at {}", authority.next),
        (None, _) => say!("  it has given none yet; the next is ordered at {}", authority.next),
    }
    if let (Some(error), Some(since)) = (&authority.error, &authority.failing_since) {
        let times = if authority.tries == 1 { "once".into() } else { format!("{} times", authority.tries) };
        say!("NOTICE  no certificate was had, {times} since {since}: {error}");
        say!("        {}", authority.remedy.as_deref().unwrap_or_default());
    }
}
