//! Signals that a hub verified, stored, and reads again: their entries are derived from them for other spans, other claims
//! or other issuers.

use crate::signal::accepted::Signal;
use crate::signal::effect;
use crate::signal::interpret::interpret;
use crate::signal::set_error::SetError;
use crate::signal::transmitter::Transmitter;
use crate::state::fact::Fact;
use crate::state::key::Kind;
use crate::time::{Span, Timestamp};
use crate::token::issuer::Issuer;
use serde_json::{Map, Value};

/// Reads the `claims` of a SET that was verified for `transmitter` and taken in at `taken_in`: its entries are those that
/// it would have had with the configuration of today.
pub fn interpret_again(
    claims: &Map<String, Value>,
    transmitter: &Transmitter,
    issuers: &[Issuer],
    taken_in: Timestamp,
) -> Result<Signal, SetError> {
    interpret(claims, transmitter, issuers, taken_in)
}

/// How long `fact` about a thing of `kind` is kept in grants of `issuer`, if it stands until another one replaces it: what
/// is known about a device or a risk. `None` for a fact that can end with the tokens that it affects.
pub fn lasting(fact: Fact, kind: Kind, issuer: &Issuer) -> Option<Span> {
    effect::is_lasting(fact, kind).then(|| effect::word_retention(issuer))
}

/// How long a cut-off of all grants of `issuer` is kept.
pub fn cut_off_retention(issuer: &Issuer) -> Span {
    issuer.session_retention()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fact::{Compliance, Risk};
    use crate::testing::fixture;

    #[test]
    fn what_is_about_a_principal_lasts() {
        let issuer = fixture::issuer();
        let month = Span::hours(30 * 24);
        assert_eq!(lasting(Fact::Device(Compliance::NotCompliant), Kind::Device, &issuer), Some(month));
        assert_eq!(lasting(Fact::Risk(Risk::High), Kind::User, &issuer), Some(month));
        assert_eq!(lasting(Fact::Risk(Risk::High), Kind::Session, &issuer), None);
        assert_eq!(lasting(Fact::CutOff, Kind::User, &issuer), None);
        let long = Issuer { max_session: Span::hours(1_000), ..fixture::issuer() };
        assert_eq!(lasting(Fact::Risk(Risk::Low), Kind::User, &long), Some(cut_off_retention(&long)));
    }
}
