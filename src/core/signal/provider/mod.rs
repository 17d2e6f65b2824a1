//! What identity providers say to a hub in other ways than by SETs: each becomes the signal that a session, or what a user
//! has been granted, has ended.

pub mod assertion;
pub mod global_revocation;
pub mod logout;

#[cfg(test)]
mod tests;
