//! Global token revocations (draft-parecki-oauth-global-token-revocation), as signals.

use crate::intake::service::Intake;
use serde_json::Value;
use taskfence_core::signal::provider::assertion::Way;
use taskfence_core::signal::provider::global_revocation;
use taskfence_core::signal::receiver::Received;
use taskfence_core::signal::set_error::{SetError, SetErrorCode};
use taskfence_core::signal::transmitter::Transmitter;

/// Who asks for a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Whoever signed this JWT.
    Jwt(String),
    /// The one transmitter of the feed that sends revocations: the caller was authenticated as a transmitter.
    Transmitter,
}

impl Intake {
    /// Revokes what the user `sub_id` has been granted until now, in `feed`. The signal is durable when this returns
    /// [`Received::Applied`]. `None`: there is no such feed.
    pub async fn revoke_user(&self, feed: &str, by: &Authority, sub_id: &Value) -> Option<Received> {
        let feed = self.feed(feed)?;
        let way = Way::GlobalRevocation;
        Some(match by {
            Authority::Jwt(jwt) => {
                let jwt = jwt.as_bytes();
                let read = self.take_in_told(feed, way, Some(jwt), |policy, signatures, now| {
                    let transmitters = policy.signals().transmitters();
                    global_revocation::read(jwt, sub_id, transmitters, policy.issuers(), signatures, now)
                });
                read.await
            }
            Authority::Transmitter => {
                let id = uuid::Uuid::new_v4().to_string();
                let read = self.take_in_told(feed, way, None, |policy, _, now| {
                    let transmitter = only(policy.signals().transmitters())?;
                    global_revocation::of_transmitter(id.clone(), sub_id, transmitter, policy.issuers(), now)
                });
                read.await
            }
        })
    }
}

/// The one transmitter that sends revocations.
fn only(transmitters: &[Transmitter]) -> Result<&Transmitter, SetError> {
    let mut senders = transmitters.iter().filter(|one| !one.revocation_audiences.is_empty());
    match (senders.next(), senders.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(SetError {
            code: SetErrorCode::AccessDenied,
            description: "the token does not say which transmitter of the feed the caller is: send a JWT instead, or \
                          have exactly one transmitter with a `revocation_audience`"
                .to_owned(),
            origin: None,
            retry_after: None,
        }),
    }
}
