//! One access token: how it is verified, and how it must be presented.

pub(crate) mod carriers;
pub mod claim_names;
pub mod claim_path;
pub mod confirmation;
pub mod detail;
pub mod dpop;
pub mod dpop_nonce;
pub mod grant;
pub(crate) mod identifier;
pub mod issuer;
pub mod presentation;
pub(crate) mod subject_id;
pub mod verify;
