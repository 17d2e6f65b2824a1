//! An answer of the judge in the form that the client receives, over HTTP or gRPC.

use taskfence_core::decision::answer::Answer;

/// What the client gets. Envoy adds `date`, `server` and `content-length`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAnswer {
    pub status: u16,
    /// Only of a gRPC request.
    pub grpc_status: Option<i32>,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl ClientAnswer {
    /// A gRPC request gets all in one header block, with status 200 (Trailers-Only).
    pub fn new(answer: &Answer, grpc: bool) -> Self {
        let own = answer.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        if !grpc {
            return Self {
                status: answer.status,
                grpc_status: None,
                headers: own.collect(),
                body: answer.body.clone(),
            };
        }
        let mut headers = vec![
            ("content-type".to_owned(), "application/grpc".to_owned()),
            ("grpc-status".to_owned(), answer.grpc_status.to_string()),
            ("grpc-message".to_owned(), answer.body.clone()),
        ];
        headers.extend(own);
        Self { status: 200, grpc_status: Some(answer.grpc_status), headers, body: String::new() }
    }

    /// Status line, headers and body, without what Envoy adds.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("HTTP {}", self.status)];
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        if !self.body.is_empty() {
            lines.extend([String::new(), self.body.clone()]);
        }
        lines
    }
}
