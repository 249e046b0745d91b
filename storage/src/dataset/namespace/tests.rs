//! The namespace over a plain map: the table that every test here uses.

mod table;

use table::Ram;

use super::*;
use crate::dataset::{Call, Create, Credentials, SetAttributes};
use crate::units::Timestamp;

#[test]
fn a_new_share_is_sound_and_takes_a_file() -> Result<()> {
    let mut table = Ram::new(Timestamp(5));
    let call = Call { caller: &Credentials::ROOT, now: Timestamp(9), tag: None };
    let made = table.run(|t| create(t, &call, Inode::ROOT, b"a", &Create::Guarded(SetAttributes::default())))?;
    assert_eq!(lookup(&table, &Credentials::ROOT, Inode::ROOT, b"a")?, made.value.file);
    assert_eq!(check(&table)?, Totals { files: 1, directories: 1, logical_bytes: 0 });
    Ok(())
}
