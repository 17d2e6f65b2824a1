//! The body of a page: two pieces of shared bytes, so that entries are never copied for a follower.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The statement with its line feed, then the entries.
#[derive(Debug)]
pub struct PageBody {
    statement: Bytes,
    entries: Bytes,
}

impl PageBody {
    /// A page.
    pub fn new(statement: Bytes, entries: Bytes) -> PageBody {
        PageBody { statement, entries }
    }

    /// Its bytes.
    pub fn length(&self) -> usize {
        self.statement.len().saturating_add(self.entries.len())
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.statement.is_empty() {
            false => std::mem::take(&mut self.statement),
            true => std::mem::take(&mut self.entries),
        };
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.statement.is_empty() && self.entries.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.length()).unwrap_or(u64::MAX))
    }
}
