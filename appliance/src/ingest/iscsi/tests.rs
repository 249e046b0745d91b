mod conversations;
mod fuzz;
pub(super) mod harness;
mod initiator;
mod logins;
mod sockets;
mod suite;
