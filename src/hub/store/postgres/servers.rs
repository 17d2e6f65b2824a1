//! Finds the server to use among those of the configuration, and connects to it.
//!
//! A server counts only when it is a primary, keeps what it commits, and is not of an older history than one that was used
//! before: an old primary that comes back after another one was promoted has an older timeline.

use crate::config::hub::Postgres;
use crate::store::model::StoreError;
use crate::store::postgres::error;
use crate::store::postgres::session::{Server, Session};
use crate::store::postgres::tls::Tls;
use crate::store::postgres::wait::wait;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Config, Connection, NoTls, Notification};

/// How long connecting to one server may take.
const CONNECT: Duration = Duration::from_secs(3);

/// What was sent is acknowledged in that time, or the connection is given up.
const USER_TIMEOUT: Duration = Duration::from_secs(8);

/// After all servers have failed, nobody tries again for so long.
const PAUSE: Duration = Duration::from_millis(300);

/// What holds for each session: the server notices soon that its client is gone, and no plan is made for one parameter.
const OPTIONS: &str = "-c client_min_messages=warning -c client_connection_check_interval=2s \
    -c bytea_output=hex -c statement_timeout=10s";

/// The older servers do not know how to check their clients while they work.
const LEAST_VERSION: i32 = 140_000;

/// The servers of the configuration.
pub struct Servers {
    postgres: Postgres,
    /// Drives the connections.
    runtime: Handle,
    /// The newest history that was seen.
    newest: Mutex<Option<Server>>,
    /// Whether the primary waits for a standby.
    has_standby: AtomicBool,
    /// When all of them last failed, and why.
    failed: Mutex<Option<(Instant, String)>>,
}

/// Who hears of what other replicas notify.
pub type Listener = Arc<dyn Fn(Notification) + Send + Sync>;

/// One server, as it was asked.
struct Candidate {
    session: Session,
    name: String,
}

impl Servers {
    /// The servers of `postgres`, with connections that `runtime` drives. `newest`: what was used before.
    pub fn new(postgres: Postgres, runtime: Handle, newest: Option<Server>) -> Servers {
        Servers {
            postgres,
            runtime,
            newest: Mutex::new(newest),
            has_standby: AtomicBool::new(false),
            failed: Mutex::default(),
        }
    }

    /// Whether there are several: then one may be promoted in the place of another.
    fn are_several(&self) -> bool {
        self.postgres.url.get_hosts().len() > 1
    }

    /// Whether the primary waits for a standby, which may take its place.
    pub fn has_standby(&self) -> bool {
        self.has_standby.load(Ordering::Relaxed)
    }

    /// The newest history that was seen.
    pub fn newest(&self) -> Option<Server> {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Believes that `server` is the one to use, whatever was used before.
    pub fn believe(&self, server: Server) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Connects to the primary with the newest timeline.
    pub fn connect(&self, listener: Option<&Listener>) -> Result<Session, StoreError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, why)) = &*failed
            && at.elapsed() < PAUSE
        {
            return Err(StoreError::Unavailable(why.clone()));
        }
        *failed = None;
        drop(failed);
        let tried = self.newest_primary(listener);
        if let Err(StoreError::Unavailable(why)) = &tried {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), why.clone()));
        }
        tried
    }

    fn newest_primary(&self, listener: Option<&Listener>) -> Result<Session, StoreError> {
        let (mut found, mut refused): (Option<Candidate>, Vec<String>) = (None, Vec::new());
        let tls = Tls::read(&self.postgres).map_err(StoreError::Unavailable)?;
        let mut other = None;
        for (name, config) in self.each()? {
            match self.ask(&name, config, &tls, listener) {
                Ok(session) => {
                    let is_newer =
                        found.as_ref().is_none_or(|best| best.session.server.timeline < session.server.timeline);
                    if is_newer {
                        found = Some(Candidate { session, name });
                    }
                }
                Err(StoreError::Unavailable(why)) => refused.push(why),
                Err(error) => other = Some(error),
            }
        }
        let Some(Candidate { session, name }) = found else {
            return Err(other.unwrap_or_else(|| StoreError::Unavailable(refused.join("; "))));
        };
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = *newest
            && before.system == session.server.system
            && before.timeline > session.server.timeline
        {
            return Err(StoreError::Unavailable(format!(
                "`{name}` has the timeline {}, and {} was in use: it is an old primary, end it",
                session.server.timeline, before.timeline
            )));
        }
        if newest.is_none_or(|before| before.system == session.server.system) {
            *newest = Some(session.server);
        }
        Ok(session)
    }

    /// Each server of the URL, by name.
    fn each(&self) -> Result<Vec<(String, Config)>, StoreError> {
        let url = &self.postgres.url;
        let password = match &self.postgres.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    StoreError::Unavailable(format!("`store.postgres.password_file`: {}: {error}", file.display()))
                })?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => None,
        };
        let ports = url.get_ports();
        let one = |(at, host): (usize, &Host)| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            let mut config = Config::new();
            let name = match host {
                Host::Tcp(name) => {
                    config.host(name);
                    format!("{name}:{port}")
                }
                Host::Unix(path) => {
                    config.host_path(path);
                    format!("{}:{port}", path.display())
                }
            };
            let is_local = matches!(host, Host::Unix(_));
            let mode = if self.postgres.tls && !is_local { SslMode::Require } else { SslMode::Disable };
            config.port(port).ssl_mode(mode).connect_timeout(CONNECT).tcp_user_timeout(USER_TIMEOUT);
            config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(3));
            config.keepalives_retries(3).application_name(url.get_application_name().unwrap_or("taskfence-hub"));
            let options = url.get_options().map(|own| format!("{own} {OPTIONS}"));
            config.options(options.unwrap_or_else(|| OPTIONS.to_owned()));
            if let Some(user) = url.get_user() {
                config.user(user);
            }
            if let Some(name) = url.get_dbname() {
                config.dbname(name);
            }
            if let Some(password) = &password {
                config.password(password);
            }
            (name, config)
        };
        Ok(url.get_hosts().iter().enumerate().map(one).collect())
    }

    /// Connects to one server, and checks that it may be used.
    fn ask(&self, name: &str, config: Config, tls: &Tls, listener: Option<&Listener>) -> Result<Session, StoreError> {
        let mut session = self.open(name, config, tls, listener)?;
        let text = "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_setting('fsync'),
            (SELECT system_identifier FROM pg_control_system()),
            CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
            current_setting('synchronous_standby_names')";
        let row = session.row(text, &[]).map_err(|error| match error {
            StoreError::Failed(why) => StoreError::Failed(format!(
                "`{name}` does not say who it is: {why}; use PostgreSQL itself, version 14 or later, and let the role of \
                 the hub execute pg_control_system and pg_walfile_name"
            )),
            StoreError::Unavailable(why) => StoreError::Unavailable(format!("`{name}`: {why}")),
            other => other,
        })?;
        let row = row.ok_or_else(|| StoreError::Failed(format!("`{name}` does not say who it is")))?;
        let refused = |why: &str| Err(StoreError::Failed(format!("`{name}` {why}")));
        if row.try_get::<_, i32>(1)? < LEAST_VERSION {
            return refused("is older than PostgreSQL 14: update it");
        }
        if row.try_get(0)? {
            return Err(StoreError::Unavailable(format!("`{name}` is a standby")));
        }
        if row.try_get::<_, &str>(2)? != "on" {
            return refused("has `fsync` switched off, so what it commits is lost when it crashes: switch it on");
        }
        let has_standby = !row.try_get::<_, &str>(5)?.is_empty();
        if self.are_several() && !has_standby {
            return refused(
                "is one of several in `store.postgres.url` and waits for no standby, so what was answered could be lost \
                 when another one takes over: set `synchronous_standby_names`, or name one server",
            );
        }
        let timeline = row.try_get::<_, Option<&str>>(4)?.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let timeline = timeline.ok_or_else(|| StoreError::Failed(format!("`{name}` does not say its timeline")))?;
        self.has_standby.store(has_standby, Ordering::Relaxed);
        session.server = Server { system: row.try_get::<_, i64>(3)?.cast_unsigned(), timeline };
        Ok(session)
    }

    fn open(&self, name: &str, config: Config, tls: &Tls, listener: Option<&Listener>) -> Result<Session, StoreError> {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let (heard, listener, tls) = (Arc::clone(&notices), listener.cloned(), tls.clone());
        let is_encrypted = config.get_ssl_mode() != SslMode::Disable;
        let runtime = self.runtime.clone();
        let connecting = self.runtime.spawn(async move {
            if is_encrypted {
                let (client, connection) = config.connect(tls).await?;
                Ok((client, runtime.spawn(drive(connection, heard, listener)).abort_handle()))
            } else {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, runtime.spawn(drive(connection, heard, listener)).abort_handle()))
            }
        });
        let abort = connecting.abort_handle();
        let connected: Result<_, tokio_postgres::Error> = match wait(connecting, CONNECT.saturating_mul(2)) {
            Ok(Ok(connected)) => connected,
            Ok(Err(broken)) => return Err(StoreError::Unavailable(format!("`{name}`: {broken}"))),
            Err(_) => {
                abort.abort();
                return Err(StoreError::Unavailable(format!("`{name}` did not answer in {CONNECT:?}")));
            }
        };
        // Whatever is wrong may be right again: a password that is being changed, a server that starts.
        let (client, driver) =
            connected.map_err(|error| StoreError::Unavailable(format!("`{name}`: {}", error::text(&error))))?;
        Ok(Session::new(client, notices, driver, Server::default()))
    }
}

/// Reads and writes one connection until it ends.
async fn drive<S, T>(mut connection: Connection<S, T>, notices: Arc<Mutex<Vec<String>>>, listener: Option<Listener>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                let mut all = notices.lock().unwrap_or_else(PoisonError::into_inner);
                // Nobody may look at them for long.
                if all.len() < 16 {
                    all.push(format!("{} ({})", notice.message(), notice.code().code()));
                }
            }
            Some(Ok(AsyncMessage::Notification(notification))) => {
                listener.iter().for_each(|listener| listener(notification.clone()));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}
