//! A gate between a proxy and its hub: what comes waits until it is opened. So the time from then on is the time that
//! catching up takes, without that of starting the proxy.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

use crate::{Error, Result};

/// A running relay; it ends when dropped.
pub struct Relay {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: AbortHandle,
}

impl Relay {
    /// Listens for connections to `hub`, and holds them.
    pub async fn start(hub: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::doing("listen as a relay"))?;
        let address = listener.local_addr().map_err(Error::doing("listen as a relay"))?;
        let (open, opened) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let mut opened = opened.clone();
                tokio::spawn(async move {
                    if opened.wait_for(|open| *open).await.is_ok() {
                        let _ = copy(from, hub).await;
                    }
                });
            }
        });
        Ok(Self { address, open, task: task.abort_handle() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets through what waits, and what comes.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(mut from: TcpStream, hub: SocketAddr) -> std::io::Result<()> {
    let mut to = TcpStream::connect(hub).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    copy_bidirectional(&mut from, &mut to).await.map(drop)
}
