//! What the judge needs of its host.

use crate::http::connection::ConnectionInfo;
use crate::jose::signature::CheckSignature;
use crate::state::store::Store;

/// All that the judge needs of its host.
pub trait Ports: Store + CheckSignature + ConnectionInfo {}

impl<T: Store + CheckSignature + ConnectionInfo> Ports for T {}
