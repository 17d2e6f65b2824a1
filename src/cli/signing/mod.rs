//! Keys, certificates, tokens and signals that the command line signs and sends.

pub mod certificate;
pub mod dpop_proof;
pub mod key;
pub mod push;
pub mod set;
pub mod subject;
