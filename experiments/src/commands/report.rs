//! `sphinx report`: tables from records: accuracies over all seeds, and what training steps took.

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_figures::claims;
use sphinx_figures::load;
use sphinx_figures::summary::{self, Summary};

use crate::cli::ReportArgs;
use crate::output::{Output, number};
use crate::table::{Table, percent, seconds};
use crate::usage::OrUsage;

mod steps;

use steps::Step;

pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let mut records = Vec::new();
    for run in &args.runs {
        let loaded = load::load(run).or_usage(format!("reading the run {}", run.display()))?;
        records.extend(loaded.records);
    }
    let rows = summary::accuracies(&records)?;
    if rows.is_empty() {
        out.warn("no record holds an accuracy");
    }
    for dataset in names(rows.iter().map(|r| r.dataset.as_str())) {
        let rows: Vec<&Summary> = rows.iter().filter(|r| r.dataset == dataset).collect();
        out.say(format_args!("{dataset}\n{}\n", table(&rows)));
    }
    let claims = claims::published()?;
    let steps: Vec<Step<'_>> = records.iter().filter_map(Step::of).collect();
    for dataset in names(steps.iter().map(Step::dataset)) {
        let of_set = |s: &&Step<'_>| s.dataset() == dataset;
        let steps: Vec<&Step<'_>> = steps.iter().filter(of_set).collect();
        out.say(format_args!(
            "{dataset}\n{}\n",
            steps::table(&steps, &claims.step)
        ));
    }
    out.object(&json!({
        "rows": rows.iter().map(object).collect::<Vec<_>>(),
        "steps": steps.iter().map(Step::object).collect::<Vec<_>>(),
    }));
    Ok(())
}

/// Each once, in order.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = all.collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn table(rows: &[&Summary]) -> Table {
    let mut table = Table::new([
        "network, engine",
        "epsilon",
        "delta",
        "accountant",
        "seeds",
        "mean",
        "least",
        "most",
        "seconds",
    ]);
    for row in rows {
        let private = row.epsilon.is_finite();
        let delta = row.delta.filter(|_| private);
        table.row(
            row.name.clone(),
            [
                if private {
                    row.epsilon.to_string()
                } else {
                    "inf".to_owned()
                },
                delta.map_or("-".to_owned(), |d| format!("{d:e}")),
                row.accountant
                    .clone()
                    .filter(|_| private)
                    .unwrap_or_else(|| "-".to_owned()),
                row.seeds.len().to_string(),
                percent(row.mean),
                percent(row.range.low),
                percent(row.range.high),
                row.seconds.map_or("-".to_owned(), seconds),
            ],
        );
    }
    table
}

fn object(row: &Summary) -> Value {
    json!({
        "dataset": row.dataset,
        "series": row.name,
        "epsilon": number(row.epsilon),
        "delta": row.delta,
        "accountant": row.accountant,
        "seeds": row.seeds,
        "accuracy_mean": row.mean,
        "accuracy_min": row.range.low,
        "accuracy_max": row.range.high,
        "seconds_mean": row.seconds,
    })
}
