//! A WebSocket through the sidecar, by tungstenite.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{handshake::client::generate_key, http::Request},
};

use crate::{Error, Result, orders};

/// An open WebSocket.
pub type Socket = WebSocketStream<TcpStream>;

/// Opens one on a connection of its own.
pub async fn open(to: SocketAddr, path: &str, token: &str) -> Result<Socket> {
    let request = Request::get(format!("ws://{}{path}", orders::HOST))
        .header("host", orders::HOST)
        .header("authorization", format!("Bearer {token}"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .body(())
        .map_err(Error::doing("a handshake"))?;
    let stream = TcpStream::connect(to).await.map_err(Error::doing(format!("connect to {to}")))?;
    stream.set_nodelay(true).map_err(Error::doing("set TCP_NODELAY"))?;
    Ok(client_async(request, stream).await.map_err(Error::doing(format!("WebSocket at {path}")))?.0)
}
