//! The portmapper's answers (RFC 1833): which port NFS and MOUNT are on, for clients that ask port 111 first.
//!
//! PMAP version 2 and RPCBIND versions 3 and 4, as a value: a call in, an answer out. It only answers questions: nothing
//! can be registered from outside, and calls are not passed on (`CALLIT`), which is how portmappers are abused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::units::Timestamp;

use super::rpc::{self, CallHeader, NotACall, Outcome, Peer, Refused, Service};
use super::wire::{MOUNT_PROGRAM, MOUNT_VERSION, NFS_PROGRAM, NFS_VERSION, NLM_PROGRAM, NLM_VERSION};
use super::xdr::{Decoder, Encoder};

/// The program number of the portmapper.
pub const PORTMAP_PROGRAM: u32 = 100_000;
/// The port that it is asked on.
pub const PORTMAP_PORT: u16 = 111;

const PMAP: u32 = 2;
const RPCBIND_4: u32 = 4;
const TCP: u32 = 6;
const UDP: u32 = 17;
/// Longest string in an RPCBIND question: network id, address, owner.
const STRING_BYTES_MAX: usize = 255;
/// Whom entries are said to belong to.
const OWNER: &[u8] = b"superuser";

/// A program that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registration {
    program: u32,
    version: u32,
    port: u16,
    /// TCP or UDP.
    protocol: u32,
}

/// Answers for one NFS server.
#[derive(Clone, Debug)]
pub struct Portmap {
    registrations: Vec<Registration>,
}

impl Portmap {
    /// Answers that NFS, MOUNT and NLM are on TCP port `port`, and the portmapper itself on [`PORTMAP_PORT`].
    pub fn new(port: u16) -> Self {
        let tcp = |program, version| Registration { program, version, port, protocol: TCP };
        let own = [TCP, UDP].into_iter().flat_map(|protocol| {
            (PMAP..=RPCBIND_4).map(move |version| Registration {
                program: PORTMAP_PROGRAM,
                version,
                port: PORTMAP_PORT,
                protocol,
            })
        });
        let mounts = (1..=MOUNT_VERSION).map(|version| tcp(MOUNT_PROGRAM, version));
        Portmap {
            registrations: own
                .chain([tcp(NFS_PROGRAM, NFS_VERSION)])
                .chain(mounts)
                .chain([tcp(NLM_PROGRAM, NLM_VERSION)])
                .collect(),
        }
    }

    /// The answer to one call that came in at `local`; `None` where it is best to say nothing.
    pub fn answer(&self, record: &Bytes, local: SocketAddr) -> Option<Encoder> {
        let mut args = Decoder::new(record);
        let mut out = Encoder::new();
        let header = match CallHeader::decode(&mut args) {
            Ok(header) => header,
            Err(NotACall::Noise) => return None,
            Err(NotACall::Rejected { xid, why }) => {
                rpc::reject(&mut out, xid, why);
                return Some(out);
            }
        };
        let start = out.mark();
        rpc::accept(&mut out, header.xid);
        let result = match (header.program, header.version) {
            (PORTMAP_PROGRAM, PMAP) => self.pmap(header.procedure, &mut args, &mut out),
            (PORTMAP_PROGRAM, 3..=RPCBIND_4) => self.rpcbind(&header, &mut args, local.ip(), &mut out),
            (PORTMAP_PROGRAM, _) => Err(Refused::ProgramMismatch { low: PMAP, high: RPCBIND_4 }),
            _ => Err(Refused::ProgramUnavailable),
        };
        if let Err(why) = result {
            out.rewind(&start);
            rpc::refuse(&mut out, header.xid, why);
        }
        Some(out)
    }

    fn pmap(&self, procedure: u32, args: &mut Decoder, out: &mut Encoder) -> Result<(), Refused> {
        match procedure {
            0 => {}
            1 | 2 => out.bool(false), // SET, UNSET
            3 => {
                let (program, version, protocol) = (args.u32()?, args.u32()?, args.u32()?);
                args.u32()?; // A port, which the question has no use for.
                out.u32(self.find(program, version, protocol).map_or(0, |found| u32::from(found.port)));
            }
            4 => {
                for entry in &self.registrations {
                    out.bool(true);
                    for word in [entry.program, entry.version, entry.protocol, u32::from(entry.port)] {
                        out.u32(word);
                    }
                }
                out.bool(false);
            }
            _ => return Err(Refused::ProcedureUnavailable),
        }
        Ok(())
    }

    fn rpcbind(
        &self,
        header: &CallHeader,
        args: &mut Decoder,
        local: IpAddr,
        out: &mut Encoder,
    ) -> Result<(), Refused> {
        match header.procedure {
            0 => {}
            1 | 2 => out.bool(false), // SET, UNSET
            3 => self.address(args, local, false, out)?,
            9 if header.version == RPCBIND_4 => self.address(args, local, true, out)?, // GETVERSADDR
            4 => {
                for entry in &self.registrations {
                    out.bool(true);
                    out.u32(entry.program);
                    out.u32(entry.version);
                    out.opaque(network_id(entry.protocol, local));
                    out.opaque(universal_address(local, entry.port).as_bytes());
                    out.opaque(OWNER);
                }
                out.bool(false);
            }
            _ => return Err(Refused::ProcedureUnavailable),
        }
        Ok(())
    }

    /// GETADDR and GETVERSADDR: the universal address of a program, empty where it is not here. GETADDR takes any
    /// version of the program, as RPCBIND does, so that the client learns from the program itself which it speaks.
    fn address(&self, args: &mut Decoder, local: IpAddr, exact: bool, out: &mut Encoder) -> Result<(), Refused> {
        let (program, version) = (args.u32()?, args.u32()?);
        let network = args.opaque(STRING_BYTES_MAX)?;
        args.opaque(STRING_BYTES_MAX)?; // The address that the client used.
        args.opaque(STRING_BYTES_MAX)?; // An owner.
        let protocol = match network {
            b"tcp" | b"tcp6" => TCP,
            b"udp" | b"udp6" => UDP,
            _ => 0,
        };
        let found = if exact {
            let named = |entry: &&Registration| entry.program == program && entry.version == version;
            self.registrations.iter().filter(named).find(|entry| entry.protocol == protocol)
        } else {
            self.find(program, version, protocol)
        };
        let address = found.map(|found| universal_address(local, found.port)).unwrap_or_default();
        out.opaque(address.as_bytes());
        Ok(())
    }

    /// The program in the wanted version, else in any.
    fn find(&self, program: u32, version: u32, protocol: u32) -> Option<&Registration> {
        let mut of_program =
            self.registrations.iter().filter(|entry| entry.program == program && entry.protocol == protocol);
        of_program.clone().find(|entry| entry.version == version).or_else(|| of_program.next())
    }
}

impl Service for Portmap {
    fn call(self: Arc<Self>, record: Bytes, peer: &Peer, _: Timestamp) -> Outcome {
        self.answer(&record, peer.local).map_or(Outcome::Close, |out| Outcome::Reply(out.finish_record()))
    }

    /// Whoever asks where something is has nothing more to say.
    fn knows(&self, _: &Peer) -> bool {
        false
    }
}

fn network_id(protocol: u32, local: IpAddr) -> &'static [u8] {
    match (protocol, local.to_canonical()) {
        (TCP, IpAddr::V4(_)) => b"tcp",
        (TCP, IpAddr::V6(_)) => b"tcp6",
        (_, IpAddr::V4(_)) => b"udp",
        (_, IpAddr::V6(_)) => b"udp6",
    }
}

/// RFC 5665 section 5.2.3: the address, then the port's two bytes, in dots.
fn universal_address(ip: IpAddr, port: u16) -> String {
    let [high, low] = port.to_be_bytes();
    format!("{}.{high}.{low}", ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(version: u32, procedure: u32, arguments: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut call = Encoder::new();
        for word in [77, 0, 2, PORTMAP_PROGRAM, version, procedure, 0, 0, 0, 0] {
            call.u32(word);
        }
        arguments(&mut call);
        let record = call.finish_datagram().to_bytes();
        let local = "10.0.0.5:111".parse().unwrap();
        let answer = Portmap::new(2049).answer(&record, local).unwrap().finish_datagram().to_bytes();
        let accepted: Vec<u8> = [77u32, 1, 0, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
        match answer.strip_prefix(&accepted[..]) {
            Some(results) => results.to_vec(),
            None => answer[20..].to_vec(),
        }
    }

    fn words(words: &[u32]) -> impl FnOnce(&mut Encoder) + '_ {
        |out| words.iter().for_each(|word| out.u32(*word))
    }

    fn rpcb<'a>(program: u32, version: u32, network: &'a [u8]) -> impl FnOnce(&mut Encoder) + 'a {
        move |out| {
            out.u32(program);
            out.u32(version);
            for text in [network, b"", b"me"] {
                out.opaque(text);
            }
        }
    }

    #[test]
    fn ports_are_told() {
        let port = |results: Vec<u8>| u32::from_be_bytes(results.try_into().unwrap());
        assert_eq!(port(ask(2, 3, words(&[NFS_PROGRAM, 3, TCP, 0]))), 2049);
        assert_eq!(port(ask(2, 3, words(&[MOUNT_PROGRAM, 1, TCP, 0]))), 2049);
        assert_eq!(port(ask(2, 3, words(&[NFS_PROGRAM, 4, TCP, 0]))), 2049, "NFS itself says that it is not version 4");
        assert_eq!(port(ask(2, 3, words(&[NFS_PROGRAM, 3, UDP, 0]))), 0);
        assert_eq!(port(ask(2, 3, words(&[NLM_PROGRAM, 4, TCP, 0]))), 2049, "where every lock is refused");
        assert_eq!(port(ask(2, 3, words(&[PORTMAP_PROGRAM, 2, UDP, 0]))), 111);
        assert_eq!(port(ask(2, 1, words(&[9, 9, 9, 9]))), 0, "nothing can be registered");
        assert!(ask(2, 0, words(&[])).is_empty());
    }

    #[test]
    fn addresses_are_told() {
        let text = |results: Vec<u8>| {
            let bytes = Bytes::from(results);
            String::from_utf8(Decoder::new(&bytes).opaque(99).unwrap().to_vec()).unwrap()
        };
        for version in [3, 4] {
            assert_eq!(text(ask(version, 3, rpcb(NFS_PROGRAM, 3, b"tcp"))), "10.0.0.5.8.1");
            assert_eq!(text(ask(version, 3, rpcb(NFS_PROGRAM, 3, b"udp"))), "");
            assert_eq!(text(ask(version, 3, rpcb(NFS_PROGRAM, 3, b"rdma"))), "");
        }
        assert_eq!(text(ask(4, 9, rpcb(NFS_PROGRAM, 4, b"tcp"))), "", "GETVERSADDR is exact");
        assert_eq!(text(ask(4, 9, rpcb(NFS_PROGRAM, 3, b"tcp"))), "10.0.0.5.8.1");
        assert_eq!(universal_address("::1".parse().unwrap(), 2049), "::1.8.1");
        assert!(ask(3, 4, words(&[])).len() > 100);
        assert!(ask(2, 4, words(&[])).len() > 100);
    }

    #[test]
    fn what_it_does_not_do_is_refused() {
        let status = |results: Vec<u8>| results[3];
        assert_eq!(status(ask(2, 5, words(&[1, 2, 3]))), 3, "CALLIT");
        assert_eq!(status(ask(3, 9, rpcb(NFS_PROGRAM, 3, b"tcp"))), 3);
        assert_eq!(status(ask(5, 0, words(&[]))), 2);
        assert_eq!(status(ask(2, 3, words(&[1]))), 4);
        assert!(Portmap::new(1).answer(&Bytes::from_static(b"noise"), "1.1.1.1:1".parse().unwrap()).is_none());
    }
}
