//! A stream that was admitted, and what ends it.

use crate::decision::session::Session;
use crate::decision::verdict::{Permit, Refusal};
use crate::http::host::Host;
use crate::http::path::Canonical;
use crate::http::request::Request;
use crate::index::RuleIndex;
use crate::reason::Reason;
use std::net::IpAddr;
use std::rc::Rc;

/// All that is needed to decide about a stream again. Small: there may be a hundred thousand of them.
#[derive(Debug)]
pub struct Admitted {
    rule: RuleIndex,
    pub(crate) session: Rc<Session>,
    /// `:method`, `:authority` and `:path` without its query, as they came.
    line: Box<[u8]>,
    method_len: u32,
    host_len: u32,
    /// Known where the rule asks for it, which few do.
    pub(crate) source: Option<Box<IpAddr>>,
    /// Likewise.
    pub(crate) peer: Option<Box<str>>,
    /// Whether the proxy answers it as gRPC.
    pub(crate) grpc: bool,
    /// The reasons for which shadow mode has already said that it would have ended it: a bit for each of
    /// [`Reason::ALL`].
    said: u64,
}

/// A stream that may not go on.
#[derive(Debug)]
pub struct Ending {
    /// The number that the proxy gave it.
    pub stream: u32,
    /// Why.
    pub refusal: Refusal,
    /// Whether the proxy answers it as gRPC.
    pub grpc: bool,
    /// Whether to end it. Otherwise it goes on, in shadow mode, and this is said once for each reason.
    pub enforced: bool,
}

impl Admitted {
    /// What `request` was admitted with by `permit`. `None` where there is nothing to decide again: without a session
    /// no signal is about it, and what shadow mode let pass was not admitted.
    pub fn new(permit: &Permit, request: &Request<'_>) -> Option<Admitted> {
        if permit.shadowed().is_some() {
            return None;
        }
        let path = request.path.split(|byte| *byte == b'?').next().unwrap_or_default();
        Some(Admitted {
            rule: permit.rule()?,
            session: Rc::clone(permit.shared_session()?),
            line: [request.method, request.authority, path].concat().into_boxed_slice(),
            method_len: u32::try_from(request.method.len()).ok()?,
            host_len: u32::try_from(request.authority.len()).ok()?,
            source: permit.source().map(Box::new),
            peer: permit.peer().map(Box::from),
            grpc: request.grpc,
            said: 0,
        })
    }

    #[cfg(test)]
    pub(crate) fn of(session: Rc<Session>, method: &str, host: &str, path: &str) -> Admitted {
        Admitted {
            rule: RuleIndex::new(0),
            session,
            line: format!("{method}{host}{path}").into_bytes().into_boxed_slice(),
            method_len: u32::try_from(method.len()).unwrap(),
            host_len: u32::try_from(host.len()).unwrap(),
            source: None,
            peer: None,
            grpc: false,
            said: 0,
        }
    }

    /// The buckets of the state that its session is in.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = u16> {
        self.session.buckets().iter().copied()
    }

    pub(crate) fn rule(&self) -> RuleIndex {
        self.rule
    }

    pub(crate) fn refusal(&self, reason: Reason) -> Refusal {
        Refusal { rule: Some(self.rule()), ..Refusal::new(reason).about(&self.session) }
    }

    pub(crate) fn request(&self) -> Option<(&str, Host<'_>, Canonical<'_>)> {
        let (method, rest) = self.line.split_at_checked(usize::try_from(self.method_len).ok()?)?;
        let (host, path) = rest.split_at_checked(usize::try_from(self.host_len).ok()?)?;
        // What the judge has read once reads the same again.
        let method = std::str::from_utf8(method).unwrap_or_default();
        Some((method, Host::parse(host).ok()?, Canonical::parse(path).ok()?))
    }

    /// Whether `reason` is said for the first time.
    pub(crate) fn is_new(&mut self, reason: Reason) -> bool {
        let bit = Reason::ALL.iter().position(|known| *known == reason).and_then(|at| u32::try_from(at).ok());
        let bit = bit.and_then(|at| 1u64.checked_shl(at)).unwrap_or(1 << 63);
        let new = self.said & bit == 0;
        self.said |= bit;
        new
    }
}
