//! Documents: links lead somewhere, the README's commands are the checked ones, and every chapter
//! of the book is complete and compiled.

use std::path::{Path, PathBuf};

use super::tree::{Source, root, texts};
use super::{at, report};

/// The two commands of the first screen.
const COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo test --workspace"];

fn document(path: &str) -> &'static str {
    let found = texts().iter().find(|s| s.path == Path::new(path));
    &found.unwrap_or_else(|| panic!("{path} is missing")).text
}

/// Lines outside fenced code, numbered from one, with inline code removed.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let outside = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
            lines.push((number + 1, outside));
        }
    }
    lines
}

/// Targets of `[text](target)` on a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

/// Whether a target lies outside the repository, or is an item of the Rust documentation.
fn is_foreign(target: &str) -> bool {
    let schemes = ["http://", "https://", "mailto:", "#"];
    schemes.iter().any(|s| target.starts_with(s)) || target.contains("::")
}

#[test]
fn links_lead_somewhere() {
    let mut offences = Vec::new();
    for Source { path, text, .. } in texts()
        .iter()
        .filter(|s| s.path.extension().is_some_and(|e| e == "md"))
    {
        for (number, line) in prose(text) {
            for target in links(&line).filter(|t| !is_foreign(t)) {
                let file = target.split('#').next().unwrap_or_default();
                let folder = path.parent().unwrap_or(Path::new(""));
                if !root().join(folder).join(file).exists() {
                    offences.push(format!("{} leads to {file}", at(path, number)));
                }
            }
        }
    }
    report("relative links of documents lead to files", &offences);
}

/// The lines of the first `sh` block of the README.
fn first_commands() -> Vec<&'static str> {
    let mut lines = document("README.md").lines();
    lines.by_ref().find(|line| *line == "```sh");
    lines.take_while(|line| *line != "```").collect()
}

#[test]
fn the_readme_begins_with_two_commands() {
    assert_eq!(
        first_commands(),
        COMMANDS,
        "the first `sh` block of README.md"
    );
    let text = document("README.md");
    let line = text
        .lines()
        .position(|line| line == "```sh")
        .expect("a block of commands");
    assert!(
        line < 60,
        "the commands stand at line {line}; they belong on the first screen"
    );
}

#[test]
fn the_readme_has_a_place_for_real_output() {
    let text = document("README.md");
    let opens = text.matches("<!-- demo-output -->").count();
    let closes = text.matches("<!-- /demo-output -->").count();
    assert_eq!(
        (opens, closes),
        (1, 1),
        "README.md marks the demo's output once"
    );
}

#[cfg(unix)]
#[test]
fn the_checks_run_the_command_of_the_readme() {
    let output = std::process::Command::new("bash")
        .arg(root().join(".ci/run"))
        .arg("--print-test-command")
        .output()
        .expect("bash runs .ci/run");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        printed.trim(),
        COMMANDS[1],
        ".ci/run reads its test command from README.md"
    );
    let script = document(".ci/run");
    assert!(
        script.contains("bash -c \"$test_command\""),
        ".ci/run runs what it has read"
    );
}

/// Chapters and appendices, as the table of contents lists them.
fn chapters() -> Vec<PathBuf> {
    let summary = document("book/src/SUMMARY.md");
    prose(summary)
        .iter()
        .flat_map(|(_, line)| links(line).map(PathBuf::from).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_chapter_is_listed_and_compiled() {
    let listed = chapters();
    let compiled = document("tests/src/book.rs");
    let written = texts().iter().filter(|s| s.path.starts_with("book/src"));
    for file in written
        .filter_map(|s| s.path.file_name())
        .filter(|name| *name != "SUMMARY.md")
    {
        let file = Path::new(file);
        assert!(
            listed.contains(&file.to_path_buf()),
            "SUMMARY.md does not list {}",
            file.display()
        );
        assert!(
            compiled.contains(&format!("book/src/{}", file.display())),
            "tests/src/book.rs does not include {}",
            file.display()
        );
    }
}

#[test]
fn every_chapter_is_complete() {
    let parts = [
        "## Worked example",
        "```rust",
        "## Exercise",
        "## Where to look",
    ];
    let mut offences = Vec::new();
    for chapter in chapters().iter().filter(|c| !c.starts_with("appendix.md")) {
        let text = document(&format!("book/src/{}", chapter.display()));
        for part in parts.iter().filter(|part| !text.contains(*part)) {
            offences.push(format!("{} lacks `{part}`", chapter.display()));
        }
        if !text
            .lines()
            .any(|line| line.starts_with("> ") && line.ends_with('?'))
        {
            offences.push(format!(
                "{} asks no question (a line `> ...?`)",
                chapter.display()
            ));
        }
    }
    report(
        "a chapter has a question, a worked example, code, an exercise and a pointer",
        &offences,
    );
}
