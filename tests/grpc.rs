//! A gRPC service whose messages are bytes, by tonic on both sides, without a description to compile.

use std::{pin::Pin, time::Duration};

use axum::{Extension, body::Body, extract::Request, http};
use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt};
use tonic::{
    Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{ClientStreamingService, Grpc, ServerStreamingService, StreamingService},
};

use crate::services::{One, Open, numbers};

/// Server stream: a number every 10 ms.
pub const WATCH: &str = "/live.Live/Watch";
/// Client stream: answers with the number of messages when there are no more.
pub const COLLECT: &str = "/live.Live/Collect";
/// Both ways: sends back what it gets.
pub const TALK: &str = "/live.Live/Talk";

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

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type Pending<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;
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
