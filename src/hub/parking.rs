//! How a request waits without its connection: a handler parks its answer, and what serves the connection gives back the
//! buffers for as long as that takes.

use axum::response::Response;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

/// An answer that is not there yet.
pub type Waiting = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The place for one answer. It is in the extensions of a request whose answer may be parked.
#[derive(Clone, Default)]
pub struct Parking(Arc<Mutex<Option<Waiting>>>);

impl Parking {
    /// Parks `answer`, and never returns: whoever serves the connection drops the handler, takes the answer with
    /// [`Parking::take`] and waits for it. Nothing that the handler would do after that happens.
    pub async fn park(&self, answer: impl Future<Output = Response> + Send + 'static) -> Response {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(answer));
        std::future::pending().await
    }

    /// The answer that was parked.
    pub fn take(&self) -> Option<Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn what_is_parked_can_be_taken_once() {
        let parking = Parking::default();
        assert!(parking.take().is_none());
        assert!(parking.park(async { "later".into_response() }).now_or_never().is_none());
        assert_eq!(parking.take().unwrap().await.status(), 200);
        assert!(parking.take().is_none());
    }
}
