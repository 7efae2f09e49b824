//! `sphinx run`: an experiment from its definition.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::RunArgs;
use crate::definition::Definition;
use crate::output::Output;
use crate::run_dir::file_date;
use crate::runner;
use crate::table::Table;

pub(super) fn run(args: &RunArgs) -> Result<()> {
    let mut definition = Definition::read(&args.definition)?;
    if let Some(records) = args.validate {
        definition.data.validation = Some(records);
        definition.name.push_str("-validation");
        definition.check()?;
    }
    if args.dry_run {
        return list(&definition, args);
    }
    let folder = args.out.clone().unwrap_or_else(|| {
        let name = format!("runs/{}-{}", file_date(), definition.name);
        PathBuf::from(name)
    });
    runner::run(&definition, &folder, &args.runner)
}

/// Records of a set whose size the definition leaves to its files.
const LIKELY: (usize, usize) = (60_000, 10_000);

/// Shows the cells and what they cost, without running them.
fn list(definition: &Definition, args: &RunArgs) -> Result<()> {
    let out = Output::new(args.runner.output.json, args.runner.output.quiet);
    let sizes = (
        definition.data.train.unwrap_or(LIKELY.0),
        definition.data.test.unwrap_or(LIKELY.1),
    );
    let cells = definition.cells(sizes.0, sizes.1)?;
    let mut table = Table::new(["trial", "epsilon", "seed", "steps", "batch", "lr"]);
    for cell in &cells {
        table.row(
            cell.trial_id(),
            [
                cell.epsilon.map_or("inf".to_owned(), |e| e.to_string()),
                cell.public_seed().to_string(),
                cell.steps.to_string(),
                cell.batch.to_string(),
                cell.lr.to_string(),
            ],
        );
    }
    out.say(table);
    let trials: Vec<String> = cells.iter().map(|cell| cell.trial_id()).collect();
    out.object(&serde_json::json!({ "experiment": definition.name, "trials": trials }));
    Ok(())
}
