//! Who held what in a window of time, as a table.

use std::io::{self, Write};

use taskfence_hub::evidence::report::{Alive, AliveGrant};

use crate::remote::table;
use crate::terminal::text::{printable, printable_json, time_s};

/// Writes `alive` for people.
pub fn print(alive: &Alive, out: &mut dyn Write) -> io::Result<()> {
    let (since, until) = (time_s(alive.since), time_s(alive.until));
    writeln!(out, "grants of the feed {} that could be used between {since} and {until}", printable(&alive.feed))?;
    if alive.grants.is_empty() {
        return writeln!(out, "there was none that the hub knows of");
    }
    writeln!(out)?;
    let rows: Vec<_> = alive.grants.iter().map(row).collect();
    let head = ["FROM", "TO", "ENDED BY", "SUBJECT", "CLIENT", "TASK", "TOKEN", "PERMITTED", "SCOPE AND DETAILS"];
    table::print(&head, &rows, out)?;
    if alive.cut {
        writeln!(out, "\nthere were more; ask for a shorter time")?;
    }
    if alive.grants.iter().any(|grant| !grant.seen) {
        writeln!(out, "\nissued only: no proxy has sent a use of this grant to the hub")?;
    }
    Ok(())
}

fn row(grant: &AliveGrant) -> Vec<String> {
    let known = |name: &Option<String>| name.as_deref().map(printable).unwrap_or_default();
    vec![
        time_s(grant.from),
        time_s(grant.to),
        printable(&grant.ended_by).replace('_', " "),
        printable(&grant.subject),
        known(&grant.client),
        known(&grant.task),
        printable(&grant.token),
        if grant.seen { grant.permitted.to_string() } else { "issued only".to_owned() },
        what(grant),
    ]
}

fn what(grant: &AliveGrant) -> String {
    let details = grant.details.iter().map(printable_json);
    grant.scopes.iter().map(|scope| printable(scope)).chain(details).collect::<Vec<_>>().join(" ")
}
