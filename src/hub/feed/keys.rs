//! The keys of a hub, and their rotation: those for statements, and those for the SETs that it sends as a transmitter.
//!
//! In the directory `keys` of the hub's data: `feed-KID.pem` (PKCS#8 in PEM, mode 0600), one for each key, and
//! `feed-current` with the `kid` of the key that signs. The first start makes a key. Those for SETs begin with `set-`.
//!
//! A rotation has three steps. [`Keys::prepare`] makes a key, which is published with the others. Filters get it with
//! their configuration. [`Keys::switch`] signs with it: only when every live follower reports its `kid`, unless forced.
//! [`Keys::retire`] removes the old one. An operator does this on the host of the hub, by a process of its own; a hub that
//! runs sees it by [`Keys::refresh`].

use crate::feed::locked;
use crate::feed::signer::{BadKey, NotSigned, SigningKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use taskfence_core::feed::statement::Statement;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// There are at most this many keys at once. More mean that old ones were not retired.
const MAX_KEYS: usize = 4;

/// The keys for statements.
pub type Keys = KeyRing<SigningKey>;

/// A private key of a kind that is rotated.
pub trait PrivateKey: Sized {
    /// What the names of the files of these keys begin with.
    const PREFIX: &'static str;

    /// A new key as PKCS#8 in DER.
    fn generate() -> Result<Vec<u8>, BadKey>;

    /// Reads PKCS#8 in DER.
    fn from_pkcs8(der: &[u8]) -> Result<Self, BadKey>;

    /// The thumbprint of the key (RFC 7638), base64url.
    fn kid(&self) -> &str;

    /// The public key as a JWK.
    fn jwk(&self) -> &Value;
}

/// All keys of one kind.
#[derive(Debug)]
pub struct KeyRing<K> {
    directory: PathBuf,
    ring: Mutex<Ring<K>>,
    signed: AtomicU64,
}

#[derive(Debug)]
struct Ring<K> {
    current: Arc<K>,
    /// All keys, also the current one, sorted by `kid`.
    all: Vec<Arc<K>>,
}

/// Why the keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error("cannot use `{}`: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file does not hold the key that its name tells.
    #[error("`{}` is {BadKey} that its name tells", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
    },
    /// The file that names the current key names one that is not there.
    #[error("`{}` names the key `{kid}`, which is not there: restore its file, or write the `kid` of another key", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// The key.
        kid: String,
    },
    /// The library could not make a key.
    #[error("no key could be made")]
    NotMade,
    /// There are too many keys.
    #[error("there are {MAX_KEYS} keys already: retire one first")]
    TooMany,
    /// There is no such key.
    #[error("there is no key `{0}`")]
    Unknown(String),
    /// The current key cannot be retired.
    #[error("`{0}` is the key that signs: switch to another key before you retire it")]
    Current(String),
    /// Followers do not know the key.
    #[error("{} live followers do not know the key `{kid}`, `{}` among them: give them the key first, or use `--force`", followers.len(), followers.first().map_or("", String::as_str))]
    NotKnown {
        /// The key.
        kid: String,
        /// The nodes, or the ids of the followers where they report no node.
        followers: Vec<String>,
    },
}

impl<K: PrivateKey> KeyRing<K> {
    /// Reads the keys in `directory`, and makes the first one if there is none. Blocks.
    pub fn open(directory: &Path) -> Result<KeyRing<K>, KeysError> {
        let failed = |error| KeysError::File { path: directory.to_owned(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let pointer = directory.join(current_of::<K>());
        let named = named(&pointer)?;
        let kids = kids(directory, K::PREFIX)?;
        let mut all = kids
            .iter()
            .map(|kid| read::<K>(&file_of::<K>(directory, kid)).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|a, b| a.kid().cmp(b.kid()));
        let current = match (named, all.first()) {
            (Some(kid), _) => {
                let found = all.iter().find(|key| key.kid() == kid).cloned();
                found.ok_or(KeysError::Lost { path: pointer, kid })?
            }
            (None, Some(first)) if all.len() == 1 => {
                write_new(&pointer, first.kid())?;
                first.clone()
            }
            (None, Some(_)) => return Err(KeysError::Lost { path: pointer, kid: String::new() }),
            (None, None) => {
                let key = make::<K>(directory)?;
                write_new(&pointer, key.kid())?;
                all.push(key.clone());
                key
            }
        };
        let ring = Mutex::new(Ring { current, all });
        Ok(KeyRing { directory: directory.to_owned(), ring, signed: AtomicU64::new(0) })
    }

    /// Reads the keys again if the files are others than before. Returns whether they are. After an error the keys are
    /// those of before. Blocks.
    pub fn refresh(&self) -> Result<bool, KeysError> {
        let pointer = self.directory.join(current_of::<K>());
        // The pointer first: what it names was there before it.
        let (named, kids) = (named(&pointer)?.unwrap_or_default(), kids(&self.directory, K::PREFIX)?);
        let is_known = |ring: &Ring<K>| ring.current.kid() == named && ring.all.iter().map(|key| key.kid()).eq(&kids);
        if is_known(&locked(&self.ring)) {
            return Ok(false);
        }
        let read = kids.iter().map(|kid| read::<K>(&file_of::<K>(&self.directory, kid)).map(Arc::new));
        let all = read.collect::<Result<Vec<_>, _>>()?;
        let current = all.iter().find(|key| key.kid() == named).cloned();
        let current = current.ok_or(KeysError::Lost { path: pointer, kid: named })?;
        *locked(&self.ring) = Ring { current, all };
        Ok(true)
    }

    /// The `kid` of every key, sorted.
    pub fn kids(&self) -> Vec<String> {
        locked(&self.ring).all.iter().map(|key| key.kid().to_owned()).collect()
    }

    /// The `kid` of the key that signs.
    pub fn current(&self) -> String {
        locked(&self.ring).current.kid().to_owned()
    }

    /// All public keys as a JWK Set (RFC 7517 §5): what `signals.hub.keys` of a filter takes.
    pub fn jwks(&self) -> Value {
        json!({"keys": locked(&self.ring).all.iter().map(|key| key.jwk().clone()).collect::<Vec<_>>()})
    }

    /// Makes the next key, and returns its `kid`. It is published, and signs nothing yet. Blocks.
    pub fn prepare(&self) -> Result<String, KeysError> {
        let mut ring = locked(&self.ring);
        if ring.all.len() >= MAX_KEYS {
            return Err(KeysError::TooMany);
        }
        let key = make::<K>(&self.directory)?;
        let kid = key.kid().to_owned();
        ring.all.push(key);
        ring.all.sort_by(|a, b| a.kid().cmp(b.kid()));
        Ok(kid)
    }

    /// Signs with the key `kid` from now on. `lacking` are the live followers that do not report it: with any of them it
    /// is refused, unless `force`. Blocks.
    pub fn switch(&self, kid: &str, lacking: Vec<String>, force: bool) -> Result<(), KeysError> {
        let mut ring = locked(&self.ring);
        let key = ring.all.iter().find(|key| key.kid() == kid).cloned();
        let key = key.ok_or_else(|| KeysError::Unknown(kid.to_owned()))?;
        if !force && !lacking.is_empty() {
            return Err(KeysError::NotKnown { kid: kid.to_owned(), followers: lacking });
        }
        let (pointer, new) =
            (self.directory.join(current_of::<K>()), self.directory.join(format!("{}.new", current_of::<K>())));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(KeysError::File { path: new, error }),
            _ => {}
        }
        write_new(&new, kid)?;
        fs::rename(&new, &pointer).map_err(|error| KeysError::File { path: pointer, error })?;
        sync_directory(&self.directory)?;
        ring.current = key;
        Ok(())
    }

    /// Removes the key `kid`, which must not be the current one. Filters do not need it any more. Blocks.
    pub fn retire(&self, kid: &str) -> Result<(), KeysError> {
        let mut ring = locked(&self.ring);
        if ring.current.kid() == kid {
            return Err(KeysError::Current(kid.to_owned()));
        }
        if !ring.all.iter().any(|key| key.kid() == kid) {
            return Err(KeysError::Unknown(kid.to_owned()));
        }
        let path = file_of::<K>(&self.directory, kid);
        fs::remove_file(&path).map_err(|error| KeysError::File { path, error })?;
        ring.all.retain(|key| key.kid() != kid);
        Ok(())
    }

    /// The key to sign something with.
    pub fn to_sign(&self) -> Arc<K> {
        self.signed.fetch_add(1, Ordering::Relaxed);
        locked(&self.ring).current.clone()
    }

    /// How often one was used since the start.
    pub fn signed(&self) -> u64 {
        self.signed.load(Ordering::Relaxed)
    }
}

impl Keys {
    /// Signs a statement with the current key.
    pub fn sign(&self, statement: &Statement) -> Result<Bytes, NotSigned> {
        self.to_sign().sign(statement)
    }
}

impl PrivateKey for SigningKey {
    const PREFIX: &'static str = "feed";

    fn generate() -> Result<Vec<u8>, BadKey> {
        SigningKey::generate()
    }

    fn from_pkcs8(der: &[u8]) -> Result<SigningKey, BadKey> {
        SigningKey::from_pkcs8(der)
    }

    fn kid(&self) -> &str {
        self.kid()
    }

    fn jwk(&self) -> &Value {
        self.jwk()
    }
}

/// The file that names the current key.
fn current_of<K: PrivateKey>() -> String {
    format!("{}-current", K::PREFIX)
}

/// The `kid` that the file names; `None` where there is no file.
fn named(pointer: &Path) -> Result<Option<String>, KeysError> {
    match fs::read_to_string(pointer) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeysError::File { path: pointer.to_owned(), error }),
    }
}

/// The `kid` of each key that has a file, sorted.
fn kids(directory: &Path, prefix: &str) -> Result<Vec<String>, KeysError> {
    let failed = |error| KeysError::File { path: directory.to_owned(), error };
    let mut kids = Vec::new();
    for file in fs::read_dir(directory).map_err(failed)? {
        let name = file.map_err(failed)?.file_name();
        let kid = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(".pem"));
        kids.extend(kid.map(str::to_owned));
    }
    kids.sort();
    Ok(kids)
}

fn file_of<K: PrivateKey>(directory: &Path, kid: &str) -> PathBuf {
    directory.join(format!("{}-{kid}.pem", K::PREFIX))
}

fn make<K: PrivateKey>(directory: &Path) -> Result<Arc<K>, KeysError> {
    let der = K::generate().map_err(|BadKey| KeysError::NotMade)?;
    let key = K::from_pkcs8(&der).map_err(|BadKey| KeysError::NotMade)?;
    let base64 = STANDARD.encode(der);
    let mut pem = format!("{BEGIN}\n");
    for line in base64.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        pem.push('\n');
    }
    pem.push_str(END);
    let path = file_of::<K>(directory, key.kid());
    // A hub that runs never sees a part of the file.
    let new = path.with_extension("new");
    write_new(&new, &pem)?;
    fs::rename(&new, &path).map_err(|error| KeysError::File { path, error })?;
    sync_directory(directory)?;
    Ok(Arc::new(key))
}

fn read<K: PrivateKey>(path: &Path) -> Result<K, KeysError> {
    let pem = fs::read_to_string(path).map_err(|error| KeysError::File { path: path.to_owned(), error })?;
    let base64: Option<String> = pem
        .trim()
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .map(|body| body.split_ascii_whitespace().collect());
    let der = base64.and_then(|base64| STANDARD.decode(base64).ok());
    let key = der.and_then(|der| K::from_pkcs8(&der).ok());
    let key =
        key.filter(|key| path.file_name().is_some_and(|name| *name == *format!("{}-{}.pem", K::PREFIX, key.kid())));
    key.ok_or_else(|| KeysError::Bad { path: path.to_owned() })
}

/// Writes a new file that only its owner may read.
fn write_new(path: &Path, text: &str) -> Result<(), KeysError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()
    };
    write().map_err(|error| KeysError::File { path: path.to_owned(), error })
}

fn sync_directory(directory: &Path) -> Result<(), KeysError> {
    let synced = fs::File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|error| KeysError::File { path: directory.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use taskfence_core::jose::algorithm::Algorithm;
    use taskfence_core::jose::key::KeySet;

    #[test]
    fn the_first_start_makes_a_key_and_the_next_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let first = Keys::open(&path).unwrap();
        let again = Keys::open(&path).unwrap();
        assert_eq!(first.current(), again.current());
        assert_eq!(first.jwks(), again.jwks());
        let file = file_of::<SigningKey>(&path, &first.current());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let (set, refused) = KeySet::from_jwks(&first.jwks(), &[Algorithm::ES256]).unwrap();
        assert!(refused.is_empty() && set.iter().count() == 1);
        fs::write(&file, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(matches!(Keys::open(&path), Err(KeysError::Bad { .. })));
        fs::remove_file(&file).unwrap();
        assert!(matches!(Keys::open(&path), Err(KeysError::Lost { .. })), "a lost key is not replaced in silence");
    }

    #[test]
    fn a_hub_that_runs_sees_what_is_done_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let (hub, host) = (Keys::open(directory.path()).unwrap(), Keys::open(directory.path()).unwrap());
        assert!(!hub.refresh().unwrap());
        let (old, new) = (hub.current(), host.prepare().unwrap());
        assert!(hub.refresh().unwrap() && !hub.refresh().unwrap());
        assert_eq!((hub.current(), hub.jwks()), (old.clone(), host.jwks()));
        host.switch(&new, vec![], false).unwrap();
        assert!(hub.refresh().unwrap());
        assert_eq!(hub.current(), new);
        host.retire(&old).unwrap();
        assert!(hub.refresh().unwrap());
        assert_eq!(hub.kids(), [&*new]);
        fs::write(directory.path().join("feed-current"), "other").unwrap();
        assert!(matches!(hub.refresh(), Err(KeysError::Lost { .. })));
        assert_eq!(hub.current(), new, "it goes on with what it has");
    }

    #[test]
    fn keys_rotate_with_an_overlap() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::open(directory.path()).unwrap();
        let old = keys.current();
        let new = keys.prepare().unwrap();
        assert_eq!(keys.current(), old, "a prepared key signs nothing");
        assert_eq!(keys.jwks()["keys"].as_array().unwrap().len(), 2);
        assert!(matches!(keys.switch("x", vec![], true), Err(KeysError::Unknown(_))));
        assert!(matches!(keys.switch(&new, vec!["node-1".to_owned()], false), Err(KeysError::NotKnown { .. })));
        assert_eq!(Keys::open(directory.path()).unwrap().current(), old, "a refused switch changes nothing");
        assert!(matches!(keys.retire(&old), Err(KeysError::Current(_))));
        keys.switch(&new, vec!["node-1".to_owned()], true).unwrap();
        keys.switch(&old, vec![], false).unwrap();
        keys.switch(&new, vec![], false).unwrap();
        let again = Keys::open(directory.path()).unwrap();
        assert_eq!((again.current(), again.jwks()["keys"].as_array().unwrap().len()), (new.clone(), 2));
        keys.retire(&old).unwrap();
        assert!(matches!(keys.retire(&old), Err(KeysError::Unknown(_))));
        let again = Keys::open(directory.path()).unwrap();
        assert_eq!((again.current(), again.jwks()["keys"].as_array().unwrap().len()), (new, 1));
        for _ in 0..3 {
            keys.prepare().unwrap();
        }
        assert!(matches!(keys.prepare(), Err(KeysError::TooMany)));
    }
}
