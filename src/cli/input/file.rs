//! Files, read and written whole, with errors that name the file and what to do.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Who may read a file that is written here.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Its owner alone (mode 0600).
    Owner,
    /// Everyone that the umask allows (mode 0666 without the bits of the umask).
    Everyone,
}

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Keep,
    Replace,
}

/// Reads a whole file, or standard input when `path` is `-`.
pub fn read_or_input(path: &Path, input: &mut dyn Read) -> Result<Vec<u8>, Error> {
    if path != Path::new("-") {
        return read(path);
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|source| Error::Read { path: "standard input".into(), source })?;
    Ok(bytes)
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

/// Fails if there is a file at `path` that must be kept. A command calls this before it writes its first file.
pub fn check_free(path: &Path, existing: Existing) -> Result<(), Error> {
    if existing == Existing::Keep && fs::symlink_metadata(path).is_ok() {
        return Err(Error::Exists { path: path.into() });
    }
    Ok(())
}

/// Writes a whole file: it appears complete and with its final permissions, or not at all.
pub fn write(path: &Path, contents: &str, access: Access, existing: Existing) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.into(), source };
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mode = match access {
        Access::Owner => 0o600,
        Access::Everyone => 0o666,
    };
    let mut file = tempfile::Builder::new()
        .prefix(".taskfence-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(contents.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let moved = match existing {
        Existing::Keep => file.persist_noclobber(path),
        Existing::Replace => file.persist(path),
    };
    match moved {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists { path: path.into() }),
        Err(error) => Err(failed(error.error)),
    }
}

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read `{}`: {}", path.display(), reason(source))]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write `{}`: {}{}", path.display(), reason(source), missing_folder(path, source))]
    Write { path: PathBuf, source: io::Error },
    #[error("`{}` is there already; choose another name, or replace it with --force", path.display())]
    Exists { path: PathBuf },
}

/// The message of the operating system, in lower case and without its error number.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => error.to_string(),
    }
}

fn missing_folder(path: &Path, error: &io::Error) -> String {
    match path.parent() {
        Some(folder) if error.kind() == io::ErrorKind::NotFound => {
            format!("; make the folder with `mkdir -p {}`", folder.display())
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, "s", Access::Owner, Existing::Keep).unwrap();
        assert_eq!(mode(&path), 0o600);

        // Also when it replaces a file that everyone could read.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write(&path, "t", Access::Owner, Existing::Replace).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "t");
    }

    #[test]
    fn a_file_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "old").unwrap();
        assert!(matches!(check_free(&path, Existing::Keep), Err(Error::Exists { .. })));
        let error = write(&path, "new", Access::Everyone, Existing::Keep).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let error = read(Path::new("/nonexistent/a")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nonexistent/a`: no such file or directory");
        let error = write(Path::new("/nonexistent/a"), "", Access::Owner, Existing::Keep).unwrap_err();
        let expected =
            "cannot write `/nonexistent/a`: no such file or directory; make the folder with `mkdir -p /nonexistent`";
        assert_eq!(error.to_string(), expected);
    }
}
