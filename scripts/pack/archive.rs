//! Archives whose bytes depend on what is in them only: ustar (POSIX.1-1988) and gzip (RFC 1952).

use crate::error::Error;

const BLOCK: usize = 512;
/// zlib's own default: what is above takes longer for little.
const LEVEL: u8 = 6;

/// A file or a folder of an archive; it belongs to root.
pub struct Entry<'a> {
    name: &'a str,
    content: &'a [u8],
    mode: u32,
    /// `0` for a file, `5` for a folder.
    kind: u8,
}

impl<'a> Entry<'a> {
    /// A file.
    pub fn file(name: &'a str, content: &'a [u8], mode: u32) -> Self {
        Self { name, content, mode, kind: b'0' }
    }

    /// A folder; its name ends in `/`.
    pub fn folder(name: &'a str, mode: u32) -> Self {
        Self { name, content: &[], mode, kind: b'5' }
    }
}

/// An archive of `entries` in their order; all are of the time `epoch`, in seconds since 1970.
pub fn tar(entries: &[Entry<'_>], epoch: u64) -> Result<Vec<u8>, Error> {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend(header(entry, epoch)?);
        archive.extend(entry.content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks are its end.
    archive.resize(archive.len().saturating_add(BLOCK.saturating_mul(2)), 0);
    Ok(archive)
}

fn header(entry: &Entry<'_>, epoch: u64) -> Result<Vec<u8>, Error> {
    let too_long = || Error::TooLong(entry.name.to_owned());
    let field = |text: String, length: usize| {
        let mut bytes = text.into_bytes();
        (bytes.len() <= length).then(|| {
            bytes.resize(length, 0);
            bytes
        })
    };
    let octal =
        |value: u64, length: usize| field(format!("{value:0width$o}", width = length.saturating_sub(1)), length);
    let size = u64::try_from(entry.content.len()).map_err(|_| too_long())?;
    let before = [
        field(entry.name.to_owned(), 100),
        octal(entry.mode.into(), 8),
        octal(0, 8),
        octal(0, 8),
        octal(size, 12),
        octal(epoch, 12),
    ];
    let before: Vec<u8> = before.into_iter().collect::<Option<Vec<_>>>().ok_or_else(too_long)?.concat();
    let mut after = vec![entry.kind];
    after.resize(101, 0);
    after.extend(b"ustar\x0000root");
    after.resize(101_usize.saturating_add(40), 0);
    after.extend(b"root");
    // The sum counts its own field as spaces.
    let sum: u64 = before.iter().chain(b"        ").chain(&after).map(|byte| u64::from(*byte)).sum();
    let mut header = before;
    header.extend(format!("{sum:06o}\0 ").into_bytes());
    header.extend(after);
    header.resize(BLOCK, 0);
    Ok(header)
}

/// `data` packed, without a name and a time.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    // Deflate, no flags, no time, no word about level, an unknown system.
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    packed.extend(miniz_oxide::deflate::compress_to_vec(data, LEVEL));
    packed.extend(crc32(data).to_le_bytes());
    // Modulo 2^32, as the format says.
    let [a, b, c, d, ..] = data.len().to_le_bytes();
    packed.extend([a, b, c, d]);
    packed
}

/// CRC-32 of RFC 1952 section 8, by half bytes.
fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32| (0..4).fold(crc, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 });
    let mut table = [0_u32; 16];
    for (value, slot) in (0_u32..).zip(&mut table) {
        *slot = step(value);
    }
    let look = |crc: u32| {
        let at = usize::try_from(crc & 15).unwrap_or_default();
        (crc >> 4) ^ table.get(at).copied().unwrap_or_default()
    };
    !data.iter().fold(!0, |crc, byte| look(look(crc ^ u32::from(*byte))))
}

/// The time as RFC 3339 writes it, in UTC. Days are counted as in the proleptic Gregorian calendar.
pub fn rfc3339(epoch: u64) -> String {
    let (days, of_day) = (epoch.wrapping_div(86_400), epoch.wrapping_rem(86_400));
    let (mut year, mut left) = (1970_u64, days);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left = left.saturating_sub(length);
        year = year.saturating_add(1);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1_u64;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left = left.saturating_sub(length);
        month = month.saturating_add(1);
    }
    let day = left.saturating_add(1);
    let (hour, rest) = (of_day.wrapping_div(3_600), of_day.wrapping_rem(3_600));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{:02}:{:02}Z", rest.wrapping_div(60), rest.wrapping_rem(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_as_zlib_has_it() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_764_331_200), "2025-11-28T12:00:00Z");
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let name = "x".repeat(101);
        assert!(tar(&[Entry::file(&name, b"", 0o644)], 0).is_err());
    }

    /// By the tar of the system.
    #[test]
    fn tar_and_gzip_read_it() {
        let entries =
            [Entry::folder("a/", 0o755), Entry::file("a/b", b"hello\n", 0o755), Entry::file("c", &[7; 600], 0o644)];
        let packed = gzip(&tar(&entries, 951_782_400).unwrap());
        let folder = std::env::temp_dir().join(format!("pack-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("x.tgz"), &packed).unwrap();
        let out = std::process::Command::new("tar")
            .args(["--list", "--verbose", "--utc", "--gzip", "--file", "x.tgz"])
            .current_dir(&folder)
            .output()
            .unwrap();
        let listed = String::from_utf8(out.stdout).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["-rwxr-xr-x", "root/root", "6", "2000-02-29", "00:00", "a/b"]);
        assert_eq!((lines[0][0], lines[2][2]), ("drwxr-xr-x", "600"));
    }
}
