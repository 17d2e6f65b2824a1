//! What the receiver needs of the configuration.

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

    /// The transmitters that must have been heard of lately for the state about grants of the issuer at that place.
    pub fn heartbeats_of(&self, issuer: usize) -> &[TransmitterId] {
        self.heartbeats.get(issuer).map(Vec::as_slice).unwrap_or_default()
    }

    /// Who may send them.
    pub fn transmitters(&self) -> &[Transmitter] {
        &self.transmitters
    }
}
