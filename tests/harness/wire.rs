//! A service that remembers every byte that reached it, for tests that nothing reaches a service before the verdict.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{Error, Result};

/// A running service; it lives as long as the process.
pub struct Wire {
    address: SocketAddr,
    bytes: Bytes,
}

type Bytes = Arc<Mutex<Vec<u8>>>;

impl Wire {
    /// Starts one on a free port of the loopback interface.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::doing("listen as the service"))?;
        let address = listener.local_addr().map_err(Error::doing("listen as the service"))?;
        let bytes = Bytes::default();
        let heard = bytes.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let heard = heard.clone();
                thread::spawn(move || listen(connection, &heard));
            }
        });
        Ok(Self { address, bytes })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether these bytes reached it, on whatever connection.
    pub fn heard(&self, part: &str) -> bool {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.windows(part.len()).any(|window| window == part.as_bytes())
    }

    /// The same, for bytes that are on their way.
    pub fn hears(&self, part: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.heard(part) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        self.heard(part)
    }
}

/// Agrees to every upgrade that it is asked for, and then only listens.
fn listen(mut connection: TcpStream, heard: &Bytes) {
    let mut own = Vec::new();
    let mut agreed = false;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = connection.read(&mut buffer) {
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
        own.extend_from_slice(&buffer[..count]);
        if !agreed && own.windows(4).any(|window| window == b"\r\n\r\n") {
            agreed = true;
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            if connection.write_all(answer).is_err() {
                return;
            }
        }
    }
}
