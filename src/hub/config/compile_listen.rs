//! Compiles `listen`.

use crate::config::hub::Listen;
use crate::config::model::ListenConfig;
use crate::config::problem::Found;
use std::net::{Ipv4Addr, SocketAddr};

/// Where the hub listens if nothing is configured.
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8500);

/// The address, and the certificate that any address but a loopback one needs.
pub(super) fn listen(config: &ListenConfig, found: &mut Found) -> Listen {
    let address = match &config.address {
        None => DEFAULT,
        Some(text) => text.parse().unwrap_or_else(|_| {
            let help = "write an IP address and a port, such as `127.0.0.1:8500` or `[::]:8500`";
            found.error("listen.address", format!("`{text}` is not an address and a port"), help);
            DEFAULT
        }),
    };
    if !address.ip().is_loopback() && config.tls.is_none() {
        let help = "add `listen.tls` with `certificate` and `key`, or listen on `127.0.0.1`";
        let message = format!(
            "`{address}` can be reached from other machines, and there is no `tls`: tokens and signals would be readable"
        );
        found.error("listen.address", message, help);
    }
    if let Some(tls) = &config.tls {
        let files =
            [("certificate", Some(&tls.certificate)), ("key", Some(&tls.key)), ("client_ca", tls.client_ca.as_ref())];
        for (name, file) in files {
            if file.is_some_and(|file| file.as_os_str().is_empty()) {
                found.error(format!("listen.tls.{name}"), "must not be empty", "write the path of a PEM file");
            }
        }
    }
    Listen { address, tls: config.tls.clone() }
}
