//! docs/performance.md: the figures of one run for readers, with how they came about.

use std::{fmt::Write, fs};

use taskfence_tests::artefacts;

use crate::{
    Error, Result,
    chart::{self, Bar},
    machine::Machine,
    report::{Results, Row, Spread, number},
};

/// Name of the file, title, and the sections whose added cost it shows.
const CHARTS: [(&str, &str, &[&str]); 2] = [
    ("peers", "CPU that a request takes above no filter", &["peers"]),
    (
        "scaling",
        "CPU of a warm request above no filter, with more of everything",
        &["rules", "token size", "state", "cached tokens", "live streams", "workers"],
    ),
];

/// Heading, what is said about it, and the sections whose rows stand in its table.
const TABLES: [(&str, &str, &[&str]); 7] = [
    (
        "Beside its peers",
        "One request, one token, one rule, and what stands in front of the service. `added` is CPU above `passthrough`, \
         the same request without a filter; `x no-op` and `x jwt_authn` divide it by what the no-op filter adds, and by what \
         jwt_authn and RBAC add for the same token: with the token cache, and for the cold rows without. Latency is that \
         of sixteen connections that never pause, so most of it is waiting for the proxy's one core: compare it, do not \
         expect it.",
        &["peers"],
    ),
    (
        "With more of everything",
        "The warm request again. `added` is above the same request without a filter in the same run.",
        &["rules", "token size", "state", "cached tokens", "live streams", "workers"],
    ),
    (
        "How soon a signal acts",
        "Signals are pushed to the sidecar itself. The client's own time is in these figures: it shares the machine.",
        &["propagation"],
    ),
    (
        "The hub",
        "One hub with its embedded store, on the same machine as the proxies or the load generator that follows it. The \
         load generator verifies one page of each revision and compares the bytes of the others with it; its own time is in \
         these figures.",
        &["hub"],
    ),
    (
        "A tree of hubs",
        "1 root, 10 relays with two CPUs each and 100,000 followers, in model time: discrete events, with the costs of the real hub \
         that the first row compares the model with. The pace of the root is the code of the hub.",
        &["tree"],
    ),
    ("Memory", "Growth of the resident memory of the process, divided by the number of what was added.", &["memory"]),
    ("The module", "What can be counted.", &["module"]),
];

/// Writes the page and its charts.
pub fn publish(results: &Results) -> Result<()> {
    let docs = artefacts::in_repository("docs");
    let folder = docs.join("performance");
    fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
    let write = |path: std::path::PathBuf, text: String| fs::write(&path, text).map_err(Error::doing(path.display()));
    for (file, title, sections) in CHARTS {
        let bars: Vec<Bar> = results
            .rows
            .iter()
            .filter(|row| sections.contains(&row.section()))
            .filter_map(|row| bar(row, sections))
            .collect();
        write(folder.join(format!("{file}.svg")), chart::bars(title, "us", &bars))?;
    }
    let latency: Vec<Bar> = results
        .rows
        .iter()
        .filter(|row| row.section() == "peers" && row.void.is_none())
        .filter_map(|row| {
            // The bar is the median, and its line goes on to the 99th percentile.
            let (p50, p99) = (row.p50_us?, row.p99_us?);
            let value = Spread { median: p50, low: p50, high: p99 };
            Some(Bar { label: case(row).to_owned(), value, target: None, ours: is_ours(row) })
        })
        .collect();
    let title = "Latency with a full core: half of the answers, and 99 of 100";
    write(folder.join("latency.svg"), chart::bars(title, "us", &latency))?;
    let ends = |row: &&Row| row.section() == "propagation" && row.unit == "ms";
    let ends: Vec<Bar> = results
        .rows
        .iter()
        .filter(ends)
        .filter_map(|row| Some(Bar { label: case(row).to_owned(), value: row.value?, target: None, ours: true }))
        .collect();
    write(
        folder.join("ends.svg"),
        chart::bars("A session is revoked: when its 1,000 streams have ended", "ms", &ends),
    )?;
    write(docs.join("performance.md"), page(results))
}

fn bar(row: &Row, sections: &[&str]) -> Option<Bar> {
    let added = row.added_us.filter(|_| row.void.is_none())?;
    let value = row.value?;
    // The spread of the figure itself, moved to what it adds.
    let around =
        Spread { median: added, low: added + value.low - value.median, high: added + value.high - value.median };
    let label = if sections.len() == 1 { case(row).to_owned() } else { row.name.replace('/', " ") };
    // So much longer that nothing could be read off the others.
    let scaled_cold = sections.len() > 1 && row.name.ends_with("cold");
    // Only what is compared with the figure of the bar can be marked on it.
    let of_added = row.targets.iter().filter(|target| target.value == added).map(|target| target.limit);
    (case(row) != "passthrough" && !row.name.contains("no filter") && !scaled_cold).then(|| Bar {
        label,
        value: around,
        target: of_added.reduce(f64::min),
        ours: is_ours(row),
    })
}

fn case(row: &Row) -> &str {
    row.name.split_once('/').map_or(row.name.as_str(), |(_, case)| case)
}

fn is_ours(row: &Row) -> bool {
    const PEERS: [&str; 6] = ["passthrough", "no-op", "floor", "jwt_authn", "ext_authz", "lua"];
    !PEERS.iter().any(|peer| case(row).starts_with(peer)) && !row.name.contains("no filter")
}

/// The page.
fn page(results: &Results) -> String {
    let mut text = String::new();
    let Machine { processor, cores, memory_gib, kernel, envoy, wrk, rustc, commit, date, pinned, .. } =
        &results.machine;
    let _ = write!(
        text,
        "# Performance\n\n\
         What Taskfence costs a request, beside what else guards a service in Envoy, measured in one run by \
         `scripts/bench --publish`, which wrote this page. Do not edit it.\n\n\
         The headline is CPU per request of the proxy's process (user and system, from /proc), in microseconds. Times \
         differ from machine to machine; ratios within a run are what to look at.\n\n"
    );
    if let Some(warning) = results.machine.warning() {
        let _ = write!(text, "**Note: {warning}.**\n\n");
    }
    text.push_str(&targets(&results.rows));
    for (heading, about, sections) in TABLES {
        let rows: Vec<&Row> = results.rows.iter().filter(|row| sections.contains(&row.section())).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {heading}\n\n{about}\n");
        for (file, title, charted) in CHARTS {
            if charted == sections {
                let _ = write!(text, "\n![{title}](performance/{file}.svg)\n");
            }
        }
        if sections == ["peers"] {
            text.push_str("\nA mark in orange is a target.\n\n![Latency](performance/latency.svg)\n");
        }
        if sections == ["propagation"] {
            text.push_str("\n![When streams end](performance/ends.svg)\n");
        }
        text.push('\n');
        let (requests, figures): (Vec<&Row>, Vec<&Row>) = rows.into_iter().partition(|row| row.expected.is_some());
        text.push_str(&of_requests(&requests, sections.len() > 1));
        text.push_str(&of_figures(&figures, sections.len() > 1));
    }
    let Results { rounds, seconds, took, .. } = results;
    let _ = write!(
        text,
        "\n## How it was measured\n\n\
         | | |\n|---|---|\n\
         | processor | {processor}, {cores} cores |\n| memory | {memory_gib} GiB |\n| kernel | {kernel} |\n\
         | Envoy | {envoy} |\n| load generator | {wrk} |\n| compiler | {rustc} |\n| commit | {commit} |\n| day | {date} |\n\
         | cores | proxy {}, with two workers {}; load generator {} |\n\
         | rounds | {rounds} of {seconds} s for each case, in turns |\n| in all | {} min |\n\n\
         Each case is a listener of one Envoy with one worker, which answers by itself (`direct_response`). In each round \
         each case runs once, so that what disturbs the machine disturbs all of them, and `passthrough` again after \
         every fourth. A round of a case counts if `passthrough` took at most 1.15 times its least just before and after, \
         and three rounds count in any case: a machine with neighbours has slow times, and which they are is not up to the \
         case. A figure is the median of these rounds, with the least and the most; what is added is the median of the \
         differences to `passthrough` just before and after; `least` is the difference of the least of both, since \
         noise only adds. All answers \
         are counted, by wrk and by Envoy: where one of them is not what it had to be, the row is void. Cold rows send \
         {} tokens in turns, more than a worker remembers.\n\n\
         ## To repeat it\n\n\
         ```\n\
         scripts/setup --bench      # installs wrk\n\
         scripts/bench              # the table, and target/bench/results.json\n\
         scripts/bench --quick      # coarser, in some ten minutes\n\
         scripts/bench --publish    # writes this page too\n\
         ```\n\n\
         The machine should have nothing else to do.\n",
        pinned.proxy,
        pinned.two,
        pinned.load,
        took.div_ceil(60),
        crate::tokens::MANY,
    );
    text
}

fn targets(rows: &[Row]) -> String {
    let mut text = String::from("## Targets\n\n| row | target | figure | at most | |\n|---|---|---|---|---|\n");
    for row in rows {
        for target in &row.targets {
            let met = if target.met { "met" } else { "**not met**" };
            let bound = if target.is_least { "at least " } else { "" };
            let (value, limit) = (number(target.value), format!("{bound}{}", number(target.limit)));
            let _ = writeln!(text, "| {} | {} | {value} | {limit} | {met} |", row.name, target.text);
        }
        if row.targets.is_empty()
            && let Some(target) = &row.target
        {
            let _ = writeln!(text, "| {} | {target} | | | **not measured** |", row.name);
        }
    }
    text
}

fn of_requests(rows: &[&Row], with_section: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "| case | CPU us | spread | added us | least | x no-op | x jwt_authn | p50 us | p99 us | answers |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let name = if with_section { row.name.replace('/', ", ") } else { case(row).to_owned() };
        let cell = |value: Option<f64>| value.map_or_else(String::new, number);
        let _ = match (&row.void, row.value) {
            (None, Some(value)) => writeln!(
                text,
                "| {name} | {} | {} to {} | {} | {} | {} | {} | {} | {} | {} |",
                number(value.median),
                number(value.low),
                number(value.high),
                cell(row.added_us),
                cell(row.added_least_us),
                cell(row.ratio_to_noop),
                cell(row.ratio_to_jwt_authn),
                cell(row.p50_us),
                cell(row.p99_us),
                row.n
            ),
            (why, _) => {
                writeln!(text, "| {name} | void: {} | | | | | | | | |", why.as_deref().unwrap_or("not measured"))
            }
        };
    }
    text.push('\n');
    let mut said = Vec::new();
    for row in rows.iter().filter(|row| !row.about.is_empty()) {
        if !said.contains(&&row.about) {
            let name = if with_section { row.section() } else { case(row) };
            let _ = writeln!(text, "- {name}: {}", row.about);
            said.push(&row.about);
        }
    }
    text
}

fn of_figures(rows: &[&Row], with_section: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n| | figure | spread | |\n|---|---|---|---|\n");
    for row in rows {
        let name = if with_section { row.name.replace('/', ", ") } else { case(row).to_owned() };
        let _ = match (&row.void, row.value) {
            (None, Some(value)) => {
                let spread = match value.low < value.high {
                    true => format!("{} to {}", number(value.low), number(value.high)),
                    false => String::new(),
                };
                writeln!(text, "| {name} | {} {} | {spread} | {} |", number(value.median), row.unit, row.about)
            }
            (why, _) => writeln!(text, "| {name} | void: {} | | |", why.as_deref().unwrap_or("not measured")),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Expected, Load, Yardsticks};

    #[test]
    fn what_is_not_met_and_what_is_void_is_said() {
        let expected = Expected { answer: "200".to_owned(), seen: 7 };
        let spread = Some(Spread::exactly(12.0));
        let mut load = Load {
            name: "warm".to_owned(),
            cpu: spread,
            added: spread,
            added_least: Some(11.0),
            counted: 1,
            p50: spread,
            p99: spread,
            answers: 7,
            expected,
            void: None,
        };
        let warm = load.row("peers/warm", "about it", Yardsticks { noop: Some(6.0), ..Yardsticks::default() });
        let warm = warm.target("small", Some(12.0), Some(9.0));
        load.void = Some("of 7 answers 3 were wrong".to_owned());
        let void = load.row("peers/denied", "about that", Yardsticks::default());
        let rows = [warm, void];
        assert!(targets(&rows).contains("| peers/warm | small | 12.0 | 9.00 | **not met** |"));
        let table = of_requests(&rows.iter().collect::<Vec<_>>(), false);
        assert!(table.contains("| warm | 12.0 | 12.0 to 12.0 | 12.0 | 11.0 | 2.00 |"), "{table}");
        assert!(table.contains("| denied | void: of 7 answers 3 were wrong |"), "{table}");
    }
}
