//! `taskfence timeline`: what happened to a task, from all proxies, in order.

use std::io::Write;

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use serde::Deserialize;
use taskfence_hub::evidence::timeline::{Moment, Timeline as Answer};

use crate::commands::hub_options::{HubOptions, Output};
use crate::commands::window::WindowOptions;
use crate::failure::Failure;
use crate::remote::table;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::printable;
use crate::terminal::text::{time_ms, time_s};

/// Show what happened to a task, session, user, client or token, from all proxies, in order
///
/// It begins with the request for the grant and goes on after its end: attempts with a token that has ended are there too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence timeline --task task-42
  taskfence timeline --client agent-a7 --since 24h
  taskfence timeline --token t-1881 --issuer https://jit.example --output json")]
pub struct Timeline {
    #[command(flatten)]
    subject: Subject,

    /// The issuer of the tokens [default: all]
    #[arg(long, value_name = "URI", value_parser = NonEmpty::new(), help_heading = "About what")]
    issuer: Option<String>,

    #[command(flatten)]
    window: WindowOptions,

    #[command(flatten)]
    options: HubOptions,
}

/// Said of a timeline that the hub has cut at its default bounds.
const CUT: &str = "there is more than is shown: at most 1000 grants, not the first ones by time, 1000 events and 1000 single \
                   decisions, the first ones; ask for a shorter time";

/// Whose timeline.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// A task
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "About what")]
    task: Option<String>,

    /// The `sid` of a session
    #[arg(long, value_name = "SID", value_parser = NonEmpty::new(), help_heading = "About what")]
    session: Option<String>,

    /// The `sub` of a user
    #[arg(long, value_name = "SUB", value_parser = NonEmpty::new(), help_heading = "About what")]
    subject: Option<String>,

    /// The `client_id` of a client
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new(), help_heading = "About what")]
    client: Option<String>,

    /// The `jti` of a token, or its fingerprint; never the token itself
    #[arg(long, value_name = "JTI", value_parser = NonEmpty::new(), help_heading = "About what")]
    token: Option<String>,
}

impl Timeline {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut query = self.subject.query();
        query.extend(self.issuer.iter().map(|issuer| ("issuer", issuer.clone())));
        query.extend(self.window.query(console.now)?);
        let client = self.options.connect()?;
        let feed = self.options.feed(&client)?;
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.get(&format!("/v1/feeds/{feed}/timeline"), &query)?;
        match self.options.output {
            Output::Json => writeln!(console.out, "{}", serde_json::to_string_pretty(&answer)?)?,
            Output::Human => {
                let timeline = Answer::deserialize(answer)?;
                print(&timeline, console.out)?;
                if timeline.cut {
                    writeln!(console.err, "note: {CUT}")?;
                }
            }
        }
        Ok(Exit::Done)
    }
}

impl Subject {
    fn query(&self) -> Vec<(&'static str, String)> {
        let Subject { task, session, subject, client, token } = self;
        let all = [("task", task), ("session", session), ("subject", subject), ("client", client), ("token", token)];
        all.into_iter().filter_map(|(what, name)| Some((what, name.clone()?))).collect()
    }
}

/// Writes a timeline for people: its grants, and then each moment as a line.
pub fn print(timeline: &Answer, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "{} {} of the feed {}",
        printable(&timeline.what),
        printable(&timeline.name),
        printable(&timeline.feed)
    )?;
    if timeline.grants.is_empty() && timeline.moments.is_empty() {
        writeln!(out, "nothing is known about it in this time")?;
        return Ok(());
    }
    if !timeline.grants.is_empty() {
        let rows: Vec<_> = timeline
            .grants
            .iter()
            .map(|grant| {
                let known = |name: &Option<String>| name.as_deref().map(printable).unwrap_or_default();
                vec![
                    printable(&grant.token),
                    printable(&grant.subject),
                    known(&grant.client),
                    known(&grant.task),
                    known(&grant.session),
                    time_s(grant.issued_at),
                    time_s(grant.expires_at),
                    printable(&grant.scopes.join(" ")),
                ]
            })
            .collect();
        writeln!(out)?;
        let head = ["TOKEN", "SUBJECT", "CLIENT", "TASK", "SESSION", "ISSUED", "EXPIRES", "SCOPE"];
        table::print(&head, &rows, out)?;
    }
    for node in timeline.nodes.iter().filter(|node| node.principals.len() > 1) {
        let principals: Vec<_> = node.principals.iter().map(|name| printable(name)).collect();
        let name = printable(&node.node);
        writeln!(
            out,
            "\n{name}: several callers sent evidence under the name of this proxy: {}",
            principals.join(", ")
        )?;
    }
    writeln!(out)?;
    let rows: Vec<_> = timeline.moments.iter().map(row).collect();
    table::print(&["TIME", "WHAT", "TOKEN", "PROXY", "DETAIL"], &rows, out)?;
    Ok(())
}

fn row(moment: &Moment) -> Vec<String> {
    let known = |name: &Option<String>| name.as_deref().map(printable).unwrap_or_default();
    let mut detail = printable(&moment.text);
    match moment.count {
        Some(1) | None => {}
        Some(count) => detail.push_str(&format!(", {count} times")),
    }
    if let Some(until) = moment.until {
        detail.push_str(&format!(", until {}", time_ms(until)));
    }
    if let Some(by) = &moment.by {
        detail.push_str(&format!(", by {}", printable(by)));
    }
    vec![time_ms(moment.at), moment.what.replace('_', " "), known(&moment.token), known(&moment.node), detail]
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use super::*;
    use crate::tests::snapshot;
    use taskfence_hub::evidence::model::NodeRow;
    use taskfence_hub::evidence::timeline::TimelineGrant;

    /// 2026-09-21T14:13:20Z, in milliseconds.
    const START: u64 = 1_790_000_000_000;

    fn printed(timeline: &Answer) -> String {
        let mut out = Vec::new();
        print(timeline, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn node(node: &str, principals: &[&str]) -> NodeRow {
        NodeRow { node: node.to_owned(), principals: principals.iter().map(|&name| name.to_owned()).collect() }
    }

    #[test]
    fn a_timeline_to_read() {
        let moment = |after: u64, what: &str, text: &str| Moment {
            at: START + after,
            what: what.to_owned(),
            text: text.to_owned(),
            token: Some("t-1".to_owned()),
            ..Moment::default()
        };
        let mut timeline = Answer {
            feed: "main".to_owned(),
            what: "task".to_owned(),
            name: "task-42".to_owned(),
            grants: vec![TimelineGrant {
                token: "t-1".to_owned(),
                subject: "alice\u{1b}[31m".to_owned(),
                client: Some("agent-a7".to_owned()),
                task: Some("task-42".to_owned()),
                issued_at: START,
                expires_at: START + 300_000,
                scopes: vec!["refund".to_owned(), "orders.read".to_owned()],
                ..TimelineGrant::default()
            }],
            moments: vec![
                Moment { by: Some("bob".to_owned()), ..moment(0, "approved", "request approved") },
                Moment {
                    node: Some("envoy-1".to_owned()),
                    count: Some(5),
                    until: Some(START + 50_500),
                    ..moment(10_007, "first_use", "first POST by the rule `refund`")
                },
                Moment {
                    count: Some(1),
                    ..moment(60_000, "attempt_after_end", "refused by the rule `refund`: task_completed")
                },
            ],
            nodes: vec![node("envoy-1", &["mesh", "other"]), node("envoy-2", &["mesh"])],
            ..Answer::default()
        };
        let mut page = printed(&timeline);
        timeline.grants.clear();
        timeline.moments.clear();
        page.push_str(&format!("### nothing\n{}", printed(&timeline)));
        snapshot::check("timeline-human", &page);
    }
}
