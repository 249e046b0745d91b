//! Who may do what with the box from the page: users, sessions, tokens, and the claim of a box that nobody owns yet.

mod roles;

pub use roles::Role;
