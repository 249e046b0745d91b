//! A target with disks in memory, behind real sockets where a test wants them.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::ingest::iscsi::scsi::memory::MemoryDisk;
use crate::ingest::iscsi::scsi::reserve::Reservations;
use crate::ingest::iscsi::scsi::{Device, Disk, Extent, Identity, Keeper, LogicalUnit, Shape};
use crate::ingest::iscsi::{Access, Server, ServerConfig, Target, Targets};

pub const NAME: &str = "iqn.2025-01.org.example:disk";

/// Keeps reservations in memory.
#[derive(Default)]
pub struct Kept(pub Mutex<Vec<u8>>);

impl Keeper for Kept {
    fn keep(&self, state: &[u8]) -> narrowboat_storage::Result<()> {
        *self.0.lock().unwrap() = state.to_vec();
        Ok(())
    }
}

/// How long a disk holds writes up at most, so that a test that fails ends.
const HELD: Duration = Duration::from_secs(30);

/// A disk in memory whose writes and discards can be held up.
#[derive(Default)]
pub struct HeldDisk {
    pub disk: MemoryDisk,
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    holds: bool,
    began: usize,
}

impl HeldDisk {
    pub fn new(size: u64) -> Self {
        HeldDisk { disk: MemoryDisk::new(size), ..HeldDisk::default() }
    }

    /// Holds up every write from now on, or lets them go.
    pub fn hold(&self, holds: bool) {
        self.state.lock().unwrap().holds = holds;
        self.changed.notify_all();
    }

    fn begin(&self) {
        let mut held = self.state.lock().unwrap();
        held.began += 1;
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(held, HELD, |held| held.holds).unwrap());
    }

    /// How many writes began.
    pub fn began(&self) -> usize {
        self.state.lock().unwrap().began
    }

    /// Waits until so many writes began.
    pub fn wait_for(&self, began: usize) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |held| held.began < began).unwrap());
    }
}

impl Disk for HeldDisk {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }
    fn read(&self, offset: u64, len: u64) -> narrowboat_storage::Result<Vec<Bytes>> {
        self.disk.read(offset, len)
    }
    fn write(&self, offset: u64, data: Bytes, stable: bool) -> narrowboat_storage::Result<()> {
        self.begin();
        self.disk.write(offset, data, stable)
    }
    fn discard(&self, ranges: &[(u64, u64)], stable: bool) -> narrowboat_storage::Result<()> {
        self.begin();
        self.disk.discard(ranges, stable)
    }
    fn sync(&self) -> narrowboat_storage::Result<()> {
        self.disk.sync()
    }
    fn extent(&self, offset: u64) -> narrowboat_storage::Result<Extent> {
        self.disk.extent(offset)
    }
}

/// A target with one disk.
pub fn target(disk: Arc<dyn Disk>, shape: Shape, access: Access) -> Arc<Target> {
    let (identity, kept) = (Identity::new([7; 16]), Arc::<Kept>::default());
    let unit = LogicalUnit::new(disk, identity, shape, kept, Reservations::default());
    let device = Arc::new(Device::new([(0, Arc::new(unit))].into(), None));
    Arc::new(Target { name: NAME.into(), alias: "disk".into(), access, device })
}

/// A target with one disk in memory.
pub struct Served {
    pub disk: Arc<MemoryDisk>,
    pub target: Arc<Target>,
    pub portals: Mutex<Vec<SocketAddr>>,
}

impl Served {
    pub fn new(size: u64, shape: Shape, access: Access) -> Arc<Self> {
        let disk = Arc::new(MemoryDisk::new(size));
        let target = target(disk.clone(), shape, access);
        Arc::new(Served { disk, target, portals: Mutex::default() })
    }

    /// Serves on free ports of the loopback interface.
    pub fn serve(self: &Arc<Self>, portals: usize, config: ServerConfig) -> (Server, Vec<SocketAddr>) {
        let listeners: Vec<_> = (0..portals).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        *self.portals.lock().unwrap() = addresses.clone();
        (Server::start(config, self.clone(), listeners).unwrap(), addresses)
    }
}

impl Targets for Served {
    fn list(&self) -> Vec<Arc<Target>> {
        vec![self.target.clone()]
    }
    fn portals(&self) -> Vec<SocketAddr> {
        self.portals.lock().unwrap().clone()
    }
}
