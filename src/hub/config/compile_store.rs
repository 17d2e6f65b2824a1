//! Compiles `store`.

use crate::config::hub::Postgres;
use crate::config::model::PostgresConfig;
use crate::config::problem::Found;
use std::net::IpAddr;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// What a URL may say about TLS. The certificate is always verified, so the last three mean the same.
const MODES: [(&str, bool); 5] =
    [("disable", false), ("prefer", true), ("require", true), ("verify-ca", true), ("verify-full", true)];

/// The database. Errors name what is wrong with the URL; a URL may have a secret in it, so they never repeat it.
pub(super) fn postgres(config: &PostgresConfig, found: &mut Found) -> Option<Postgres> {
    const PATH: &str = "store.postgres.url";
    for (name, file) in [("password_file", &config.password_file), ("ca", &config.ca)] {
        if file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            found.error(format!("store.postgres.{name}"), "must not be empty", "write the path of a file");
        }
    }
    let (text, mode) = match split_mode(&config.url) {
        Ok(split) => split,
        Err(mode) => {
            let known: Vec<_> = MODES.iter().map(|(name, _)| *name).collect();
            found.error(PATH, format!("has the sslmode `{mode}`"), format!("known: `{}`", known.join("`, `")));
            return None;
        }
    };
    let mut url: Config = match text.parse() {
        Ok(url) => url,
        Err(error) => {
            let help = "write `postgresql://USER@HOST:5432/DATABASE`";
            found.error(PATH, format!("is not the URL of a database: {}", why(&error)), help);
            return None;
        }
    };
    if url.get_password().is_some() {
        found.error(PATH, "has a password in it", "write the password into a file, and name that in `password_file`");
    }
    if url.get_user().is_none() || url.get_dbname().is_none() || url.get_hosts().is_empty() {
        found.error(PATH, "lacks a user, a host or a database", "write `postgresql://USER@HOST:5432/DATABASE`");
    }
    let is_remote = url.get_hosts().iter().any(is_remote);
    let tls = mode.unwrap_or(is_remote || config.ca.is_some());
    if is_remote && !tls {
        let help = "remove `sslmode=disable`, and name the authority of the database in `ca`";
        found.error(PATH, "sends signals and tokens over the network without TLS", help);
    }
    if config.ca.is_some() && !tls {
        found.error("store.postgres.ca", "has no effect with `sslmode=disable`", "remove one of the two");
    }
    url.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
    Some(Postgres { url, password_file: config.password_file.clone(), ca: config.ca.clone(), tls })
}

/// The URL without `sslmode`, and whether that asks for TLS. An unknown mode is the error.
fn split_mode(url: &str) -> Result<(String, Option<bool>), String> {
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let (mut kept, mut mode) = (Vec::new(), None);
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", name)) => {
                let known = MODES.iter().find(|(known, _)| *known == name);
                mode = Some(known.ok_or_else(|| name.to_owned())?.1);
            }
            // Every connection asks for that.
            Some(("target_session_attrs", "read-write")) => {}
            _ => kept.push(pair),
        }
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Ok((format!("{base}{query}"), mode))
}

/// Whether others can read what is sent to it.
fn is_remote(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => false,
    }
}

fn why(error: &tokio_postgres::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(url: &str, ca: Option<&str>) -> (Option<Postgres>, Vec<String>) {
        let mut found = Found::default();
        let config = PostgresConfig { url: url.to_owned(), password_file: None, ca: ca.map(Into::into) };
        let postgres = postgres(&config, &mut found);
        (postgres, found.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted() {
        for (url, ca, tls) in [
            ("postgresql://hub@127.0.0.1:5432/taskfence", None, false),
            ("postgresql://hub@localhost/taskfence?sslmode=require", None, true),
            ("postgresql://hub@%2Fvar%2Frun%2Fpostgresql/taskfence", None, false),
            ("postgresql://hub@127.0.0.1/taskfence", Some("/ca.pem"), true),
            ("postgresql://hub@db1.example:5432,db2.example:5433/taskfence", None, true),
            ("postgresql://hub@db.example/taskfence?sslmode=verify-full&target_session_attrs=read-write", None, true),
        ] {
            let (postgres, errors) = compiled(url, ca);
            assert_eq!((postgres.map(|one| one.tls), errors), (Some(tls), Vec::new()), "{url}");
        }
    }

    #[test]
    fn errors_name_the_remedy_and_never_the_url() {
        for (url, ca, wanted) in [
            ("postgresql://hub:secret@127.0.0.1/taskfence", None, "has a password in it"),
            ("postgresql://hub@db.example/taskfence?sslmode=disable", None, "without TLS"),
            ("postgresql://hub@127.0.0.1/taskfence?sslmode=disable", Some("/ca.pem"), "has no effect"),
            ("postgresql://hub@127.0.0.1/taskfence?sslmode=maybe", None, "the sslmode `maybe`"),
            ("postgresql://127.0.0.1/taskfence", None, "lacks a user"),
            ("mysql://hub:secret@127.0.0.1/taskfence", None, "is not the URL of a database"),
        ] {
            let (_, errors) = compiled(url, ca);
            assert!(errors.len() == 1 && errors[0].contains(wanted), "{url}: {errors:?}");
            assert!(!errors[0].contains("secret"), "{errors:?}");
        }
    }
}
