//! Every procedure, and what each answers when it cannot do it.

mod attributes;
mod directories;
mod io;
mod locks;
mod mount;
mod names;
mod repeated;
mod snapshots;
