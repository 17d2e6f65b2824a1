//! Unpacks gzip (RFC 1952): some servers compress although nobody asked for it.

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

/// The first bytes of every member. No JSON begins with them.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;

/// The optional fields of the header, as bits of its flags.
const HEADER_CHECK: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// Why bytes that begin as gzip are not unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum GzipError {
    #[error("more than the limit")]
    TooLarge,
    #[error("broken")]
    Broken,
}

/// Whether `bytes` begin as gzip.
pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Unpacks the only member in `bytes`, to at most `limit` bytes. Length and checksum are checked.
pub(crate) fn unpack(bytes: &[u8], limit: usize) -> Result<Vec<u8>, GzipError> {
    let (packed, checksum, length) = parts(bytes).ok_or(GzipError::Broken)?;
    let plain = decompress_to_vec_with_limit(packed, limit).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => GzipError::TooLarge,
        _ => GzipError::Broken,
    })?;
    let whole = u32::try_from(plain.len()) == Ok(length) && crc32(&plain) == checksum;
    if whole { Ok(plain) } else { Err(GzipError::Broken) }
}

/// The packed bytes, then checksum and length of the plain ones.
fn parts(bytes: &[u8]) -> Option<(&[u8], u32, u32)> {
    let (header, mut rest) = bytes.split_first_chunk::<10>()?;
    let [_, _, method, flags, ..] = *header;
    if !is_gzip(bytes) || method != DEFLATE || flags & RESERVED != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        rest = tail.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end..)?.get(1..)?;
        }
    }
    if flags & HEADER_CHECK != 0 {
        rest = rest.get(2..)?;
    }
    let (rest, length) = rest.split_last_chunk::<4>()?;
    let (packed, checksum) = rest.split_last_chunk::<4>()?;
    Some((packed, u32::from_le_bytes(*checksum), u32::from_le_bytes(*length)))
}

/// The checksum of RFC 1952 §8, four bits at a time: a table of 16 is small.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let step = |crc: u32| (0..4).fold(crc, |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 });
    let mut table = [0_u32; 16];
    table.iter_mut().zip(0_u32..).for_each(|(entry, nibble)| *entry = step(nibble));
    let shifted = |crc: u32| {
        let low = usize::try_from(crc & 15).unwrap_or_default();
        crc >> 4 ^ table.get(low).copied().unwrap_or_default()
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| shifted(shifted(crc ^ u32::from(*byte))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A member with these optional fields.
    fn pack(plain: &[u8], flags: u8, fields: &[u8]) -> Vec<u8> {
        let packed = miniz_oxide::deflate::compress_to_vec(plain, 6);
        let length = u32::try_from(plain.len()).unwrap();
        let header = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
        [&header[..], fields, &packed, &crc32(plain).to_le_bytes(), &length.to_le_bytes()].concat()
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn what_another_implementation_packed_is_unpacked() {
        // `printf '{"keys":[]}' | gzip -n | xxd -i`.
        const PACKED: [u8; 31] = [
            0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xab, 0x56, 0xca, 0x4e, 0xad, 0x2c, 0x56, 0xb2,
            0x8a, 0x8e, 0xad, 0x05, 0x00, 0xef, 0x67, 0x88, 0x2a, 0x0b, 0x00, 0x00, 0x00,
        ];
        assert_eq!(unpack(&PACKED, 11).as_deref(), Ok(&b"{\"keys\":[]}"[..]));
        assert_eq!(unpack(&PACKED, 10), Err(GzipError::TooLarge));
    }

    #[test]
    fn every_optional_field_is_skipped() {
        let fields = [&[2, 0, b'x', b'y'][..], b"name\0", b"comment\0", &[1, 2]].concat();
        assert_eq!(unpack(&pack(b"{}", 0x1f, &fields), 99).as_deref(), Ok(&b"{}"[..]));
        for flags in [0x20, 0x40, 0x80] {
            assert_eq!(unpack(&pack(b"{}", flags, &[]), 99), Err(GzipError::Broken));
        }
    }

    #[test]
    fn a_small_answer_does_not_become_a_large_one() {
        let bomb = pack(&vec![b' '; 50_000_000], 0, &[]);
        assert!(bomb.len() < 100_000);
        assert_eq!(unpack(&bomb, 1 << 20), Err(GzipError::TooLarge));
    }

    proptest! {
        #[test]
        fn a_changed_byte_gives_no_other_contents(plain: Vec<u8>, at: prop::sample::Index, change in 1u8.., cut: prop::sample::Index) {
            let good = pack(&plain, 0, &[]);
            prop_assert_eq!(unpack(&good, plain.len()), Ok(plain.clone()));
            let mut bent = good.clone();
            let at = at.index(bent.len());
            bent[at] ^= change;
            // Some bits mean nothing, such as those of the time.
            let read = unpack(&bent, 1 << 20);
            prop_assert!(read.is_err() || read == Ok(plain));
            prop_assert!(unpack(&good[..cut.index(good.len())], 1 << 20).is_err());
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes: Vec<u8>, flags: u8) {
            let _ = unpack(&bytes, 1 << 20);
            let _ = unpack(&[&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3][..], &bytes].concat(), 1 << 20);
        }
    }
}
