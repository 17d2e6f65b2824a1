//! Moments from single decisions.

use crate::evidence::model::RecordRow;
use crate::evidence::timeline::Moment;
use serde_json::Value;

/// The kind of a moment from a decision, and its words.
pub fn moment(row: &RecordRow, is_after_end: bool) -> Option<Moment> {
    let record = &row.record;
    let (verdict, reason) = (text(record, "verdict"), text(record, "reason"));
    let request = request(record);
    let (what, text) = match verdict {
        "allowed" if record.get("break_glass") == Some(&Value::Bool(true)) => {
            ("break_glass", format!("{request} permitted by break-glass"))
        }
        "would_deny" => ("would_deny", format!("{request} would have been refused: {reason}")),
        "would_end" => ("would_deny", format!("the stream of {request} would have been ended: {reason}")),
        "denied" if is_after_end => ("attempt_after_end", format!("{request} refused: {reason}")),
        "denied" => ("refused", format!("{request} refused: {reason}")),
        "ended" => ("stream_ended", ended(record, &request, reason)),
        // What was simply allowed is counted; the sums show it.
        _ => return None,
    };
    Some(Moment {
        at: row.at,
        what: what.to_owned(),
        text,
        token: record.get("token").and_then(Value::as_str).map(str::to_owned),
        node: Some(row.node.clone()),
        data: record.clone(),
        ..Moment::default()
    })
}

/// A member that is a string; empty for anything else.
pub fn text<'r>(record: &'r Value, member: &str) -> &'r str {
    record.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// Milliseconds as people write them: `3 ms`, `4.2 s`, `2m 5s`.
pub fn span(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => {
            let seconds = ms / 1000;
            let parts =
                [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
            let parts = parts.iter().filter(|(number, _)| *number > 0).take(2);
            parts.map(|(number, unit)| format!("{number}{unit}")).collect::<Vec<_>>().join(" ")
        }
    }
}

fn request(record: &Value) -> String {
    let words = [text(record, "method"), text(record, "path")];
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "a request".to_owned() } else { words.join(" ") }
}

fn ended(record: &Value, request: &str, reason: &str) -> String {
    let number = |name: &str| record.get("ended").and_then(|ended| ended.get(name)).and_then(Value::as_u64);
    let mut text = format!("the stream of {request} ended");
    if let Some(delay) = number("delay_ms") {
        text.push_str(&format!(" {} after the signal", span(delay)));
    }
    text.push_str(&format!(": {reason}"));
    if let Some(lasted) = number("lasted_ms") {
        text.push_str(&format!("; it lasted {}", span(lasted)));
    }
    if let (Some(bytes_in), Some(bytes_out)) = (number("bytes_in"), number("bytes_out")) {
        text.push_str(&format!(", {bytes_in} bytes in, {bytes_out} bytes out"));
    }
    text
}
