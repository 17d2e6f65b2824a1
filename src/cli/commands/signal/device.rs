//! `taskfence signal device`: whether a device is compliant.

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, ValueEnum};
use taskfence_core::state::fact::Compliance;

use super::sending::Sending;
use crate::signing::set::{self, Event, Initiator};
use crate::signing::subject::Subject;

/// Say that a device has become compliant, or has ceased to be
///
/// Sends the CAEP event device-compliance-change. Rules that ask for `device` use the latest one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal device --device d7 --status not-compliant --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://127.0.0.1:10001/signals
  taskfence signal device --device d7 --device-issuer https://mdm.example --status compliant \\
      --issuer https://idp.example --audience https://orders.mesh/signals --dry-run")]
pub struct Device {
    /// The device, as the tokens name it
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new(), help_heading = "What happened")]
    device: String,

    /// Who named the device, where that is not the issuer of the tokens
    #[arg(long, value_name = "URI", value_parser = NonEmpty::new(), help_heading = "What happened")]
    device_issuer: Option<String>,

    /// The new status
    #[arg(long, value_enum, help_heading = "What happened")]
    status: Status,

    #[command(flatten)]
    pub sending: Sending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Compliant,
    NotCompliant,
}

impl Status {
    /// The status now, and the one before it: there are only two.
    fn now_and_before(self) -> (Compliance, Compliance) {
        match self {
            Self::Compliant => (Compliance::Compliant, Compliance::NotCompliant),
            Self::NotCompliant => (Compliance::NotCompliant, Compliance::Compliant),
        }
    }
}

impl Device {
    /// What happened.
    pub fn event(&self) -> Event {
        let (now, before) = self.status.now_and_before();
        let details = [("previous_status", before), ("current_status", now)];
        Event {
            kind: set::DEVICE_COMPLIANCE,
            subject: Subject::Device { issuer: self.device_issuer.clone(), id: self.device.clone() },
            initiator: self.sending.initiator.unwrap_or(Initiator::Admin),
            details: details.into_iter().map(|(name, status)| (name.to_owned(), status.as_str().into())).collect(),
        }
    }
}
