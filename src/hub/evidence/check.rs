//! What a proxy sends is looked at before it is stored: its numbers must have the right size and its names must stand for
//! something. What is only odd is put right, because a batch that is refused is lost.

mod outline;

pub use self::outline::outline;
use crate::evidence::weight::weigh;
use crate::feed::report::is_id;
use serde_json::Value;
use std::collections::HashSet;
use taskfence_core::time::Timestamp;
use taskfence_core::uses::batch::{Batch, FORMAT, Gap, GrantInfo, GrantUses, Post};

/// What is dated later than this after the clock of the hub is refused, in milliseconds: the clock of the proxy is wrong.
pub const MAX_AHEAD: u64 = 5 * 60_000;

/// One request of one VM in one period counts at most this often: sums over all batches then fit into 63 bits.
const MAX_COUNT: u64 = 1 << 40;

/// The largest number of a batch: a database has no unsigned numbers.
const MAX_NUMBER: u64 = 1 << 62;

/// The longest name of anything, in bytes: an index of a database takes no longer ones.
const MAX_TEXT: usize = 2_048;

/// So many items may be in one list of one grant, so many rules, grants and records in a batch, and so many batches, gaps
/// and configurations in a post.
const MAX_USES: usize = 4_096;
const MAX_RULES: usize = 4_096;
const MAX_GRANTS: usize = 8_192;
const MAX_RECORDS: usize = 2_048;
const MAX_ITEMS: usize = 256;

/// The longest record, as JSON.
const MAX_RECORD: usize = 32 * 1024;

/// The values of one record take so many bytes in memory at most. One of a filter takes a tenth of that.
const MAX_RECORD_WEIGHT: usize = 64 * 1024;

/// So many captures a path may have.
const MAX_CAPTURES: usize = 64;

/// So many characters of what a proxy sent are in an error.
const MAX_SHOWN: usize = 128;

/// What is compared with.
#[derive(Debug)]
pub struct Against<'a> {
    /// The clock of the hub, in milliseconds since 1970.
    pub now: u64,
    /// What ended before is not kept, in milliseconds since 1970.
    pub oldest: u64,
    /// The issuers of the feed.
    pub issuers: &'a HashSet<String>,
}

/// What was taken out of a batch, because the feed does not have its issuer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Grants.
    pub grants: u64,
    /// Their permitted requests.
    pub permitted: u64,
    /// Their refused requests.
    pub refused: u64,
    /// Single decisions.
    pub records: u64,
}

/// Checks what is about the whole post; the error says what is wrong.
pub fn post(post: &mut Post) -> Result<(), String> {
    if post.format != FORMAT {
        return Err(format!("`format` is {}, and this hub knows {FORMAT}", post.format));
    }
    if !is_id(&post.proxy) {
        return Err("`proxy` must be 8 to 64 letters, digits, `-` and `_`".to_owned());
    }
    text("node", &mut post.node)?;
    few("batches", post.batches.len(), MAX_ITEMS)?;
    few("gaps", post.gaps.len(), MAX_ITEMS)?;
    few("configs", post.configs.len(), MAX_ITEMS)
}

/// Checks a batch, and takes out what is about issuers that the feed does not have; the error says what is wrong.
pub fn batch(batch: &mut Batch, against: &Against<'_>) -> Result<Foreign, String> {
    vm(&batch.vm)?;
    if !(1..=MAX_NUMBER).contains(&batch.number) {
        return Err("`number` must be at least 1".to_owned());
    }
    when(batch.until, against)?;
    batch.since = began((batch.since, batch.until), against);
    few("rules", batch.rules.len(), MAX_RULES)?;
    few("grants", batch.grants.len(), MAX_GRANTS)?;
    few("records", batch.records.len(), MAX_RECORDS)?;
    for rule in &mut batch.rules {
        text("rules.config", &mut rule.config)?;
        text("rules.name", &mut rule.name)?;
    }
    count("other_permitted", batch.other_permitted)?;
    count("other_refused", batch.other_refused)?;
    count("records_dropped", batch.records_dropped)?;
    let (rules, span) = (batch.rules.len(), (batch.since, batch.until));
    for grant in &mut batch.grants {
        uses(grant, rules, span)?;
    }
    for record in &mut batch.records {
        if !record.is_object() {
            return Err("`records` has something that is no object".to_owned());
        }
        clean(record);
        date(record, (against.oldest, batch.until));
        let length = record.to_string().len();
        if length > MAX_RECORD {
            return Err(format!("a record has {length} bytes, and may have {MAX_RECORD}"));
        }
        if weigh(record) > MAX_RECORD_WEIGHT {
            return Err("a record has too many values".to_owned());
        }
    }
    Ok(take_out(batch, against.issuers))
}

/// Checks a gap; the error says what is wrong.
pub fn gap(gap: &mut Gap, against: &Against<'_>) -> Result<(), String> {
    vm(&gap.vm)?;
    when(gap.until, against)?;
    gap.since = began((gap.since, gap.until), against);
    Ok(())
}

fn uses(grant: &mut GrantUses, rules: usize, span: (u64, u64)) -> Result<(), String> {
    info(&mut grant.grant)?;
    few("permitted", grant.permitted.len(), MAX_USES)?;
    few("refused", grant.refused.len(), MAX_USES)?;
    few("seen", grant.seen.len(), MAX_USES)?;
    count("other", grant.other)?;
    let rule = |rule: u32| match usize::try_from(rule) {
        Ok(at) if at < rules => Ok(()),
        _ => Err(format!("`rule` is {rule}, and the batch has {rules} rules")),
    };
    for one in &mut grant.permitted {
        rule(one.rule)?;
        text("method", &mut one.method)?;
        few("captures", one.captures.len(), MAX_CAPTURES)?;
        one.captures.iter_mut().try_for_each(|capture| text("captures", capture))?;
        count("count", one.count)?;
        one.break_glass = one.break_glass.min(one.count);
        (one.first, one.last) = within((one.first, one.last), span);
    }
    for one in &mut grant.refused {
        one.rule.map_or(Ok(()), rule)?;
        text("reason", &mut one.reason)?;
        count("count", one.count)?;
        (one.first, one.last) = within((one.first, one.last), span);
    }
    for one in &mut grant.seen {
        text("seen.value", &mut one.value)?;
        count("count", one.count)?;
        (one.first, one.last) = within((one.first, one.last), span);
    }
    Ok(())
}

fn info(info: &mut GrantInfo) -> Result<(), String> {
    let names = [
        ("issuer", &mut info.issuer),
        ("token", &mut info.token),
        ("fingerprint", &mut info.fingerprint),
        ("subject", &mut info.subject),
    ];
    names.into_iter().try_for_each(|(name, value)| text(name, value))?;
    let names = [("client", &mut info.client), ("task", &mut info.task), ("session", &mut info.session)];
    names.into_iter().try_for_each(|(name, value)| value.as_mut().map_or(Ok(()), |value| text(name, value)))?;
    let lists = [("actors", &mut info.actors), ("scopes", &mut info.scopes), ("masked", &mut info.masked)];
    for (name, list) in lists {
        few(name, list.len(), MAX_USES)?;
        list.iter_mut().try_for_each(|value| text(name, value))?;
    }
    info.details.iter_mut().for_each(clean);
    info.issued_at = info.issued_at.min(Timestamp::MAX.0);
    info.expires_at = info.expires_at.min(Timestamp::MAX.0);
    Ok(())
}

/// A caller must not say anything about an issuer whose grants its feed does not have.
fn take_out(batch: &mut Batch, issuers: &HashSet<String>) -> Foreign {
    let mut foreign = Foreign::default();
    batch.grants.retain(|grant| {
        let is_own = issuers.contains(&grant.grant.issuer);
        if !is_own {
            let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
            let permitted = sum(&mut grant.permitted.iter().map(|one| one.count)).saturating_add(grant.other);
            foreign.permitted = foreign.permitted.saturating_add(permitted);
            foreign.refused = foreign.refused.saturating_add(sum(&mut grant.refused.iter().map(|one| one.count)));
            foreign.grants = foreign.grants.saturating_add(1);
        }
        is_own
    });
    batch.records.retain(|record| {
        let is_own = record.get("issuer").and_then(Value::as_str).is_none_or(|issuer| issuers.contains(issuer));
        foreign.records = foreign.records.saturating_add(u64::from(!is_own));
        is_own
    });
    foreign
}

/// 16 hexadecimal digits in lower case.
fn vm(vm: &str) -> Result<(), String> {
    let is_vm = vm.len() == 16 && vm.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_vm.then_some(()).ok_or_else(|| "`vm` must be 16 hexadecimal digits".to_owned())
}

fn when(until: u64, against: &Against<'_>) -> Result<(), String> {
    if until > against.now.saturating_add(MAX_AHEAD) {
        let ahead = until.saturating_sub(against.now) / 1_000;
        return Err(format!("`until` is {ahead} s ahead of the clock of the hub: look at the clock of the proxy"));
    }
    if until < against.oldest {
        return Err(format!("`until` is {until}, and what ended before {} is not kept", against.oldest));
    }
    Ok(())
}

/// When a stretch of time began: not after its end (a clock may have been set back), and not before what is kept. A day that
/// seems to hold what is older would be read for each question about old times.
fn began((since, until): (u64, u64), against: &Against<'_>) -> u64 {
    since.clamp(against.oldest.min(until), until)
}

/// Puts the time of a record between the oldest that is kept and the end of its batch: it is found by that time.
fn date(record: &mut Value, (oldest, until): (u64, u64)) {
    let Some(time) = record.get_mut("time_ms") else { return };
    let said = time.as_u64();
    let within = said.unwrap_or(until).clamp(oldest.min(until), until);
    if said != Some(within) {
        *time = within.into();
    }
}

/// About how many bytes the JSON values of batches, and rules of configurations, take in memory beside their text: a short
/// text can make many of them.
pub fn weight(post: &Post) -> usize {
    let of_batch = |batch: &Batch| {
        let details = batch.grants.iter().flat_map(|grant| &grant.grant.details);
        details.chain(&batch.records).map(weigh).fold(0, usize::saturating_add)
    };
    let outlines = post.configs.iter().map(outline::weight);
    post.batches.iter().map(of_batch).chain(outlines).fold(0, usize::saturating_add)
}

/// A text of a proxy in an error: the beginning of one that is long.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Times in order, and inside the batch.
fn within((first, last): (u64, u64), (since, until): (u64, u64)) -> (u64, u64) {
    let (first, last) = (first.min(last), first.max(last));
    (first.clamp(since, until), last.clamp(since, until))
}

fn count(name: &str, count: u64) -> Result<(), String> {
    if count > MAX_COUNT { Err(format!("`{name}` is {count}, and may be {MAX_COUNT}")) } else { Ok(()) }
}

fn few(name: &str, items: usize, most: usize) -> Result<(), String> {
    if items > most { Err(format!("`{name}` has {items} items, and may have {most}")) } else { Ok(()) }
}

/// A name that is not too long. Databases have no zero bytes in text.
fn text(name: &str, text: &mut String) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("`{name}` has {} bytes, and may have {MAX_TEXT}", text.len()));
    }
    if text.contains('\0') {
        *text = text.replace('\0', "\u{fffd}");
    }
    Ok(())
}

/// The same for all text in a JSON value.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(members) => {
            if members.keys().any(|name| name.contains('\0')) {
                let named = std::mem::take(members).into_iter();
                *members = named.map(|(name, value)| (name.replace('\0', "\u{fffd}"), value)).collect();
            }
            members.values_mut().for_each(clean);
        }
        _ => {}
    }
}
