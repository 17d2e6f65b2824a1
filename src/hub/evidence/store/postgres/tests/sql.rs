//! The queries of `docs/evidence-store.md`, on both engines.

use crate::evidence::fixture::Fixture;
use crate::evidence::store::day::{DAY, HOUR};
use crate::evidence::store::testing::Home;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

const PAGE: &str = include_str!("../../../../../../docs/evidence-store.md");

/// The day of the queries: 2026-11-28.
const BEGIN: u64 = 20_785 * DAY;

#[test]
fn every_query_of_the_page_finds_the_same_in_both_databases() {
    let Some(home) = Home::postgres("every_query_of_the_page_finds_the_same_in_both_databases") else { return };
    let files = Home::sqlite();
    let of_a_day = Fixture { since: BEGIN + HOUR, ..Fixture::before(BEGIN + 20 * HOUR, 2_000) };
    of_a_day.fill(&*home.open()).unwrap();
    of_a_day.fill(&*files.open()).unwrap();
    let folder = files.folder.path().join("evidence");
    let day = Connection::open(folder.join("2026-11-28.sqlite")).unwrap();
    day.execute("ATTACH ?1 AS i", [folder.join("index.sqlite").to_str().unwrap()]).unwrap();
    let queries: Vec<_> = PAGE.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(queries.len(), 11);
    for query in queries {
        let in_database = home.run(&format!("SET search_path = evidence; {query}")).replace(' ', "");
        let in_file = rows(&day, query).replace(' ', "");
        assert!(!in_file.is_empty(), "nothing is found: {query}");
        assert_eq!(in_database, in_file, "{query}");
    }
}

#[test]
fn the_page_has_every_column_of_every_view() {
    let Some(home) = Home::postgres("the_page_has_every_column_of_every_view") else { return };
    let files = Home::sqlite();
    let of_a_day = Fixture { since: BEGIN + HOUR, ..Fixture::before(BEGIN + 20 * HOUR, 10) };
    of_a_day.fill(&*home.open()).unwrap();
    of_a_day.fill(&*files.open()).unwrap();
    let folder = files.folder.path().join("evidence");
    for view in ["grants", "uses", "refusals", "sightings", "records", "events", "gaps", "batches", "configs"] {
        let file = if view == "configs" { "index.sqlite" } else { "2026-11-28.sqlite" };
        let file = Connection::open(folder.join(file)).unwrap();
        let statement = file.prepare(&format!("SELECT * FROM {view}")).unwrap();
        let in_file: Vec<_> = statement.column_names().map(str::to_owned).collect();
        let text = format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'evidence' AND table_name = '{view}'
             ORDER BY ordinal_position"
        );
        let in_database = home.run(&text);
        assert_eq!(in_database.lines().collect::<Vec<_>>(), in_file, "{view}");
        let section = PAGE.split(&format!("\n### {view}\n")).nth(1).unwrap().split("\n#").next().unwrap();
        for column in &in_file {
            assert!(section.contains(&format!("`{column}`")), "{view}.{column} is not on the page");
        }
    }
}

/// The rows as `psql -At` prints them.
fn rows(file: &Connection, query: &str) -> String {
    let mut statement = file.prepare(query).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cell = |at| match row.get_ref(at).unwrap() {
            ValueRef::Null => String::new(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        lines.push((0..columns).map(cell).collect::<Vec<_>>().join("|"));
    }
    lines.join("\n")
}
