//! The files of the workspace, read once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::code;

/// A text file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    /// The whole text.
    pub(crate) text: String,
    /// For Rust: the text with comments and literals blanked out, line for line.
    pub(crate) code: String,
}

/// What the project consists of; everything else in the folder is somebody's output.
const ROOTS: [&str; 9] = [
    "he",
    "dp",
    "nn",
    "protocol",
    "paper-figures",
    "experiments",
    "tests",
    "book/src",
    ".ci",
];

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests crate lies in the workspace")
        .to_path_buf()
}

/// All Rust files.
pub(crate) fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        files()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .filter_map(read)
            .map(|s| Source {
                code: code::blank(&s.text),
                ..s
            })
            .collect()
    })
}

/// All text files, Rust included; figures and data are not text.
pub(crate) fn texts() -> &'static [Source] {
    static TEXTS: OnceLock<Vec<Source>> = OnceLock::new();
    TEXTS.get_or_init(|| files().into_iter().filter_map(read).collect())
}

fn read(path: PathBuf) -> Option<Source> {
    let text = String::from_utf8(fs::read(root().join(&path)).expect("a listed file")).ok()?;
    Some(Source {
        path,
        text,
        code: String::new(),
    })
}

/// All files of the project, relative to the workspace, in order.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root()).expect("the workspace").flatten() {
        // In a linked worktree `.git` is a file.
        if entry.path().is_file() && entry.file_name() != ".git" {
            found.push(PathBuf::from(entry.file_name()));
        }
    }
    found.push("book/book.toml".into());
    for folder in ROOTS {
        collect(&root().join(folder), Path::new(folder), &mut found);
    }
    found.sort();
    found
}

fn collect(folder: &Path, relative: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .expect("a folder of the workspace")
        .flatten()
    {
        let (path, relative) = (entry.path(), relative.join(entry.file_name()));
        // A build folder of one crate, or what an editor or a failed property test left.
        let foreign = ["target", "proptest-regressions"]
            .iter()
            .any(|name| relative.ends_with(name));
        if path.is_dir() && !foreign {
            collect(&path, &relative, found);
        } else if path.is_file() {
            found.push(relative);
        }
    }
}
