//! What the unit says of itself: INQUIRY with its vital product data, capacities, defects (SPC-4 sections 6.6 and 7.8,
//! SBC-3 sections 5.15, 5.16 and 6.6).

use super::cdb::{put, put16, put32, put64};
use super::operations::Call;
use super::provision::{DESCRIPTORS_MAX, SAME_BYTES_MAX, UNMAP_BLOCKS_MAX};
use super::{Cdb, LogicalUnit, Reply, Sense, TRANSFER_BYTES_MAX, compare};

/// The one target port group, and the one port in it, that all portals lead to.
pub(super) const GROUP: u16 = 1;
/// The relative identifier of the port.
pub(super) const PORT: u16 = 1;

/// The names of a unit: they have to stay what they are as long as the volume exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    id: [u8; 16],
    /// Who made it, at most 8 ASCII characters.
    pub vendor: String,
    /// What it is, at most 16 ASCII characters.
    pub product: String,
    /// Which version, at most 4 ASCII characters.
    pub revision: String,
}

impl Identity {
    /// Names a unit after its dataset's id.
    pub fn new(id: [u8; 16]) -> Self {
        let version = env!("CARGO_PKG_VERSION").replace('.', "");
        Identity { id, vendor: "NRWBOAT".into(), product: "VOLUME".into(), revision: version }
    }

    /// The serial number: the id as hexadecimal digits.
    pub fn serial(&self) -> String {
        self.id.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// A name of the format NAA 6 (SPC-4 section 7.8.6.6.6). Nobody assigned a company id to this box, so that the one
    /// here has the bit set by which such ids say that they were chosen locally; the rest is the id.
    pub fn naa_name(&self) -> [u8; 16] {
        let mut name = self.id;
        name[0] = 0x60;
        name[1] = 0x20 | name[1] & 0x0f;
        name
    }

    fn t10_name(&self) -> Vec<u8> {
        let mut name = padded(&self.vendor, 8);
        name.extend(self.serial().bytes());
        name
    }
}

fn padded(text: &str, len: usize) -> Vec<u8> {
    let plain = text.bytes().map(|byte| if byte.is_ascii_graphic() { byte } else { b' ' });
    plain.chain(std::iter::repeat(b' ')).take(len).collect()
}

/// INQUIRY.
pub(super) fn inquiry(call: &Call) -> Result<Reply, Sense> {
    let (unit, cdb) = (call.unit, &call.cdb);
    let allocation = cdb.u16(3).into();
    if !cdb.flag(1, 0x01) {
        return if cdb.u8(2) == 0 { Ok(Reply::data(standard(unit), allocation)) } else { Err(Sense::INVALID_FIELD) };
    }
    let page = cdb.u8(2);
    let body = PAGES.iter().find(|(number, _)| *number == page).ok_or(Sense::INVALID_FIELD)?.1(unit);
    let mut data = vec![0, page, 0, 0];
    put16(&mut data, 2, body.len() as u16);
    data.extend(body);
    Ok(Reply::data(data, allocation))
}

/// INQUIRY of a number that has no unit: peripheral qualifier 3.
pub(super) fn absent(cdb: &Cdb) -> Result<Reply, Sense> {
    if cdb.flag(1, 0x01) || cdb.u8(2) != 0 {
        return Err(Sense::INVALID_FIELD);
    }
    let mut data = vec![0; 36];
    (data[0], data[2], data[3], data[4]) = (0x7f, 6, 2, 31);
    Ok(Reply::data(data, cdb.u16(3).into()))
}

fn standard(unit: &LogicalUnit) -> Vec<u8> {
    let mut data = vec![0; 96];
    data[2] = 6; // SPC-4.
    data[3] = 0x12; // Hierarchical LUNs, response format 2.
    data[4] = 91;
    data[5] = 0x18; // Implicit access states, third-party copies.
    data[6] = 0x10; // Several ports.
    data[7] = 0x02; // Command queueing.
    put(&mut data, 8, &padded(&unit.identity.vendor, 8));
    put(&mut data, 16, &padded(&unit.identity.product, 16));
    put(&mut data, 32, &padded(&unit.identity.revision, 4));
    // SAM-5, SPC-4, SBC-3, iSCSI; no version claimed of any.
    for (number, version) in [0x00a0, 0x0460, 0x04c0, 0x0960].into_iter().enumerate() {
        put16(&mut data, 58 + 2 * number, version);
    }
    data
}

type Page = fn(&LogicalUnit) -> Vec<u8>;

/// Pages of vital product data, in the order of their numbers.
static PAGES: &[(u8, Page)] = &[
    (0x00, |_| PAGES.iter().map(|(number, _)| *number).collect()),
    (0x80, |unit| unit.identity.serial().into_bytes()),
    (0x83, identification),
    (0x86, extended),
    (0xb0, limits),
    (0xb1, characteristics),
    (0xb2, provisioning),
];

/// Device identification (SPC-4 section 7.8.6).
fn identification(unit: &LogicalUnit) -> Vec<u8> {
    let mut page = Vec::new();
    let mut designator = |set: u8, kind: u8, body: &[u8]| {
        page.extend([set, kind, 0, body.len() as u8]);
        page.extend(body);
    };
    designator(0x01, 0x03, &unit.identity.naa_name());
    designator(0x02, 0x01, &unit.identity.t10_name());
    // Of the port: protocol iSCSI, association 1.
    designator(0x51, 0x94, &[0, 0, (PORT >> 8) as u8, PORT as u8]);
    designator(0x51, 0x95, &[0, 0, (GROUP >> 8) as u8, GROUP as u8]);
    page
}

/// Extended INQUIRY data (SPC-4 section 7.8.7).
fn extended(_: &LogicalUnit) -> Vec<u8> {
    let mut page = vec![0; 60];
    page[1] = 0x07; // Head of queue, ordered and simple tasks.
    page[2] = 0x01; // A volatile cache.
    page
}

/// Block limits (SBC-3 section 6.6.4).
fn limits(unit: &LogicalUnit) -> Vec<u8> {
    let block_bytes = unit.block_bytes();
    let most = (TRANSFER_BYTES_MAX / block_bytes) as u32;
    let physical = 1u32 << unit.shape.physical_exponent;
    let mut page = vec![0; 60];
    page[0] = 0x01; // WRITE SAME of no blocks is refused.
    page[1] = compare::BLOCKS_MAX;
    put16(&mut page, 2, physical as u16);
    put32(&mut page, 4, most);
    put32(&mut page, 8, most);
    put32(&mut page, 12, most);
    put32(&mut page, 16, UNMAP_BLOCKS_MAX);
    put32(&mut page, 20, DESCRIPTORS_MAX);
    put32(&mut page, 24, physical);
    put32(&mut page, 28, 0x8000_0000);
    put64(&mut page, 32, SAME_BYTES_MAX / block_bytes);
    // Every write is atomic, so WRITE ATOMIC has no limits of its own; boundaries are not drawn within one.
    put32(&mut page, 40, most);
    page
}

/// Block device characteristics (SBC-3 section 6.6.2): non-rotating.
fn characteristics(_: &LogicalUnit) -> Vec<u8> {
    let mut page = vec![0; 60];
    put16(&mut page, 0, 1);
    page
}

/// Logical block provisioning (SBC-3 section 6.6.5): thin, by all three commands, unmapped blocks read as zeros.
fn provisioning(unit: &LogicalUnit) -> Vec<u8> {
    let threshold = if unit.shape.threshold_percent > 0 { THRESHOLD_EXPONENT } else { 0 };
    vec![threshold, 0xe4, 0x02, 0]
}

/// Thresholds are counted in sets of so many blocks, as a power of two.
const THRESHOLD_EXPONENT: u8 = 11;

/// READ CAPACITY (10).
pub(super) fn capacity_10(call: &Call) -> Result<Reply, Sense> {
    if call.cdb.u32(2) != 0 || call.cdb.flag(8, 0x01) {
        return Err(Sense::INVALID_FIELD);
    }
    let mut data = vec![0; 8];
    put32(&mut data, 0, u32::try_from(call.unit.last_block()).unwrap_or(u32::MAX));
    put32(&mut data, 4, call.unit.shape.block_bytes);
    Ok(Reply::data(data, 8))
}

/// READ CAPACITY (16).
pub(super) fn capacity_16(call: &Call) -> Result<Reply, Sense> {
    let mut data = vec![0; 32];
    put64(&mut data, 0, call.unit.last_block());
    put32(&mut data, 8, call.unit.shape.block_bytes);
    data[13] = call.unit.shape.physical_exponent;
    data[14] = 0xc0; // Thin, and unmapped blocks read as zeros.
    Ok(Reply::data(data, call.cdb.u32(10) as usize))
}

/// READ DEFECT DATA (10): there are none, in whatever format was asked for.
pub(super) fn defects_10(call: &Call) -> Result<Reply, Sense> {
    Ok(Reply::data(vec![0, call.cdb.u8(2) & 0x1f, 0, 0], call.cdb.u16(7).into()))
}

/// READ DEFECT DATA (12).
pub(super) fn defects_12(call: &Call) -> Result<Reply, Sense> {
    Ok(Reply::data(vec![0, call.cdb.u8(1) & 0x1f, 0, 0, 0, 0, 0, 0], call.cdb.u32(6) as usize))
}

impl LogicalUnit {
    /// How many blocks there are.
    pub(super) fn blocks(&self) -> u64 {
        self.disk.size_bytes() / self.block_bytes()
    }

    fn last_block(&self) -> u64 {
        self.blocks().saturating_sub(1)
    }
}
