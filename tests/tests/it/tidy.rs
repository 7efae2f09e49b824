//! The house rules that no compiler checks: layers, sizes, names, words, links.
//!
//! Each test collects every offence before it fails, and says for each where it is and what to do.
//! The rules themselves are in `CONTRIBUTING.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod code;
mod documents;
mod layers;
mod tree;

use tree::{Source, sources, texts};

/// The longest file, in lines.
const FILE_CEILING: usize = 700;
/// The longest body of a function, in lines of code.
const FUNCTION_CEILING: usize = 80;
/// The first line of a file of declarations or numbers, which may be longer.
const TABLE_MARK: &str = "//! Table:";
/// Names that say nothing about what is inside.
const VAGUE_NAMES: [&str; 6] = ["utils", "common", "helpers", "base", "types", "misc"];

/// Fails with all offences, one a line.
fn report(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}\n  {}", offences.join("\n  "));
}

fn at(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.display())
}

#[test]
fn files_are_short() {
    let offences: Vec<String> = sources()
        .iter()
        .filter(|s| !s.text.starts_with(TABLE_MARK))
        .map(|s| (s, s.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_CEILING)
        .map(|(s, lines)| format!("{}: {lines} lines", s.path.display()))
        .collect();
    report(
        &format!(
            "files have at most {FILE_CEILING} lines: split by subject, or begin a file of mere \
             declarations with `{TABLE_MARK}`"
        ),
        &offences,
    );
}

#[test]
fn functions_are_short() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|s| !s.text.starts_with(TABLE_MARK)) {
        for (line, name, length) in code::functions(&source.code) {
            if length > FUNCTION_CEILING {
                offences.push(format!(
                    "{} `{name}`: {length} lines",
                    at(&source.path, line)
                ));
            }
        }
    }
    report(
        &format!("functions have at most {FUNCTION_CEILING} lines of code: name the parts"),
        &offences,
    );
}

#[test]
fn names_say_something() {
    let mut offences = Vec::new();
    for source in sources() {
        let parts = source.path.iter().filter_map(|p| p.to_str());
        for part in parts.map(|p| p.trim_end_matches(".rs")) {
            if VAGUE_NAMES.contains(&part) {
                offences.push(source.path.display().to_string());
            }
        }
        for (number, line) in source.code.lines().enumerate() {
            let words = line
                .trim_start()
                .trim_start_matches("pub ")
                .trim_start_matches("(crate) ");
            if let Some(name) = words.strip_prefix("mod ")
                && VAGUE_NAMES.contains(&name.trim_end_matches([';', '{', ' ']))
            {
                offences.push(at(&source.path, number + 1));
            }
        }
    }
    report(
        &format!(
            "no module is called {}: name what it holds",
            VAGUE_NAMES.join(", ")
        ),
        &offences,
    );
}

/// Whether a file is a test module, which needs no introduction.
fn is_test_module(path: &Path) -> bool {
    let named = path.file_name().is_some_and(|name| name == "tests.rs");
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .is_some_and(|name| name == "tests");
    named || folder && path.iter().any(|part| part == "src")
}

#[test]
fn modules_introduce_themselves() {
    let offences: Vec<String> = sources()
        .iter()
        .filter(|s| !is_test_module(&s.path))
        .filter(|s| !s.text.trim_start().starts_with("//!"))
        .map(|s| s.path.display().to_string())
        .collect();
    report(
        "every module file begins with `//!`: what it is, where it sits, what must be true",
        &offences,
    );
}

/// Where `unsafe` may stand: the vector kernels, and the call of the matrix kernel, whose
/// interface takes pointers.
fn may_be_unsafe(path: &Path) -> bool {
    let named = ["he/src/simd.rs", "nn/src/gemm.rs"]
        .iter()
        .any(|name| path == Path::new(name));
    named || path.starts_with("he/src/simd")
}

#[test]
fn unsafe_is_confined() {
    let mut census: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut offences = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            let count = code::words(line).filter(|word| *word == "unsafe").count();
            if count == 0 {
                continue;
            }
            *census.entry(source.path.clone()).or_default() += count;
            if !may_be_unsafe(&source.path) {
                offences.push(at(&source.path, number + 1));
            }
        }
    }
    let total: usize = census.values().sum();
    println!("unsafe census: {total} in all");
    for (path, count) in &census {
        println!("  {count} in {}", path.display());
    }
    report(
        "`unsafe` stands only in he/src/simd and nn/src/gemm.rs",
        &offences,
    );
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here so that this file does not contain them.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|parts| parts.concat());
    let mut offences = Vec::new();
    for Source { path, text, .. } in texts() {
        for (number, line) in text.lines().enumerate() {
            if code::words(line).any(|word| marks.iter().any(|mark| mark == word)) {
                offences.push(at(path, number + 1));
            }
        }
    }
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            if line.contains("todo!") || line.contains("unimplemented!") {
                offences.push(at(&source.path, number + 1));
            }
        }
    }
    report(
        "finish it, or write it down as a limit where users look",
        &offences,
    );
}

#[test]
fn no_test_is_switched_off() {
    let mut offences = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            let squeezed: String = line.split_whitespace().collect();
            if squeezed.contains("#[ignore") || squeezed.contains(",ignore") {
                offences.push(at(&source.path, number + 1));
            }
        }
    }
    let fence = ["```", "ignore"].concat();
    for Source { path, text, .. } in texts() {
        for (number, line) in text.lines().enumerate() {
            if line.contains(&fence) {
                offences.push(at(path, number + 1));
            }
        }
    }
    report(
        "a test that does not run is no test: repair it or delete it",
        &offences,
    );
}

#[test]
fn nothing_names_a_machine() {
    let places = [
        "/ho@me/", "/ro@ot/", "/wo@rk/", "/Us@ers/", "/t@mp/", "C:@\\",
    ];
    let hosts = [
        "index.crates@.io",
        "static.crates@.io",
        "rsproxy@.",
        "artifact@ory",
        ".inter@nal/",
    ];
    let marks: Vec<String> = places
        .iter()
        .chain(&hosts)
        .map(|mark| mark.replace('@', ""))
        .collect();
    let mut offences = Vec::new();
    for Source { path, text, .. } in texts().iter().filter(|s| s.path != Path::new("Cargo.lock")) {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(mark.as_str())) {
                offences.push(format!("{} names {mark}", at(path, number + 1)));
            }
        }
    }
    report(
        "files name no machine's folders and no registry's hosts",
        &offences,
    );
}
