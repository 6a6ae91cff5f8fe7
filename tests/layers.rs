//! Who may know whom: the order of `src/`, read off the `use` lines and paths of every file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer with all that it may use, besides itself. What is not named here may not be used.
const LAYERS: [(&str, &[&str]); 15] = [
    ("text", &[]),
    ("dial", &[]),
    ("paxos", &["text"]),
    ("kv", &["text"]),
    ("outbox", &["text", "paxos", "kv"]),
    ("replica", &["text", "paxos", "kv", "outbox"]),
    ("wire", &["text", "paxos", "kv", "outbox", "replica"]),
    ("check", &["text", "kv", "wire"]),
    ("disk", &["text", "paxos", "kv", "outbox", "replica"]),
    (
        "server",
        &[
            "text", "dial", "paxos", "kv", "outbox", "replica", "wire", "disk",
        ],
    ),
    (
        "sim",
        &[
            "text", "paxos", "kv", "outbox", "replica", "wire", "disk", "check",
        ],
    ),
    ("client", &["text", "dial", "paxos", "kv", "wire", "check"]),
    ("torture", &["paxos", "kv", "wire", "check", "client"]),
    (
        "cli",
        &[
            "text", "dial", "paxos", "kv", "replica", "wire", "check", "disk", "server", "sim",
            "client", "torture",
        ],
    ),
    ("main", &["cli"]),
];

/// What only the outermost layers may touch.
const OUTSIDE: [&str; 7] = [
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "Instant",
    "SystemTime",
];

/// The layers that may touch nothing outside. `sim` is a shell, but of a world of its own.
const PURE: [&str; 7] = ["text", "paxos", "kv", "outbox", "replica", "check", "sim"];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The layer a file belongs to: the first part of its path below `src`.
fn layer_of(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    let first = below
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The lines that are code, each with its number: no comments, and nothing from the tests on.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("")))
}

fn sources() -> Vec<(PathBuf, String, String)> {
    let mut files = Vec::new();
    rust_files(Path::new("src"), &mut files);
    let files = files.into_iter().filter(|path| !path.ends_with("lib.rs"));
    let files = files.filter(|path| !path.components().any(|part| part.as_os_str() == "tests"));
    let files = files.filter(|path| !path.ends_with("tests.rs"));
    files
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (layer_of(&path), path, text)
        })
        .map(|(layer, path, text)| (path, layer, text))
        .collect()
}

#[test]
fn a_module_uses_only_what_stands_above_or_beside_it() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.into_iter().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, layer, text) in sources() {
        let allowed = layers
            .get(layer.as_str())
            .unwrap_or_else(|| panic!("{layer} has no place"));
        for (number, line) in code(&text) {
            let prefix = if layer == "main" {
                "quince::"
            } else {
                "crate::"
            };
            for used in line.split(prefix).skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                seen += 1;
                if used != layer && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}:{number}: {layer} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(
        seen > 100,
        "the test reads the use lines: found only {seen}"
    );
}

/// P36 among others: what has no clock rests on none.
#[test]
fn the_pure_layers_touch_no_socket_file_thread_or_clock() {
    let mut wrong = Vec::new();
    for (path, layer, text) in sources() {
        if !PURE.contains(&layer.as_str()) {
            continue;
        }
        for (number, line) in code(&text) {
            for outside in OUTSIDE.iter().filter(|outside| line.contains(**outside)) {
                wrong.push(format!(
                    "{}:{number}: {layer} touches {outside}",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The codes of pitfalls (`P41`, `D7`) in a text, each once.
fn codes(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| {
            let number = word.strip_prefix(['P', 'D']).unwrap_or_default();
            !number.is_empty() && number.len() <= 2 && number.chars().all(|c| c.is_ascii_digit())
        })
        .collect()
}

/// Everything that is a test: a function with `#[test]`, a golden script, a planted mistake.
fn tests_of_all_kinds() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(Path::new("src"), &mut files);
    rust_files(Path::new("tests"), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            is_test |= line.starts_with("#[test]");
            if let Some(name) = line.strip_prefix("fn ") {
                let name = name.split('(').next().unwrap();
                if std::mem::take(&mut is_test) {
                    found.insert(name.to_owned());
                }
            }
        }
    }
    for dir in ["tests/scripts", "tests/mistakes"] {
        let entries = fs::read_dir(dir).unwrap();
        found.extend(entries.map(|entry| {
            let path = entry.unwrap().path();
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        }));
    }
    found
}

/// `tests/pitfalls.md` has a row for each code that stands anywhere, and each row names tests that are
/// there.
#[test]
fn every_pitfall_is_told_with_the_tests_that_hold_it() {
    let page = fs::read_to_string("tests/pitfalls.md").unwrap();
    let known = tests_of_all_kinds();
    let mut told = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let &[code, _, held_by] = &cells[..] else {
            panic!("three cells in {row}");
        };
        if codes(code).is_empty() {
            continue;
        }
        assert!(told.insert(code), "{code} has two rows");
        let names: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{code} is held by no test");
        for name in names {
            assert!(known.contains(name), "{code}: there is no test {name}");
        }
    }
    let mut files = Vec::new();
    rust_files(Path::new("src"), &mut files);
    rust_files(Path::new("tests"), &mut files);
    for dir in ["tests/scripts", "tests/mistakes"] {
        files.extend(
            fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for code in codes(&text) {
            assert!(told.contains(code), "{}: {code} has no row", file.display());
        }
    }
}
