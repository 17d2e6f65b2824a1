//! A gRPC service whose messages are bytes, by tonic on both sides, without a description to compile.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::Request,
    http::{self, uri::PathAndQuery},
};
use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt};
use tonic::{
    Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{ClientStreamingService, Grpc, ServerStreamingService, StreamingService},
    transport::Channel,
};

use crate::{
    Error, Result,
    services::{One, Open, numbers},
};

/// Server stream: a number every 10 ms.
pub const WATCH: &str = "/live.Live/Watch";
/// Client stream: answers with the number of messages when there are no more.
pub const COLLECT: &str = "/live.Live/Collect";
/// Both ways: sends back what it gets.
pub const TALK: &str = "/live.Live/Talk";

/// What a call comes to.
pub type Said<T> = std::result::Result<T, Status>;

/// Messages as they are.
#[derive(Clone, Copy, Default)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Said<()> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Said<Option<Bytes>> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Said<Bytes>> + Send>>;
type Pending<T> = Pin<Box<dyn Future<Output = Said<tonic::Response<T>>> + Send>>;
type Answer = http::Response<tonic::body::Body>;

struct Service(Option<One>);

pub(crate) async fn watch(Extension(open): Extension<Open>, request: Request<Body>) -> Answer {
    Grpc::new(Plain).server_streaming(Service(Some(open.one_more())), request).await
}

pub(crate) async fn collect(Extension(open): Extension<Open>, request: Request<Body>) -> Answer {
    Grpc::new(Plain).client_streaming(Service(Some(open.one_more())), request).await
}

pub(crate) async fn talk(Extension(open): Extension<Open>, request: Request<Body>) -> Answer {
    Grpc::new(Plain).streaming(Service(Some(open.one_more())), request).await
}

impl ServerStreamingService<Bytes> for Service {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Pending<Messages>;

    fn call(&mut self, _: tonic::Request<Bytes>) -> Self::Future {
        let one = self.0.take();
        Box::pin(async move {
            let numbers = numbers(Duration::from_millis(10)).map(move |number| {
                let _ = &one;
                Ok(Bytes::from(number.to_string()))
            });
            Ok(tonic::Response::new(Box::pin(numbers) as Messages))
        })
    }
}

impl ClientStreamingService<Bytes> for Service {
    type Response = Bytes;
    type Future = Pending<Bytes>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let one = self.0.take();
        Box::pin(async move {
            let _one = one;
            let count = request.into_inner().filter(|message| std::future::ready(message.is_ok())).count().await;
            Ok(tonic::Response::new(Bytes::from(count.to_string())))
        })
    }
}

impl StreamingService<Bytes> for Service {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Pending<Messages>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let one = self.0.take();
        Box::pin(async move {
            let echo = request.into_inner().inspect(move |_| {
                let _ = &one;
            });
            Ok(tonic::Response::new(Box::pin(echo) as Messages))
        })
    }
}

/// A client of the service, with one token on one connection.
#[derive(Clone)]
pub struct Client {
    grpc: tonic::client::Grpc<Channel>,
    token: String,
}

impl Client {
    /// Connects.
    pub async fn open(to: SocketAddr, token: &str) -> Result<Self> {
        let channel = Channel::from_shared(format!("http://{to}")).map_err(Error::doing("an address"))?;
        let channel = channel.connect().await.map_err(Error::doing(format!("connect to {to}")))?;
        Ok(Self { grpc: tonic::client::Grpc::new(channel), token: token.to_owned() })
    }

    /// The same connection with another token.
    pub fn with(&self, token: &str) -> Self {
        Self { grpc: self.grpc.clone(), token: token.to_owned() }
    }

    /// Server stream.
    pub async fn watch(&mut self) -> Said<Streaming<Bytes>> {
        self.ready().await?;
        let request = self.request(Bytes::new());
        Ok(self.grpc.server_streaming(request, PathAndQuery::from_static(WATCH), Plain).await?.into_inner())
    }

    /// Client stream.
    pub async fn collect(&mut self, messages: impl Stream<Item = Bytes> + Send + 'static) -> Said<Bytes> {
        self.ready().await?;
        let request = self.request(messages);
        Ok(self.grpc.client_streaming(request, PathAndQuery::from_static(COLLECT), Plain).await?.into_inner())
    }

    /// Both ways.
    pub async fn talk(&mut self, messages: impl Stream<Item = Bytes> + Send + 'static) -> Said<Streaming<Bytes>> {
        self.ready().await?;
        let request = self.request(messages);
        Ok(self.grpc.streaming(request, PathAndQuery::from_static(TALK), Plain).await?.into_inner())
    }

    async fn ready(&mut self) -> Said<()> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let value = format!("Bearer {}", self.token).parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", value);
        request
    }
}
