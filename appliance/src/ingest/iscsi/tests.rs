mod conversations;
mod fuzz;
pub(super) mod harness;
mod held;
mod initiator;
#[path = "../../../tests/common/suite.rs"]
mod libiscsi;
mod logins;
mod sockets;
mod suite;
