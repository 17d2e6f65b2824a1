//! What is asked of SETs of a stream that the hub manages, beyond what core checks: that a push came with the secret that
//! the hub gave to the transmitter, and that a verification is one that the hub asked for.

use crate::config::hub::Feed;
use crate::config::ssf::{Delivery, ManagedStream};
use crate::intake::verification_states;
use crate::store::Store;
use crate::store::model::StoreError;
use serde_json::Value;
use taskfence_core::encoding::digest::sha256;
use taskfence_core::signal::accepted::Signal;
use taskfence_core::signal::event::Type;
use taskfence_core::state::freshness::TransmitterId;

/// Who brought a SET.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bringer<'b> {
    /// A push, by a caller of this name; `None`: with the header that the configuration has.
    Push(Option<&'b str>),
    /// The hub fetched it from the transmitter.
    Poll,
}

/// What is wrong with a SET of a managed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The push did not come with the secret of the stream.
    Secret,
    /// The verification was not asked for.
    State,
}

/// The name of the token that the transmitter of a managed stream pushes with.
pub fn token_name(stream: &ManagedStream) -> String {
    let digest = sha256(stream.key().as_bytes());
    let short = digest.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!("{TOKENS}{}/{short}", stream.feed)
}

/// Whether `name` is that of a token that the hub gave to the transmitter of a managed stream: it is good for pushes of
/// SETs alone, which are signed.
pub fn is_token_of_stream(name: &str) -> bool {
    name.starts_with(TOKENS)
}

const TOKENS: &str = "ssf/";

/// The managed stream that `signal` came in.
pub(super) fn stream_of<'f>(feed: &'f Feed, signal: &Signal) -> Option<&'f ManagedStream> {
    let id = signal.heartbeat().transmitter;
    feed.managed.iter().find(|stream| TransmitterId::new(&stream.name) == id)
}

/// Whether a push of this stream may be of that caller.
pub(super) fn check_bringer(stream: &ManagedStream, bringer: Bringer<'_>) -> Result<(), Fault> {
    match (&stream.delivery, bringer) {
        (Delivery::Push { .. }, Bringer::Push(caller)) if caller != Some(&*token_name(stream)) => Err(Fault::Secret),
        _ => Ok(()),
    }
}

/// The `state` of a verification that has one (SSF 1.0 §8.1.4). `claims` are those of the SET.
pub(super) fn state_of(signal: &Signal, claims: &Value) -> Option<String> {
    if signal.event() != Type::Verification.uri() {
        return None;
    }
    Some(claims.get("events")?.get(signal.event())?.get("state")?.as_str()?.to_owned())
}

/// Whether the state was asked for, which is noted then. Blocks.
pub(super) fn check_state(
    store: &dyn Store,
    stream: &ManagedStream,
    state: &str,
    now: u64,
) -> Result<Result<(), Fault>, StoreError> {
    let is_known = verification_states::hear(store, &stream.key(), state, now)?;
    Ok(if is_known { Ok(()) } else { Err(Fault::State) })
}
