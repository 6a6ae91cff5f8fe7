//! Who may know whom: the order of `src/`, read off the `use` lines and paths of every file.

use std::collections::BTreeMap;
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
