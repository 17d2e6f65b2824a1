//! How a command ends: its exit code, and the error that stopped it.

use std::process::ExitCode;

/// The exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or allowed.
    Done,
    /// The operation failed: a file, the network, a receiver or a signal that was refused, a case that failed.
    Failed,
    /// The request that was asked about is denied.
    Denied,
    /// The configuration, or the file of cases, is bad.
    BadConfig,
    /// The command line is wrong (`EX_USAGE` of sysexits).
    Usage,
}

impl Exit {
    /// The code the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Denied => 2,
            Self::BadConfig => 3,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
