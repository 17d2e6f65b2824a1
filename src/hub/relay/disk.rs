//! What a relay keeps on disk, so that it can serve after a start without its hub: everything is verified again when it is
//! read, so what was changed or cut off counts as missing.
//!
//! ```text
//! data/relay/FEED/states/REVISION/0000  the parts of a full state
//! data/relay/FEED/pages                 pages of changes: each with its length (4 bytes, little-endian) before it
//! data/relay/FEED/heartbeat             the last statement without entries
//! ```

use crate::relay::kept::Kept;
use crate::relay::line::State;
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use taskfence_core::feed::page::PageError;

/// So many full states are kept.
const STATES: usize = 2;

/// The folder of one feed.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    pages: File,
    /// The length of the file of pages.
    length: u64,
    max_length: u64,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// Whole states.
    pub states: Vec<Arc<State>>,
    /// Pages of changes, in the order in which they came.
    pub pages: Vec<Arc<Kept>>,
    /// The last statement without entries.
    pub heartbeat: Option<Arc<Kept>>,
}

impl Disk {
    /// Opens the folder, and reads what is in it; `verify` says whether bytes are a page of the hub. The file of pages may
    /// grow to `max_length` bytes. Blocks.
    pub fn open(
        folder: &Path,
        max_length: u64,
        verify: impl Fn(Bytes) -> Result<Kept, PageError>,
    ) -> io::Result<(Disk, Read)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join("states"))?;
        let states = read_states(&folder.join("states"), &verify)?;
        let (pages, usable) = read_pages(&folder.join("pages"), &verify)?;
        let heartbeat =
            fs::read(folder.join("heartbeat")).ok().and_then(|bytes| verify(bytes.into()).ok()).map(Arc::new);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join("pages"))?;
        // What follows a record that is cut off could never be read.
        file.set_len(usable)?;
        let disk = Disk { folder: folder.to_owned(), pages: file, length: usable, max_length };
        Ok((disk, Read { states, pages, heartbeat }))
    }

    /// Adds a page of changes. Returns whether the file is now too long: see [`Disk::rewrite`]. Blocks.
    pub fn add(&mut self, page: &Kept) -> io::Result<bool> {
        let record = record(page)?;
        self.pages.write_all(&record)?;
        self.length = self.length.saturating_add(u64::try_from(record.len()).unwrap_or(u64::MAX));
        Ok(self.length > self.max_length)
    }

    /// Replaces the pages by these. Blocks.
    pub fn rewrite(&mut self, pages: &[Arc<Kept>]) -> io::Result<()> {
        let new = self.folder.join("pages.new");
        remove(&new)?;
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
        let mut length = 0_u64;
        for page in pages {
            let record = record(page)?;
            file.write_all(&record)?;
            length = length.saturating_add(u64::try_from(record.len()).unwrap_or(u64::MAX));
        }
        fs::rename(&new, self.folder.join("pages"))?;
        (self.pages, self.length) = (file, length);
        Ok(())
    }

    /// Replaces the last statement without entries. Blocks.
    pub fn put_heartbeat(&self, page: &Kept) -> io::Result<()> {
        let new = self.folder.join("heartbeat.new");
        fs::write(&new, &page.bytes)?;
        fs::rename(&new, self.folder.join("heartbeat"))
    }

    /// Adds a full state, and removes all but the newest. Blocks.
    pub fn put_state(&self, state: &State) -> io::Result<()> {
        let folder = self.folder.join("states");
        let (new, done) = (folder.join("new"), folder.join(state.revision.to_string()));
        remove_folder(&new)?;
        fs::DirBuilder::new().mode(0o700).create(&new)?;
        for (number, part) in state.parts.iter().enumerate() {
            fs::write(new.join(format!("{number:04}")), &part.bytes)?;
        }
        remove_folder(&done)?;
        fs::rename(&new, &done)?;
        let mut known = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            known.push((entry.metadata()?.modified()?, entry.path()));
        }
        known.sort();
        let surplus = known.len().saturating_sub(STATES);
        let old = known.into_iter().map(|(_, path)| path).filter(|path| *path != done).take(surplus);
        old.map(|path| remove_folder(&path)).collect()
    }
}

fn record(page: &Kept) -> io::Result<Vec<u8>> {
    let length = u32::try_from(page.bytes.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &page.bytes].concat())
}

fn read_states(folder: &Path, verify: &impl Fn(Bytes) -> Result<Kept, PageError>) -> io::Result<Vec<Arc<State>>> {
    let mut states = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let mut files = fs::read_dir(&path)?.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
        files.sort_by_key(|file| file.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
        let parts = files.iter().map(|file| verify(fs::read(file).ok()?.into()).ok().map(Arc::new));
        let state = parts.collect::<Option<Vec<_>>>().and_then(State::of);
        match state.filter(|state| path.file_name().is_some_and(|name| *name == *state.revision.to_string())) {
            Some(state) => states.push(Arc::new(state)),
            None => {
                tracing::warn!(path = %path.display(), "a full state on disk is not whole, or not signed by the hub: it is removed");
                remove_folder(&path)?;
            }
        }
    }
    Ok(states)
}

/// The pages, and how many bytes of the file they are.
fn read_pages(path: &Path, verify: &impl Fn(Bytes) -> Result<Kept, PageError>) -> io::Result<(Vec<Arc<Kept>>, u64)> {
    let all = match fs::read(path) {
        Ok(all) => Bytes::from(all),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let (mut pages, mut rest) = (Vec::new(), all.clone());
    while let Some(length) = rest.first_chunk::<4>().map(|length| u32::from_le_bytes(*length)) {
        let end = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(4);
        let Some(page) = (end <= rest.len()).then(|| rest.slice(4..end)) else { break };
        // Its own memory, which can be given back.
        match verify(Bytes::copy_from_slice(&page)) {
            Ok(page) => pages.push(Arc::new(page)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a page on disk is not one of the hub: it and what follows is dropped");
                break;
            }
        }
        rest = rest.slice(end..);
    }
    let used = all.len().saturating_sub(rest.len());
    Ok((pages, u64::try_from(used).unwrap_or(u64::MAX)))
}

fn remove(path: &Path) -> io::Result<()> {
    gone(fs::remove_file(path))
}

fn remove_folder(path: &Path) -> io::Result<()> {
    gone(fs::remove_dir_all(path))
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
