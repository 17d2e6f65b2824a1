//! The part of the configuration that the receiver of signals needs.

use crate::index::{IssuerIndex, TransmitterIndex};
use crate::signal::hub_source::HubSource;
use crate::signal::transmitter::Transmitter;
use crate::state::freshness::TransmitterId;

/// The configured sources of signals.
#[derive(Debug, Default)]
pub struct Signals {
    pub(crate) path: String,
    pub(crate) transmitters: Vec<Transmitter>,
    /// For each token issuer: the transmitters that must send regularly; otherwise the state about its grants is stale.
    /// What a hub heard about the issuer counts as one transmitter.
    pub(crate) heartbeats: Vec<Vec<TransmitterId>>,
    pub(crate) hub: Option<HubSource>,
}

impl Signals {
    /// The path that takes SETs.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The transmitters that must have been heard of recently for the state about grants of the issuer with that index
    /// to be fresh.
    pub fn heartbeats_of(&self, issuer: IssuerIndex) -> &[TransmitterId] {
        issuer.of(&self.heartbeats).map(Vec::as_slice).unwrap_or_default()
    }

    /// The hub that the filter follows.
    pub fn hub(&self) -> Option<&HubSource> {
        self.hub.as_ref()
    }

    /// The transmitter with that index.
    pub fn transmitter(&self, index: TransmitterIndex) -> Option<&Transmitter> {
        index.of(&self.transmitters)
    }

    /// The transmitters that may send signals.
    pub fn transmitters(&self) -> &[Transmitter] {
        &self.transmitters
    }
}
