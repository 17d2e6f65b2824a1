//! `taskfence signal`: pushes signals to the filters. Each subcommand sends one kind of event; the options that all
//! of them share are in [`sending`].

mod assurance;
mod claims;
mod complete;
mod device;
mod narrow;
mod revoke;
mod risk;
mod sending;
mod target;
#[cfg(test)]
mod tests;
mod to_hub;
mod verify;

use clap::Subcommand;

use crate::failure::Failure;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Sign a signal and push it to the filters, which act on it at once
///
/// A signal is a security event token (RFC 8417), pushed as RFC 8935 says. A receiver answers 202 when it has taken
/// it; from then on no request passes that the signal forbids.
#[derive(Debug, Subcommand)]
pub enum Signal {
    Revoke(revoke::Revoke),
    Complete(complete::Complete),
    Device(device::Device),
    Risk(risk::Risk),
    Narrow(narrow::Narrow),
    Assurance(assurance::Assurance),
    Claims(claims::Claims),
    Verify(verify::Verify),
}

impl Signal {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Revoke(revoke) => revoke.sending.send(&revoke.event(), console),
            Self::Complete(complete) => complete.sending.send(&complete.event(), console),
            Self::Device(device) => device.sending.send(&device.event(), console),
            Self::Risk(risk) => risk.sending.send(&risk.event(), console),
            Self::Narrow(narrow) => narrow.sending.send(&narrow.event()?, console),
            Self::Assurance(assurance) => assurance.sending.send(&assurance.event(), console),
            Self::Claims(claims) => claims.sending.send(&claims.event(), console),
            Self::Verify(verify) => verify.sending.send(&verify.event(), console),
        }
    }
}
