//! One access token: verified, and presented by somebody.

pub mod carriers;
pub mod confirmation;
pub mod detail;
pub mod dpop;
pub mod dpop_nonce;
pub mod grant;
pub(crate) mod identifier;
pub mod issuer;
pub mod presentation;
pub mod subject_id;
pub mod verify;
