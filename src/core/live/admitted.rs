//! An admitted stream, and the ending of one.

use crate::decision::session::Session;
use crate::decision::verdict::{Permit, Refusal};
use crate::http::host::Host;
use crate::http::path::Canonical;
use crate::http::request::Request;
use crate::index::RuleIndex;
use crate::reason::Reason;
use std::net::IpAddr;
use std::rc::Rc;

/// Everything that is needed to decide about a stream again. It is small, because there may be 100,000 of them.
#[derive(Debug)]
pub struct Admitted {
    rule: RuleIndex,
    pub(crate) session: Rc<Session>,
    line: Line,
    /// The address of the client, if the rule needs it. Few rules do.
    pub(crate) source: Option<Box<IpAddr>>,
    /// The URI in the certificate of the client, if the rule needs it.
    pub(crate) peer: Option<Box<str>>,
    /// Whether the proxy must answer in the form of gRPC.
    pub(crate) grpc: bool,
    /// The reasons that shadow mode has already reported for it: one bit for each of [`Reason::ALL`].
    reported: u64,
}

/// `:method`, `:authority`, `:path` without its query, and `traceparent`, as received, one after the other.
#[derive(Debug, Clone)]
pub struct Line {
    bytes: Box<[u8]>,
    method_len: u32,
    host_len: u32,
    path_len: u32,
}

/// A stream that may not continue.
#[derive(Debug)]
pub struct Ending {
    /// The id that the proxy gave the stream.
    pub stream: u32,
    /// Why it may not continue.
    pub refusal: Refusal,
    /// The request that began it.
    pub line: Line,
    /// Whether the proxy must answer in the form of gRPC.
    pub grpc: bool,
    /// Whether to end it. If not, its rule is in shadow mode: the stream continues, and each reason is reported once.
    pub enforced: bool,
}

impl Admitted {
    /// The stream of `request`, which `permit` admitted. `None` if there is nothing to decide again: no signal affects
    /// a request without a session, and a request that passed only because of shadow mode was not admitted.
    pub fn new(permit: &Permit, request: &Request<'_>) -> Option<Admitted> {
        if permit.shadowed().is_some() {
            return None;
        }
        let path = request.path.split(|byte| *byte == b'?').next().unwrap_or_default();
        Some(Admitted {
            rule: permit.rule()?,
            session: Rc::clone(permit.shared_session()?),
            line: Line::new(request.method, request.authority, path, request.traceparent)?,
            source: permit.source().map(Box::new),
            peer: permit.peer().map(Box::from),
            grpc: request.grpc,
            reported: 0,
        })
    }

    #[cfg(test)]
    pub(crate) fn of(session: Rc<Session>, method: &str, host: &str, path: &str) -> Admitted {
        Admitted {
            rule: RuleIndex::new(0),
            session,
            line: Line::new(method.as_bytes(), host.as_bytes(), path.as_bytes(), b"").unwrap(),
            source: None,
            peer: None,
            grpc: false,
            reported: 0,
        }
    }

    /// The buckets of the state that can hold entries about its session.
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
        let [method, host, path, _] = self.line.parts()?;
        // The judge has parsed this request before, so it parses the same way again.
        let method = std::str::from_utf8(method).unwrap_or_default();
        Some((method, Host::parse(host).ok()?, Canonical::parse(path).ok()?))
    }

    /// The request that began it.
    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// Records that `reason` is reported. Returns whether this is the first time.
    pub(crate) fn is_new(&mut self, reason: Reason) -> bool {
        let bit = Reason::ALL.iter().position(|known| *known == reason).and_then(|at| u32::try_from(at).ok());
        let bit = bit.and_then(|at| 1u64.checked_shl(at)).unwrap_or(1 << 63);
        let new = self.reported & bit == 0;
        self.reported |= bit;
        new
    }
}

impl Line {
    fn new(method: &[u8], authority: &[u8], path: &[u8], traceparent: &[u8]) -> Option<Line> {
        // What has another length is not valid, and is not worth the memory.
        let traceparent = if traceparent.len() == TRACEPARENT { traceparent } else { &[] };
        Some(Line {
            bytes: [method, authority, path, traceparent].concat().into_boxed_slice(),
            method_len: u32::try_from(method.len()).ok()?,
            host_len: u32::try_from(authority.len()).ok()?,
            path_len: u32::try_from(path.len()).ok()?,
        })
    }

    /// `:method`, `:authority`, `:path` without its query, and `traceparent`. Never `None` for a line that was made.
    pub fn parts(&self) -> Option<[&[u8]; 4]> {
        let (method, rest) = self.bytes.split_at_checked(usize::try_from(self.method_len).ok()?)?;
        let (host, rest) = rest.split_at_checked(usize::try_from(self.host_len).ok()?)?;
        let (path, traceparent) = rest.split_at_checked(usize::try_from(self.path_len).ok()?)?;
        Some([method, host, path, traceparent])
    }
}

/// The bytes of a `traceparent` of version 00 (W3C Trace Context §3.2).
const TRACEPARENT: usize = 55;
