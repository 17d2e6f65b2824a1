//! The layout of the code stays what `docs/architecture.md` says: a room of `src/core` or `src/hub` imports only rooms
//! below it, and no files or folders of `src` import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src/core`, lowest first: a room may import only what stands before it.
const ROOMS: [&str; 19] = [
    "time", "reason", "index", "encoding", "http", "jose", "state", "ports", "keys", "token", "signal", "rules",
    "policy", "config", "decision", "live", "feed", "uses", "mcp",
];

/// The rooms of `src/hub`, lowest first, with the files that stand beside them.
const HUB_ROOMS: [&str; 23] = [
    "repeated",
    "config",
    "resolver",
    "problem",
    "histogram",
    "parking",
    "store",
    "replicas",
    "access",
    "intake",
    "ssf",
    "feed",
    "streams",
    "evidence",
    "api",
    "connection",
    "serve",
    "tls",
    "health",
    "operations",
    "metrics",
    "relay",
    "server",
];

/// Imports by file: `decision/judge.rs` -> `policy/policy.rs`.
type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

#[test]
fn a_room_imports_only_lower_ones() {
    for (crate_name, rooms) in [("core", &ROOMS[..]), ("hub", &HUB_ROOMS[..])] {
        let floor = |file: &Path| {
            let room = file.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
            let room = room.trim_end_matches(".rs").to_owned();
            let floor = rooms.iter().position(|known| *known == room);
            floor.unwrap_or_else(|| panic!("`{room}` is not one of the rooms of {crate_name} in {}", file!()))
        };
        let mut wrong = Vec::new();
        for (file, imported) in imports(&source(crate_name)) {
            wrong.extend(imported.iter().filter(|other| floor(&file) < floor(other)).map(|other| arrow(&file, other)));
        }
        assert!(wrong.is_empty(), "a room of {crate_name} imports a higher one:\n{}", wrong.join("\n"));
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for crate_name in ["core", "cli", "filter", "hub"] {
        let circle = circle(&imports(&source(crate_name)));
        assert!(circle.is_empty(), "a circle of files in src/{crate_name}:\n{}", circle.join("\n"));
    }
}

#[test]
fn no_folders_import_each_other_in_a_circle() {
    for crate_name in ["core", "cli", "hub"] {
        let mut folders = Imports::new();
        for (file, imported) in imports(&source(crate_name)) {
            let others = imported.iter().map(|other| top(other)).filter(|other| *other != top(&file));
            folders.entry(top(&file)).or_default().extend(others);
        }
        let circle = circle(&folders);
        assert!(circle.is_empty(), "a circle of folders in src/{crate_name}:\n{}", circle.join("\n"));
    }
}

#[test]
fn no_folder_of_core_is_crowded() {
    let mut folders = BTreeMap::<PathBuf, usize>::new();
    for file in files(&source("core")) {
        *folders.entry(file.parent().unwrap_or(Path::new("")).to_owned()).or_default() += 1;
    }
    let crowded: Vec<_> = folders.iter().filter(|(_, count)| **count > 16).collect();
    assert!(crowded.is_empty(), "more than 16 files: {crowded:?}");
}

fn source(crate_name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src").join(crate_name)
}

fn top(file: &Path) -> PathBuf {
    file.iter().next().map(PathBuf::from).unwrap_or_default()
}

fn arrow(from: &Path, to: &Path) -> String {
    format!("  {} -> {}", from.display(), to.display())
}

/// Every file below `folder` that is part of the product, relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Tests may use whatever they want.
            if path.is_dir() && !["tests", "testing", "snapshots"].contains(&name) {
                folders.push(path);
            } else if name.ends_with(".rs")
                && !["lib.rs", "main.rs", "mod.rs", "tests.rs", "testing.rs"].contains(&name)
            {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found
}

/// What the files below `folder` import of each other, without their unit tests.
fn imports(folder: &Path) -> Imports {
    let known: BTreeSet<_> = files(folder).into_iter().collect();
    let read = |file: &PathBuf| {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = product.lines().filter(|line| !line.trim_start().starts_with("//"));
        let imported = code.flat_map(|line| line.split("crate::").skip(1)).filter_map(|path| resolve(path, &known));
        let inside = code_paths(product, "super::").filter_map(|path| beside(file, path, &known));
        (file.clone(), imported.chain(inside).filter(|other| other != file).collect())
    };
    known.iter().map(read).collect()
}

fn code_paths<'t>(text: &'t str, prefix: &'static str) -> impl Iterator<Item = &'t str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(move |line| line.split(prefix).skip(1))
}

/// `config::problem::Problem` -> `config/problem.rs`; the longest path that is a file.
fn resolve(path: &str, known: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let is_name = |part: &&str| part.starts_with(|first: char| first.is_ascii_lowercase());
    let parts: Vec<_> = path.split("::").map(name).take_while(is_name).collect();
    (1..=parts.len()).rev().find_map(|length| {
        let file = parts.get(..length)?.iter().collect::<PathBuf>().with_extension("rs");
        known.contains(&file).then_some(file)
    })
}

/// The same for a path that begins in the folder of `file`'s parent module.
fn beside(file: &Path, path: &str, known: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let folder = file.parent()?;
    let whole = folder.iter().filter_map(|part| part.to_str()).chain([path]).collect::<Vec<_>>().join("::");
    resolve(&whole, known)
}

fn name(part: &str) -> &str {
    part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The arrows that are left when all that is imported by nobody, or imports nobody, has been taken away.
fn circle(imports: &Imports) -> Vec<String> {
    let mut left = imports.clone();
    loop {
        let ends: Vec<_> = left.iter().filter(|(_, to)| to.iter().all(|to| !left.contains_key(to))).collect();
        let Some(end) = ends.first().map(|(file, _)| (*file).clone()) else { break };
        left.remove(&end);
    }
    loop {
        let imported = |file: &PathBuf| left.values().any(|to| to.contains(file));
        let Some(start) = left.keys().find(|file| !imported(file)).cloned() else { break };
        left.remove(&start);
    }
    left.iter().flat_map(|(file, to)| to.iter().filter(|to| left.contains_key(*to)).map(|to| arrow(file, to))).collect()
}
