//! Serves a share without a store, to measure what the NFS protocol alone costs: `nfs-null [ADDRESS] [FILE-BYTES]`.
//!
//! Where port 111 is free and allowed it answers there too, for clients that insist on asking a portmapper. At the end
//! of its input it stops and prints what it served and the processor time that took.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use narrowboat::ingest::nfs::null::NullExports;
use narrowboat::ingest::nfs::portmap::{PORTMAP_PORT, Portmap};
use narrowboat::ingest::nfs::rpc::Service;
use narrowboat::ingest::nfs::{HandleKey, Server, ServerConfig, Session};
use narrowboat_storage::units::Timestamp;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:2049".into());
    let file_bytes = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1 << 30);
    let session = Arc::new(Session::new(Arc::new(NullExports::new(file_bytes)), HandleKey::new(b"null")));
    let listener = TcpListener::bind(&address)?;
    let local = listener.local_addr()?;
    let mut streams: Vec<(TcpListener, Arc<dyn Service>)> = vec![(listener, session.clone())];
    let mut datagrams: Vec<(UdpSocket, Arc<dyn Service>)> = Vec::new();
    let portmap = Arc::new(Portmap::new(local.port()));
    let asked = (local.ip(), PORTMAP_PORT);
    if let (Ok(stream), Ok(datagram)) = (TcpListener::bind(asked), UdpSocket::bind(asked)) {
        streams.push((stream, portmap.clone()));
        datagrams.push((datagram, portmap));
    }
    let clock = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::new(since.as_secs() as i64, since.subsec_nanos())
    };
    let server = Server::start(ServerConfig::new(Arc::new(clock)), streams, datagrams)?;
    println!("serving nfs://{local}/share");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for count in session.counts().procedures.iter().filter(|count| count.calls > 0) {
        println!("{:12} {:9} calls {:6} errors", count.name, count.calls, count.errors);
    }
    println!("{:?}", server.status());
    server.stop(Duration::from_secs(1));
    Ok(())
}
