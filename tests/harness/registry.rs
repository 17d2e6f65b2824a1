//! A registry of images in memory, as the distribution specification of OCI has it, and a client that pushes a layout to one
//! and pulls an image from one.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    Error, Result,
    client::{self, Answer, Http, Request},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LIMIT: usize = 1 << 28;

/// What it keeps: blobs by digest; manifests by digest and by tag; and uploads that are not done, by their numbers.
#[derive(Default)]
struct Kept {
    uploads: BTreeMap<String, Vec<u8>>,
    begun: u64,
    blobs: BTreeMap<String, Bytes>,
    manifests: BTreeMap<String, Bytes>,
}

type Shared = Arc<Mutex<Kept>>;

/// A running registry; it stops when dropped.
pub struct Registry {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Registry {
    /// Starts one on a free port of the loopback interface.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::doing("listen"))?;
        let address = listener.local_addr().map_err(Error::doing("listen"))?;
        let routes = Router::new().fallback(answer).layer(DefaultBodyLimit::max(LIMIT)).with_state(Shared::default());
        let task = tokio::spawn(async move {
            // axum answers errors of single connections itself and never returns.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pushes every image of the layout in `folder`, blobs first.
    pub async fn push(&self, folder: &Path, repository: &str) -> Result<()> {
        let index: Value = parse(&read(&folder.join("index.json"))?)?;
        for image in index["manifests"].as_array().into_iter().flatten() {
            let bytes = blob(folder, &image["digest"])?;
            let manifest: Value = parse(&bytes)?;
            let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
            for part in layers.iter().chain([&manifest["config"]]) {
                let begun = self.send(&Request::new("POST", &format!("/v2/{repository}/blobs/uploads/"))).await?;
                let location = begun.header("location").filter(|_| begun.status == 202);
                let location = location.ok_or_else(|| Error::new(format!("POST: {}", begun.line())))?;
                let digest = part["digest"].as_str().unwrap_or_default();
                let put = Request::new("PUT", &format!("{location}?digest={digest}"));
                self.created(&put.body(blob(folder, &part["digest"])?)).await?;
            }
            let tag = image["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or_default();
            let put = Request::new("PUT", &format!("/v2/{repository}/manifests/{tag}"));
            self.created(&put.header("content-type", MANIFEST).body(bytes)).await?;
        }
        Ok(())
    }

    /// The manifest under this tag or digest.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Value> {
        parse(&self.get(&format!("/v2/{repository}/manifests/{reference}")).await?)
    }

    /// A blob, after a look at its digest.
    pub async fn blob(&self, repository: &str, digest: &str) -> Result<Bytes> {
        let bytes = self.get(&format!("/v2/{repository}/blobs/{digest}")).await?;
        match sum(&bytes) == digest {
            true => Ok(bytes),
            false => Err(Error::new(format!("{digest} is {}", sum(&bytes)))),
        }
    }

    async fn get(&self, path: &str) -> Result<Bytes> {
        let answer = self.send(&Request::get(path)).await?;
        match answer.status {
            200 => Ok(answer.body),
            _ => Err(Error::new(format!("GET {path}: {}", answer.line()))),
        }
    }

    async fn created(&self, request: &Request) -> Result<()> {
        let answer = self.send(request).await?;
        match answer.status {
            201 => Ok(()),
            _ => Err(Error::new(format!("{}: {} {}", request.line(), answer.line(), answer.text()))),
        }
    }

    async fn send(&self, request: &Request) -> Result<Answer> {
        client::send(self.address, Http::One, request).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `sha256:` and the sum in hexadecimal.
pub fn sum(bytes: &[u8]) -> String {
    let sum = digest::digest(&digest::SHA256, bytes);
    format!("sha256:{}", sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::doing(path.display()))
}

fn blob(folder: &Path, digest: &Value) -> Result<Vec<u8>> {
    read(&folder.join("blobs").join(digest.as_str().unwrap_or_default().replace(':', "/")))
}

fn parse(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(Error::doing("read JSON"))
}

/// `/v2/`, `/v2/NAME/blobs/uploads/`, `/v2/NAME/blobs/DIGEST` and `/v2/NAME/manifests/REFERENCE`; a name may have slashes.
async fn answer(State(kept): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let path = uri.path();
    let found = |content: Option<&Bytes>, kind: &'static str| match content {
        Some(bytes) => ([("content-type", kind)], bytes.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    };
    let upload = path.rsplit_once("/blobs/uploads/");
    match (method.as_str(), upload, path.rsplit_once("/blobs/"), path.rsplit_once("/manifests/")) {
        ("GET", ..) if path == "/v2/" => StatusCode::OK.into_response(),
        ("POST", Some((name, "")), ..) => {
            kept.begun += 1;
            let number = kept.begun.to_string();
            let location = format!("{name}/blobs/uploads/{number}");
            kept.uploads.insert(number, Vec::new());
            (StatusCode::ACCEPTED, [("location", location)]).into_response()
        }
        ("PATCH", Some((_, number)), ..) => match kept.uploads.get_mut(number) {
            Some(upload) => {
                upload.extend_from_slice(&body);
                let range = format!("0-{}", upload.len().saturating_sub(1));
                (StatusCode::ACCEPTED, [("location", path.to_owned()), ("range", range)]).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
        ("PUT", Some((_, number)), ..) => {
            let Some(mut upload) = kept.uploads.remove(number) else { return StatusCode::NOT_FOUND.into_response() };
            upload.extend_from_slice(&body);
            let digest = uri.query().and_then(|query| query.strip_prefix("digest=")).unwrap_or_default();
            let digest = digest.replace("%3A", ":");
            if sum(&upload) != digest {
                return (StatusCode::BAD_REQUEST, "DIGEST_INVALID").into_response();
            }
            kept.blobs.insert(digest, upload.into());
            StatusCode::CREATED.into_response()
        }
        ("GET" | "HEAD", _, Some((_, digest)), _) => found(kept.blobs.get(digest), "application/octet-stream"),
        ("PUT", _, _, Some((_, reference))) => {
            let Ok(manifest) = serde_json::from_slice::<Value>(&body) else {
                return (StatusCode::BAD_REQUEST, "MANIFEST_INVALID").into_response();
            };
            let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
            let parts = layers.iter().chain([&manifest["config"]]);
            let has = |part: &Value| {
                let bytes = kept.blobs.get(part["digest"].as_str().unwrap_or_default());
                bytes.is_some_and(|bytes| part["size"] == bytes.len())
            };
            if headers.get("content-type").is_none_or(|kind| kind != MANIFEST) || manifest["mediaType"] != MANIFEST {
                return (StatusCode::BAD_REQUEST, "MANIFEST_INVALID").into_response();
            }
            if !parts.into_iter().all(has) {
                return (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").into_response();
            }
            kept.manifests.insert(sum(&body), body.clone());
            kept.manifests.insert(reference.to_owned(), body);
            StatusCode::CREATED.into_response()
        }
        ("GET" | "HEAD", _, _, Some((_, reference))) => found(kept.manifests.get(reference), MANIFEST),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
