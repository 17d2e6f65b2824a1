//! What the receiver needs of the configuration.

use crate::index::{IssuerIndex, TransmitterIndex};
use crate::signal::transmitter::Transmitter;
use crate::state::freshness::TransmitterId;

/// Where signals come from.
#[derive(Debug, Default)]
pub struct Signals {
    pub(crate) path: String,
    pub(crate) transmitters: Vec<Transmitter>,
    /// For each issuer of tokens: the transmitters whose silence makes the state about its grants stale.
    pub(crate) heartbeats: Vec<Vec<TransmitterId>>,
}

impl Signals {
    /// The path that takes SETs.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The transmitters that must have been heard of lately for the state about grants of `issuer`.
    pub fn heartbeats_of(&self, issuer: IssuerIndex) -> &[TransmitterId] {
        issuer.of(&self.heartbeats).map(Vec::as_slice).unwrap_or_default()
    }

    /// The transmitter with that index.
    pub fn transmitter(&self, index: TransmitterIndex) -> Option<&Transmitter> {
        index.of(&self.transmitters)
    }

    /// Who may send them.
    pub fn transmitters(&self) -> &[Transmitter] {
        &self.transmitters
    }
}
