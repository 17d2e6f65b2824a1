//! PostgreSQL servers for tests: started by the test as a user that is not root, on a free port, with their data in a folder
//! of their own. They end with the process of the test, however that ends.
//!
//! The unit tests of the hub use this file too, so it needs nothing but the standard library.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Where Debian has the programs, the newest first; `TASKFENCE_POSTGRES_BIN` names another folder.
const FOLDERS: [&str; 5] = [
    "/usr/lib/postgresql/18/bin",
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/postgresql/14/bin",
];

/// The user that runs the server where the test is root.
const USER: &str = "postgres";

/// The role of the hub; it may do everything.
pub const ROLE: &str = "hub";

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// Runs a server until its own standard input ends, and removes its folder where the second argument says so.
const KEEPER: &str = r#"
"$3" -D "$1" >>"$1/server.log" 2>&1 &
server=$!
read -r line
kill -INT $server 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $server 2>/dev/null || break; sleep 0.2; done
kill -KILL $server 2>/dev/null
if [ "$2" = remove ] && [ "$line" != keep ]; then rm -rf "$1"; fi
"#;

/// The folder of the programs; `None`: PostgreSQL is not installed, and the tests that need it are skipped.
pub fn programs() -> Option<PathBuf> {
    let named = std::env::var_os("TASKFENCE_POSTGRES_BIN").map(PathBuf::from);
    named.into_iter().chain(FOLDERS.map(PathBuf::from)).find(|folder| folder.join("initdb").exists())
}

/// The URL of a new, empty database on the server that all tests of this process share; `None`: PostgreSQL is not there,
/// which is told by the name of the test.
pub fn database(test: &str) -> Option<String> {
    static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Some(server) = SHARED.get_or_init(|| programs().map(|_| Postgres::start())) else {
        eprintln!("skipped: {test}: PostgreSQL is not installed");
        return None;
    };
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    server.run("postgres", &format!("CREATE DATABASE {name}"));
    Some(server.url(&name))
}

/// Runs SQL in the database of a URL, and returns what it prints.
pub fn run(url: &str, sql: &str) -> String {
    let mut command = Command::new(programs().unwrap().join("psql"));
    command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A server.
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    keeper: Option<Child>,
}

impl Postgres {
    /// Starts a new, empty server.
    pub fn start() -> Postgres {
        let folder = folder();
        command("initdb", &["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-U", ROLE, "-D"], &folder);
        let mut server = Postgres { folder, port: free_port(), keeper: None };
        server.configure(
            "listen_addresses = '127.0.0.1'\nshared_buffers = 32MB\nmax_connections = 100\nwal_level = replica\n\
             max_wal_senders = 4\nautovacuum_naptime = 10s\n",
        );
        server.configure(&format!("port = {}\nunix_socket_directories = '{}'\n", server.port, server.folder.display()));
        server.resume();
        server
    }

    /// A standby of this server, which follows it under the name `standby`.
    pub fn standby(&self) -> Postgres {
        let folder = folder();
        let source = format!("host=127.0.0.1 port={} user={ROLE} application_name=standby", self.port);
        command(
            "pg_basebackup",
            &["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-d", &source, "-D"],
            &folder,
        );
        let mut standby = Postgres { folder, port: free_port(), keeper: None };
        standby.configure(&format!(
            "port = {}\nunix_socket_directories = '{}'\n",
            standby.port,
            standby.folder.display()
        ));
        standby.resume();
        standby
    }

    /// Adds lines to its configuration. They count from the next start, or from [`Postgres::reload`].
    pub fn configure(&self, lines: &str) {
        let path = self.folder.join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    /// Writes a file into its folder that it owns and nobody else may read.
    pub fn own_file(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        drop(fs::remove_file(&path));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give(&path);
    }

    /// Makes it read its configuration again.
    pub fn reload(&self) {
        self.run("postgres", "SELECT pg_reload_conf()");
    }

    /// The URL of a database, for the role [`ROLE`].
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    /// Its port on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, with `server.log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs SQL in a database, and returns what it prints: the columns with `|` between.
    pub fn run(&self, database: &str, sql: &str) -> String {
        self.try_run(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same; what the server says where it fails.
    pub fn try_run(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self.client("psql", &["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs a program of PostgreSQL against this server, such as `pg_dump`.
    pub fn client(&self, program: &str, arguments: &[&str]) -> Output {
        let port = self.port.to_string();
        let mut command = Command::new(programs().unwrap().join(program));
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", ROLE]).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Kills all its processes, as a crash does: one that is left could still answer.
    pub fn kill(&mut self) {
        self.signal_all("-KILL");
        self.end("keep");
    }

    /// Ends it, as an operator does. Its folder stays.
    pub fn stop(&mut self) {
        self.end("keep");
    }

    /// Stops all its processes where they stand, until [`Postgres::wake`]: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        self.signal_all("-STOP");
    }

    /// Lets them go on.
    pub fn wake(&self) {
        self.signal_all("-CONT");
    }

    /// Makes a standby the primary of a new timeline.
    pub fn promote(&self) {
        self.run("postgres", "SELECT pg_promote(true, 60)");
    }

    /// Starts it again.
    pub fn resume(&mut self) {
        let mut keeper = Command::new("sh");
        let program = programs().unwrap().join("postgres");
        // A server whose memory is still being freed refuses to start for a moment.
        let begin = Instant::now();
        while self.keeper.is_none() {
            keeper = as_user(Path::new("sh"));
            keeper.args(["-c", KEEPER, "keeper"]).arg(&self.folder).arg("remove").arg(&program);
            let mut child = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            while begin.elapsed() < START {
                if self.try_run("postgres", "SELECT 1").is_ok() {
                    self.keeper = Some(child);
                    return;
                }
                thread::sleep(Duration::from_millis(50));
                if !self.folder.join("postmaster.pid").exists() && begin.elapsed() > Duration::from_secs(2) {
                    break;
                }
            }
            drop(child.stdin.take().map(|mut input| input.write_all(b"keep\n")));
            drop(child.wait());
            if begin.elapsed() >= START {
                let log = fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
                panic!("PostgreSQL does not start: {log}");
            }
        }
        drop(keeper);
    }

    fn end(&mut self, how: &str) {
        if let Some(mut keeper) = self.keeper.take() {
            if let Some(mut input) = keeper.stdin.take() {
                drop(writeln!(input, "{how}"));
            }
            drop(keeper.wait());
        }
    }

    fn pid(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("postmaster.pid")).ok()?;
        text.lines().next().map(str::to_owned)
    }

    fn signal_all(&self, signal: &str) {
        let Some(pid) = self.pid() else { return };
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &pid]).output().unwrap();
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        let all = std::iter::once(pid.as_str()).chain(children.split_whitespace());
        drop(Command::new("kill").arg(signal).args(all).status());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.wake();
        }
        self.end("remove");
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A new folder that the user of the server owns.
fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("taskfence-postgres-{}-{count}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    give(&folder);
    folder
}

/// Gives a file to the user of the server.
fn give(path: &Path) {
    if is_root() {
        let status = Command::new("chown").arg(format!("{USER}:")).arg(path).status().unwrap();
        assert!(status.success(), "there is no user `{USER}`");
    }
}

/// Runs a program of PostgreSQL as the user of the server, with `folder` as the last argument.
fn command(program: &str, arguments: &[&str], folder: &Path) {
    let output = as_user(&programs().unwrap().join(program)).args(arguments).arg(folder).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A command as the user of the server: it refuses to run as root.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new(if is_root() { Path::new("setpriv") } else { program });
    if is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
    }
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
