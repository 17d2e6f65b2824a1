//! Which handler serves which path and method of the transmitter. [`ALL`] is compared with `/openapi.json` in a test.

use crate::streams::service::Streams;
use crate::streams::{management, metadata, paths, poll, status, subjects, verification};
use axum::Router;
use axum::routing::{get, post};

/// A path with its method, in lower case as OpenAPI has it.
pub const ALL: [(&str, &str); 13] = [
    ("get", paths::METADATA),
    ("get", paths::KEYS),
    ("get", paths::STREAMS),
    ("post", paths::STREAMS),
    ("patch", paths::STREAMS),
    ("put", paths::STREAMS),
    ("delete", paths::STREAMS),
    ("get", paths::STATUS),
    ("post", paths::STATUS),
    ("post", paths::VERIFICATION),
    ("post", paths::ADD_SUBJECT),
    ("post", paths::REMOVE_SUBJECT),
    ("post", paths::POLL),
];

/// What anybody may read.
pub fn open_router(streams: Streams) -> Router {
    Router::new()
        .route(paths::METADATA, get(metadata::metadata))
        .route(paths::KEYS, get(metadata::keys))
        .with_state(streams)
}

/// What receivers may use. Requests come with a principal in their extensions.
pub fn router(streams: Streams) -> Router {
    let configuration = get(management::read)
        .post(management::create)
        .patch(management::update)
        .put(management::replace)
        .delete(management::delete);
    Router::new()
        .route(paths::STREAMS, configuration)
        .route(paths::STATUS, get(status::read).post(status::set))
        .route(paths::VERIFICATION, post(verification::verify))
        .route(paths::ADD_SUBJECT, post(subjects::add))
        .route(paths::REMOVE_SUBJECT, post(subjects::remove))
        .route(paths::POLL, post(poll::poll))
        .with_state(streams)
}
