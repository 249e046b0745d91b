//! `network`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Context, Outcome};
use crate::control::reports::NetworkState;
use crate::control::{Failed, Request};
use crate::network::Wanted;

#[derive(Subcommand)]
pub(super) enum NetworkCommand {
    /// How the network of this machine is, what the box has made of it, and what is tried now.
    Show,
    /// Try another set-up: it goes back by itself after a minute, unless somebody confirms it.
    ///
    /// What is not named stays as it was kept last. Then open the page at the new address, sign in, and keep it there; or say `narrowboat network confirm`
    /// here. Whatever happens to the box meanwhile, and whatever becomes of the power, what nobody confirmed goes back.
    ///
    ///   narrowboat network set --ipv4 192.168.7.10/24 --gateway4 192.168.7.1 --dns 192.168.7.1
    ///   narrowboat network set --ipv4 dhcp --ipv6 off --dns ""
    ///   narrowboat network set --vlan 30
    ///   narrowboat network set --vlan ""
    #[command(verbatim_doc_comment)]
    Set(Set),
    /// Keep what is tried. Said here, at the box itself, it counts at once.
    Confirm,
    /// Go back at once to what was before the trial.
    Revert,
}

#[derive(Args)]
pub(super) struct Set {
    /// `dhcp`, `off`, or an address with its prefix, as in 192.168.7.10/24.
    #[arg(long, value_name = "ADDRESS")]
    ipv4: Option<String>,
    /// Where IPv4 goes that is for other networks; with an address alone.
    #[arg(long, value_name = "ADDRESS")]
    gateway4: Option<String>,
    /// `auto`, `off`, or an address with its prefix, as in 2001:db8:7::10/64.
    #[arg(long, value_name = "ADDRESS")]
    ipv6: Option<String>,
    /// Where IPv6 goes that is for other networks; with an address alone.
    #[arg(long, value_name = "ADDRESS")]
    gateway6: Option<String>,
    /// DNS servers, by address, with commas between them; those that the network names where empty.
    #[arg(long, value_name = "ADDRESSES")]
    dns: Option<String>,
    /// Time servers, by name or address, likewise.
    #[arg(long, value_name = "HOSTS")]
    ntp: Option<String>,
    /// The number of the VLAN that the box is in; none where empty.
    #[arg(long, value_name = "NUMBER")]
    vlan: Option<String>,
}

pub(super) fn network(context: &Context, command: NetworkCommand) -> Outcome {
    let request = match command {
        NetworkCommand::Show => Request::NetworkShow,
        NetworkCommand::Set(set) => Request::NetworkSet { wanted: set.over(kept(context)?) },
        NetworkCommand::Confirm => Request::NetworkConfirm { trial: None },
        NetworkCommand::Revert => Request::NetworkRevert { trial: None },
    };
    context.ask_and_show::<NetworkState>(&request, show).map_err(by_its_option)?;
    Ok(ExitCode::SUCCESS)
}

/// What was kept last, whatever is to be printed.
fn kept(context: &Context) -> Result<Wanted, Failed> {
    let quiet = Context { data: context.data.clone(), json: false };
    let state = quiet.ask::<NetworkState>(&Request::NetworkShow)?;
    Ok(state.and_then(|state| state.kept).unwrap_or_default())
}

/// The field of a set-up file is an option here.
fn by_its_option(failed: Failed) -> Failed {
    let Some(field) = failed.field.as_deref().and_then(|field| field.strip_prefix("network.")) else { return failed };
    let option = field.replace("address", "ipv");
    Failed { message: format!("--{option}: {}", failed.message), ..failed }
}

impl Set {
    /// What was said over what was.
    fn over(self, mut wanted: Wanted) -> Wanted {
        if let Some(said) = self.ipv4 {
            (wanted.ipv4, wanted.address4, wanted.gateway4) = family(said, "dhcp", wanted.gateway4);
        }
        if let Some(said) = self.ipv6 {
            (wanted.ipv6, wanted.address6, wanted.gateway6) = family(said, "auto", wanted.gateway6);
        }
        let some = |text: String| Some(text).filter(|text| !text.trim().is_empty());
        if let Some(gateway) = self.gateway4 {
            wanted.gateway4 = some(gateway);
        }
        if let Some(gateway) = self.gateway6 {
            wanted.gateway6 = some(gateway);
        }
        let list =
            |text: String| text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
        if let Some(servers) = self.dns {
            wanted.dns = list(servers);
        }
        if let Some(servers) = self.ntp {
            wanted.ntp = list(servers);
        }
        if let Some(vlan) = self.vlan {
            wanted.vlan = some(vlan);
        }
        wanted
    }
}

/// A family by one word: how it is had, its address, and the gateway, which stays with an address alone.
fn family(said: String, asked: &str, gateway: Option<String>) -> (String, Option<String>, Option<String>) {
    match said == asked || said == "off" {
        true => (said, None, None),
        false => ("fixed".into(), Some(said), gateway),
    }
}

fn show(state: &NetworkState) {
    match &state.why_not {
        Some(why) => say!("the box does not set up this network: {why}"),
        None => say!("the box sets up {}", state.interface.as_deref().unwrap_or("this machine's network")),
    }
    for address in &state.addresses {
        say!("  address  {} on {}", address.address, address.interface);
    }
    state.gateways.iter().for_each(|gateway| say!("  gateway  {gateway}"));
    state.dns.iter().for_each(|server| say!("  DNS      {server}"));
    if let Some(kept) = &state.kept {
        say!("kept: {}", kept.words());
    }
    if let Some(trial) = &state.trial {
        say!("tried for {} s more: {}", trial.seconds_left, trial.wanted.words());
        let at = if trial.addresses.is_empty() { "its new address".into() } else { trial.addresses.join(" or ") };
        say!("it goes back by itself unless it is kept: on the page at {at}, or here by `narrowboat network confirm`");
    }
    if let Some(last) = state.last.as_ref().filter(|_| state.trial.is_none()) {
        say!("{last}");
    }
    if let Some(trouble) = &state.trouble {
        say!("NOTICE  the network is not as it is kept: {trouble}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let none = || Set { ipv4: None, gateway4: None, ipv6: None, gateway6: None, dns: None, ntp: None, vlan: None };
        let some = |text: &str| Some(text.to_owned());
        let fixed = Set {
            ipv4: some("192.168.7.10/24"),
            gateway4: some("192.168.7.1"),
            dns: some("192.168.7.1, 10.0.0.1"),
            vlan: some("30"),
            ..none()
        };
        let wanted = fixed.over(Wanted::default());
        assert_eq!(wanted.words(), "IPv4 192.168.7.10/24 by 192.168.7.1, IPv6 auto, DNS 192.168.7.1 10.0.0.1, VLAN 30");
        let moved = Set { ipv4: some("192.168.7.11/24"), vlan: some(""), ..none() }.over(wanted.clone());
        assert_eq!(moved.words(), "IPv4 192.168.7.11/24 by 192.168.7.1, IPv6 auto, DNS 192.168.7.1 10.0.0.1");
        let asked = Set { ipv4: some("dhcp"), ipv6: some("off"), dns: some(""), ..none() }.over(wanted);
        assert_eq!(asked.words(), "IPv4 dhcp, IPv6 off, VLAN 30");
        let failed = by_its_option(Failed::about("network.address4", "no"));
        assert_eq!(failed.message, "--ipv4: no");
    }
}
