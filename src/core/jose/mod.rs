//! JWS and JWK: parsing, keys and signatures. No policy.

pub mod algorithm;
pub(crate) mod jwk;
pub mod jws;
pub mod key;
pub mod p521_key;
pub(crate) mod pem;
pub(crate) mod raw_signature;
pub mod signature;
pub mod thumbprint;
