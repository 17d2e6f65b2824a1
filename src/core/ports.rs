//! What the judge and the receiver need of their host.

/// The three parts of the host that a decision may use. A function that needs one part takes that part alone.
///
/// `S` is a [`Store`](crate::state::store::Store), `V` a [`CheckSignature`](crate::jose::signature::CheckSignature), `C`
/// a [`ConnectionInfo`](crate::http::connection::ConnectionInfo).
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports<S, V, C> {
    /// The memory that all workers share.
    pub store: S,
    /// Checks signatures.
    pub signatures: V,
    /// What is known about the connection of the request.
    pub connection: C,
}
