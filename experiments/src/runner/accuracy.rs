//! Test accuracy, one trial per budget and seed.

use anyhow::{Context, Result};

use super::{Runner, cell_name};
use crate::job::Job;
use crate::progress::Progress;
use crate::report;

/// Runs the cells that are not recorded.
pub(super) fn run(runner: &mut Runner<'_>) -> Result<()> {
    let finished = runner.finished()?;
    let cells = runner.chosen()?;
    let mut progress = Progress::new(runner.out, "trials", cells.len() as u64);
    for (done, (epsilon, seed)) in (1..).zip(cells) {
        // Sizes that the definition fixes name the trial before any data is read.
        let part = &runner.definition.data;
        if let (Some(train), Some(test)) = (part.train, part.validation.or(part.test)) {
            let config = runner.definition.cell(epsilon, seed, train, test)?;
            if finished.contains(&config.trial_id()) {
                runner.run.clear_work(&config.trial_id())?;
                progress.advance(done, "recorded already");
                continue;
            }
        }
        let split = runner.split(seed)?;
        let (train, test) = (split.train.len(), split.test.len());
        let config = runner.definition.cell(epsilon, seed, train, test)?;
        let trial = config.trial_id();
        if finished.contains(&trial) {
            runner.run.clear_work(&trial)?;
            progress.advance(done, "recorded already");
            continue;
        }
        let name = cell_name(&config);
        let mut job = Job::new(config, split)?;
        if let Some(start) = runner.starts.get(&seed) {
            job = job.starting_from(start.clone());
        }
        let trained = runner.train(&job, &name).context(name.clone())?;
        if let Some(found) = job.found() {
            runner.starts.insert(seed, found.clone());
        }
        let record = report::training_record(&runner.definition.name, &job, &trained, None);
        runner.append(record)?;
        runner.run.clear_work(&trial)?;
        let facts = format!("{name}: accuracy {:.4}", trained.accuracy);
        progress.advance(done, &facts);
    }
    progress.finish();
    Ok(())
}
