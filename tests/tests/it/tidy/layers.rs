//! The import law, read from the manifests.

use std::collections::BTreeMap;
use std::fs;

use super::report;
use super::tree::root;

/// Crate, folder, and the crates of this workspace that it may see. The tests crate sees all.
const LAW: [(&str, &str, &[&str]); 6] = [
    ("sphinx-he", "he", &[]),
    ("sphinx-dp", "dp", &[]),
    ("sphinx-nn", "nn", &[]),
    ("sphinx-figures", "paper-figures", &[]),
    (
        "sphinx-protocol",
        "protocol",
        &["sphinx-he", "sphinx-dp", "sphinx-nn"],
    ),
    (
        "sphinx-experiments",
        "experiments",
        &[
            "sphinx-he",
            "sphinx-dp",
            "sphinx-nn",
            "sphinx-protocol",
            "sphinx-figures",
        ],
    ),
];

/// Tables of a manifest that name other crates.
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).expect("a manifest");
    text.parse()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The workspace's crates that a manifest names, in whatever table and under whatever alias.
fn seen(manifest: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let scopes = targets
        .into_iter()
        .flat_map(|t| t.values())
        .filter_map(toml::Value::as_table);
    for scope in scopes.chain([manifest]) {
        for table in TABLES
            .iter()
            .filter_map(|name| scope.get(*name)?.as_table())
        {
            for (name, value) in table {
                let package = value
                    .get("package")
                    .and_then(toml::Value::as_str)
                    .unwrap_or(name);
                if package.starts_with("sphinx-") || value.get("path").is_some() {
                    found.push(package.to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn layers_see_only_what_the_law_allows() {
    let mut offences = Vec::new();
    for (package, folder, allowed) in LAW {
        let manifest = manifest(folder);
        assert_eq!(
            manifest["package"]["name"].as_str(),
            Some(package),
            "{folder}/Cargo.toml"
        );
        for other in seen(&manifest) {
            // A crate may turn on a feature of its own for its tests.
            if other != package && !allowed.contains(&other.as_str()) {
                offences.push(format!(
                    "{folder}/Cargo.toml: {package} must not see {other}"
                ));
            }
        }
    }
    report(
        "the import law (ARCHITECTURE.md): move the code to where both sides may see it",
        &offences,
    );
}

#[test]
fn every_member_is_under_the_law() {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"]
        .as_array()
        .expect("a list of members");
    let lawful: BTreeMap<&str, &str> = LAW
        .iter()
        .map(|(name, folder, _)| (*folder, *name))
        .collect();
    for member in members.iter().filter_map(toml::Value::as_str) {
        assert!(
            lawful.contains_key(member) || member == "tests",
            "{member} is a member of the workspace, but no row of the law says what it may see"
        );
    }
}

#[test]
fn members_keep_the_workspace_lints() {
    let folders = LAW.iter().map(|(_, folder, _)| *folder).chain(["tests"]);
    let offences: Vec<String> = folders
        .filter(|folder| {
            let lints = manifest(folder)
                .get("lints")
                .and_then(|l| l.get("workspace").cloned());
            lints.and_then(|l| l.as_bool()) != Some(true)
        })
        .map(|folder| format!("{folder}/Cargo.toml"))
        .collect();
    report("every manifest has `[lints] workspace = true`", &offences);
}
