//! Mode pages: MODE SENSE and MODE SELECT (SPC-4 sections 6.11 to 6.14 and 7.5, SBC-3 section 6.5).
//!
//! Three things can be changed, and are what they say at once: whether the write cache is used (WCE), whether writes are
//! refused (SWP), and the format of sense data (D_SENSE). Nothing is saved: a reset brings back what was. Where the unit's
//! shape has no write cache, WCE is 0 and cannot be changed.

use super::cdb::{put, put16, put32, put64};
use super::operations::Call;
use super::{LogicalUnit, Reply, Sense, Shape};

/// What can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// Writes are stable only after SYNCHRONIZE CACHE.
    pub write_cache: bool,
    /// Writes are refused.
    pub write_protect: bool,
    /// Sense data has the format with descriptors.
    pub descriptor_sense: bool,
}

impl Mode {
    /// What a unit of this shape begins with, and goes back to at a reset.
    pub fn of(shape: &Shape) -> Self {
        Mode { write_cache: shape.write_cache, write_protect: false, descriptor_sense: false }
    }
}

/// Saved values are asked for, of which there are none.
const SAVING_UNSUPPORTED: Sense = Sense { code: 0x3900, ..Sense::INVALID_FIELD };

/// Pages by number and subpage; each gives its bytes for a mode.
type Page = (u8, u8, fn(&Mode, &Shape) -> Vec<u8>);

static PAGES: &[Page] = &[
    (0x01, 0, |_, _| page(0x01, 10)),
    (0x02, 0, |_, _| page(0x02, 14)),
    (0x08, 0, |mode, shape| {
        let mut page = page(0x08, 18);
        page[2] = if shape.write_cache && mode.write_cache { 0x04 } else { 0 };
        page
    }),
    (0x0a, 0, |mode, _| {
        let mut page = page(0x0a, 10);
        page[2] = if mode.descriptor_sense { 0x04 } else { 0 };
        page[3] = 0x10; // Tasks may be reordered; the initiator takes care of what depends on what.
        page[4] = if mode.write_protect { 0x08 } else { 0 };
        page[5] = 0x40; // Tasks that another initiator aborts are told as such.
        page
    }),
    (0x1c, 0, |_, _| page(0x1c, 10)),
    (0x1c, 0x02, |_, shape| thresholds(shape)),
];

fn page(number: u8, len: usize) -> Vec<u8> {
    let mut page = vec![0; 2 + len];
    (page[0], page[1]) = (number, len as u8);
    page
}

/// Logical block provisioning mode page (SBC-3 section 6.5.8): one soft threshold, on use, in percent.
fn thresholds(shape: &Shape) -> Vec<u8> {
    let mut page = vec![0x5c, 0x02, 0, 12];
    page.resize(16, 0);
    if shape.threshold_percent > 0 {
        page[3] = 20;
        // Enabled, a percentage, armed by more being used; of what is used.
        page.extend([0x80 | 0x01 << 3 | 0x01, 0x02, 0, 0]);
        page.extend(u32::from(shape.threshold_percent).to_be_bytes());
    }
    page
}

/// Which page, which values, in which header.
struct Wanted {
    page: u8,
    subpage: u8,
    control: u8,
    no_descriptor: bool,
    long_descriptor: bool,
}

fn wanted(call: &Call) -> Wanted {
    let cdb = &call.cdb;
    Wanted {
        page: cdb.u8(2) & 0x3f,
        subpage: cdb.u8(3),
        control: cdb.u8(2) >> 6,
        no_descriptor: cdb.flag(1, 0x08),
        long_descriptor: cdb.opcode() == 0x5a && cdb.flag(1, 0x10),
    }
}

/// The pages that were asked for, one behind the other.
fn pages(unit: &LogicalUnit, wanted: &Wanted) -> Result<Vec<u8>, Sense> {
    let current = unit.state().mode;
    let fits = |(number, subpage, _): &&Page| {
        (wanted.page == 0x3f || wanted.page == *number) && (wanted.subpage == 0xff || wanted.subpage == *subpage)
    };
    let mut all = Vec::new();
    for (_, _, make) in PAGES.iter().filter(fits) {
        let make = |mode: &Mode| make(mode, &unit.shape);
        all.extend(match wanted.control {
            0 => make(&current),
            1 => changeable(&make),
            2 => make(&Mode::of(&unit.shape)),
            _ => return Err(SAVING_UNSUPPORTED),
        });
    }
    if all.is_empty() { Err(Sense::INVALID_FIELD) } else { Ok(all) }
}

/// Ones where bits can be changed: where two modes that differ in everything differ. The page's header stays.
fn changeable(make: &dyn Fn(&Mode) -> Vec<u8>) -> Vec<u8> {
    let one = Mode { write_cache: false, write_protect: false, descriptor_sense: false };
    let other = Mode { write_cache: true, write_protect: true, descriptor_sense: true };
    let (one, other) = (make(&one), make(&other));
    let header = if one.first().is_some_and(|first| first & 0x40 != 0) { 4 } else { 2 };
    let bits = |(at, (one, other)): (usize, (&u8, &u8))| if at < header { *one } else { one ^ other };
    one.iter().zip(&other).enumerate().map(bits).collect()
}

/// The block descriptor (SBC-3 section 6.5.2).
fn descriptor(unit: &LogicalUnit, wanted: &Wanted) -> Vec<u8> {
    if wanted.no_descriptor {
        return Vec::new();
    }
    if wanted.long_descriptor {
        let mut long = vec![0; 16];
        put64(&mut long, 0, unit.blocks());
        put32(&mut long, 12, unit.shape.block_bytes);
        return long;
    }
    let mut short = vec![0; 8];
    put32(&mut short, 0, u32::try_from(unit.blocks()).unwrap_or(u32::MAX));
    let [_, high, mid, low] = unit.shape.block_bytes.to_be_bytes();
    put(&mut short, 5, &[high, mid, low]);
    short
}

/// The device-specific parameter: write protected; DPO and FUA are known.
fn parameter(unit: &LogicalUnit) -> u8 {
    let protected = unit.disk.read_only() || unit.state().mode.write_protect;
    0x10 | if protected { 0x80 } else { 0 }
}

/// MODE SENSE (6).
pub(super) fn sense_6(call: &Call) -> Result<Reply, Sense> {
    let wanted = wanted(call);
    let (descriptor, pages) = (descriptor(call.unit, &wanted), pages(call.unit, &wanted)?);
    let len = 3 + descriptor.len() + pages.len();
    let mut data = vec![len.min(255) as u8, 0, parameter(call.unit), descriptor.len() as u8];
    data.extend(descriptor.into_iter().chain(pages));
    Ok(Reply::data(data, call.cdb.u8(4).into()))
}

/// MODE SENSE (10).
pub(super) fn sense_10(call: &Call) -> Result<Reply, Sense> {
    let wanted = wanted(call);
    let (descriptor, pages) = (descriptor(call.unit, &wanted), pages(call.unit, &wanted)?);
    let mut data = vec![0; 8];
    put16(&mut data, 0, (6 + descriptor.len() + pages.len()) as u16);
    (data[3], data[4]) = (parameter(call.unit), u8::from(wanted.long_descriptor && !wanted.no_descriptor));
    put16(&mut data, 6, descriptor.len() as u16);
    data.extend(descriptor.into_iter().chain(pages));
    Ok(Reply::data(data, call.cdb.u16(7).into()))
}

/// MODE SELECT (6).
pub(super) fn select_6(call: &Call) -> Result<Reply, Sense> {
    let descriptor_len = call.data.get(3).copied().unwrap_or(0).into();
    select(call, call.cdb.u8(4).into(), 4, descriptor_len)
}

/// MODE SELECT (10).
pub(super) fn select_10(call: &Call) -> Result<Reply, Sense> {
    let descriptor_len = super::Cdb(&call.data).u16(6).into();
    select(call, call.cdb.u16(7).into(), 8, descriptor_len)
}

fn select(call: &Call, list_len: usize, header_len: usize, descriptor_len: usize) -> Result<Reply, Sense> {
    let (format, save) = (call.cdb.flag(1, 0x10), call.cdb.flag(1, 0x01));
    if !format || save {
        return Err(Sense::INVALID_FIELD);
    }
    if list_len == 0 {
        return Ok(Reply::good());
    }
    if call.data.len() < header_len.max(list_len) {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let list = call.data.get(header_len..list_len).ok_or(Sense::PARAMETER_LENGTH)?;
    let descriptor = list.get(..descriptor_len).ok_or(Sense::PARAMETER_LENGTH)?;
    let block_bytes = match *descriptor {
        [] => call.unit.shape.block_bytes,
        [_, _, _, _, _, high, mid, low] => u32::from_be_bytes([0, high, mid, low]),
        [.., a, b, c, d] if descriptor.len() == 16 => u32::from_be_bytes([a, b, c, d]),
        _ => return Err(Sense::INVALID_PARAMETER),
    };
    if block_bytes != call.unit.shape.block_bytes {
        return Err(Sense::INVALID_PARAMETER);
    }
    let mut mode = call.unit.state().mode;
    apply(call.unit, &mut mode, list.get(descriptor_len..).unwrap_or_default())?;
    let mut state = call.unit.state();
    if std::mem::replace(&mut state.mode, mode) != mode {
        state.tell_all(Sense::MODE_CHANGED, Some(call.nexus));
    }
    drop(state);
    if !mode.write_cache {
        // What the cache holds becomes stable before anybody is told that there is none. Changes under way see to it
        // themselves ([`LogicalUnit::catch_up`]).
        call.unit.disk.sync().map_err(|error| Sense::of_error(&error, 0))?;
    }
    Ok(Reply::good())
}

/// Takes changed pages. Bits that cannot be changed have to be what they are.
fn apply(unit: &LogicalUnit, mode: &mut Mode, mut list: &[u8]) -> Result<(), Sense> {
    while let [first, second, ..] = *list {
        let long = first & 0x40 != 0;
        let (subpage, header) = if long { (second, 4) } else { (0, 2) };
        let number = first & 0x3f;
        let known = PAGES.iter().find(|(own, sub, _)| (*own, *sub) == (number, subpage));
        let (_, _, make) = known.ok_or(Sense::INVALID_PARAMETER)?;
        let (now, mask) = (make(mode, &unit.shape), changeable(&|mode| make(mode, &unit.shape)));
        let given = list.get(..now.len()).ok_or(Sense::PARAMETER_LENGTH)?;
        // The first bit of a page says whether it can be saved; initiators send back what they read.
        let headed = given[0] & 0x7f == now[0] && given[1..header] == now[1..header];
        let kept = (header..now.len()).all(|at| (given[at] ^ now[at]) & !mask[at] == 0);
        if !headed || !kept {
            return Err(Sense::INVALID_PARAMETER);
        }
        match number {
            0x08 => mode.write_cache = given[2] & 0x04 != 0,
            0x0a => {
                mode.descriptor_sense = given[2] & 0x04 != 0;
                mode.write_protect = given[4] & 0x08 != 0;
            }
            _ => {}
        }
        list = list.get(now.len()..).unwrap_or_default();
    }
    if list.is_empty() { Ok(()) } else { Err(Sense::PARAMETER_LENGTH) }
}
