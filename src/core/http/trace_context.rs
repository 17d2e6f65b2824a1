//! Which trace a request is part of (W3C Trace Context).

/// The trace id of `traceparent`, if it is valid (W3C Trace Context §3.2): version 00, lower-case hexadecimal digits, no id
/// that is zero. Headers that stand several times, which the proxy joins with commas, are not valid.
pub fn trace_id(traceparent: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(traceparent).ok()?.trim_matches([' ', '\t']);
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |part: &str, len: usize| hex(part, len) && part.bytes().any(|byte| byte != b'0');
    let valid = version == "00" && id(trace, 32) && id(parent, 16) && hex(flags, 2) && parts.next().is_none();
    valid.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_header_names_a_trace() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let good = format!("00-{trace}-b7ad6b7169203331-01");
        assert_eq!(trace_id(good.as_bytes()), Some(trace));
        assert_eq!(trace_id(format!("  {good}\t").as_bytes()), Some(trace));
        for bad in [
            String::new(),
            good.replacen("00", "01", 1),
            good.replacen("00", "ff", 1),
            good.replace(trace, &"0".repeat(32)),
            good.replace("b7ad6b7169203331", &"0".repeat(16)),
            good.to_uppercase(),
            good.replace("0af7", "0ag7"),
            good.replace("-01", ""),
            good.replace("-01", "-1"),
            format!("{good}-extra"),
            format!("{good},{good}"),
            good.replace("0af7", "\u{e9}f7"),
        ] {
            assert_eq!(trace_id(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(trace_id(b"00-\xff"), None);
    }
}
