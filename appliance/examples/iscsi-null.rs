//! Serves a disk without a store, so that the cost of the protocol alone can be measured:
//! `cargo run --release --example iscsi-null -- 127.0.0.1:3260`, then for example
//! `qemu-img bench -f raw -t none -c 10000 -d 16 -s 1M iscsi://127.0.0.1:3260/iqn.2025-01.org.example:null/0`.
//! Ends when standard input does.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use narrowboat::ingest::iscsi::null::NullTargets;
use narrowboat::ingest::iscsi::{Server, ServerConfig};

const NAME: &str = "iqn.2025-01.org.example:null";

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3260".into());
    let portal = TcpListener::bind(address)?;
    println!("serving iscsi://{}/{NAME}/0", portal.local_addr()?);
    let server = Server::start(ServerConfig::default(), Arc::new(NullTargets::new(NAME, 64 << 30)), vec![portal])?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    println!("{:?}", server.status());
    server.stop(Duration::from_secs(1));
    Ok(())
}
