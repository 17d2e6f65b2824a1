//! What the judge needs of its host.

use crate::http::connection::Surroundings;
use crate::jose::signature::CheckSignature;
use crate::state::store::Store;

/// All that the judge needs of its host.
pub trait Ports: Store + CheckSignature + Surroundings {}

impl<T: Store + CheckSignature + Surroundings> Ports for T {}
