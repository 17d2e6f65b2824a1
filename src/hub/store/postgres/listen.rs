//! Tells other replicas that something has changed, and hears it from them.
//!
//! A notification is sent after the commit and in a transaction of its own: it takes a lock that all databases of a server
//! share, and a revocation must not wait for that. It says nothing but that something has changed, and it may get lost:
//! whoever listens looks on their own, too.

use crate::store::model::StoreError;
use crate::store::postgres::servers::{Listener, Servers};
use crate::store::postgres::session::Session;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Whether the connection still lives is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

/// And asked this often.
const ASK: Duration = Duration::from_secs(5);

/// A listener takes no lock that matters, so it need not be on the disk.
const NOTIFY: &str = "BEGIN; SET LOCAL synchronous_commit = off; NOTIFY taskfence; COMMIT";

/// A thread that tells and hears, until this is dropped.
pub struct Changes {
    tell: SyncSender<()>,
    heard: watch::Receiver<u64>,
}

impl Changes {
    /// Starts the thread.
    pub fn start(servers: Arc<Servers>) -> Result<Changes, StoreError> {
        // One that waits stands for all that come meanwhile.
        let (tell, told) = sync_channel(1);
        let (sender, heard) = watch::channel(0);
        let run = move || run(&servers, &told, &Arc::new(sender));
        let started = thread::Builder::new().name("postgres-listen".to_owned()).spawn(run);
        started.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Changes { tell, heard })
    }

    /// Tells the others, soon.
    pub fn tell(&self) {
        // If it is full, the others will be told anyway.
        _ = self.tell.try_send(());
    }

    /// Changes when another replica tells something.
    pub fn heard(&self) -> watch::Receiver<u64> {
        self.heard.clone()
    }
}

fn run(servers: &Servers, told: &Receiver<()>, heard: &Arc<watch::Sender<u64>>) {
    loop {
        if let Ok(mut session) = open(servers, heard) {
            // What was told before is lost.
            changed(heard);
            if serve(&mut session, told) {
                return;
            }
        }
        match told.recv_timeout(LOOK) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Returns whether the store is gone; otherwise the connection is.
fn serve(session: &mut Session, told: &Receiver<()>) -> bool {
    let mut asked = Instant::now();
    while session.is_usable() {
        let done = match told.recv_timeout(LOOK) {
            Ok(()) => session.batch(NOTIFY),
            Err(RecvTimeoutError::Timeout) if asked.elapsed() < ASK => Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                asked = Instant::now();
                session.batch("SELECT 1")
            }
            Err(RecvTimeoutError::Disconnected) => return true,
        };
        if done.is_err() {
            break;
        }
    }
    false
}

fn open(servers: &Servers, heard: &Arc<watch::Sender<u64>>) -> Result<Session, StoreError> {
    let own = Arc::new(AtomicI32::new(0));
    let listener: Listener = {
        let (own, heard) = (Arc::clone(&own), Arc::clone(heard));
        Arc::new(move |notification| {
            if notification.process_id() != own.load(Ordering::Relaxed) {
                changed(&heard);
            }
        })
    };
    let mut session = servers.connect(Some(&listener))?;
    let row = session.row("SELECT pg_backend_pid()", &[])?;
    own.store(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default(), Ordering::Relaxed);
    session.batch("LISTEN taskfence")?;
    Ok(session)
}

fn changed(heard: &watch::Sender<u64>) {
    heard.send_modify(|count| *count = count.wrapping_add(1));
}
