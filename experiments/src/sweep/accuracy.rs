//! Test accuracy against epsilon, over seeds.

use anyhow::{Context, Result};
use clap::Parser;

use super::{Config, Job, Progress, Sweep, SweepArgs, SweepEngine, UsageError, report};

/// Trains once per epsilon and seed; records and draws accuracy against epsilon.
///
/// The default engine computes in the clear on the integer grid: it gives exactly the trajectory
/// of the encrypted engine, in a fraction of the time.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  accuracy-vs-epsilon --out runs/accuracy --epsilons 0.5,1,2,4,8,inf --seeds 1,2,3
  accuracy-vs-epsilon --out runs/mnist --dataset mnist --data ~/data/mnist --engine packed

Every seed is reported. Trials that are in the run directory already are not run again."
)]
pub struct AccuracyArgs {
    /// Budgets, with commas between them; `inf` trains without noise
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.5,1,2,4,8,inf",
        value_name = "E,E,.."
    )]
    pub epsilons: Vec<f64>,
    /// Seeds, with commas between them
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,2,3",
        value_name = "S,S,.."
    )]
    pub seeds: Vec<u64>,
    /// The network
    #[arg(long, value_name = "NAME", default_value = "mlp")]
    pub model: String,
    /// What both experiments share.
    #[command(flatten)]
    pub sweep: SweepArgs,
}

/// Runs the experiment.
///
/// # Errors
/// Whatever stops a trial; finished trials stay recorded.
pub fn accuracy_vs_epsilon(args: &AccuracyArgs) -> Result<()> {
    if let Some(bad) = args.epsilons.iter().find(|e| e.is_nan() || **e <= 0.0) {
        return Err(UsageError::flag(
            "--epsilons",
            format!("{bad} is not above 0"),
        ));
    }
    let sweep = Sweep::new("accuracy-vs-epsilon", &args.sweep)?;
    if args.sweep.engine == SweepEngine::Clear {
        sweep
            .out
            .remark("on the integer grid, in the clear: exactly the trajectory of packed");
    }
    let finished = sweep.finished()?;
    let total = args.seeds.len() * args.epsilons.len();
    let mut progress = Progress::new(sweep.out, "trials", total as u64);
    let mut done = 0;
    for &seed in &args.seeds {
        let split = sweep.split(seed)?;
        for &epsilon in &args.epsilons {
            let private = epsilon.is_finite();
            let config = Config {
                model: args.model.clone(),
                private,
                epsilon: private.then_some(epsilon),
                ..sweep.config(&split, seed)
            };
            config.check()?;
            if done == 0 {
                sweep.run.write_config(&config)?;
            }
            done += 1;
            if finished.contains(&config.trial_id()) {
                progress.advance(done, "recorded already");
                continue;
            }
            let job = Job::new(config, split.clone())?;
            let trained = sweep
                .train(&job)
                .context(format!("epsilon {epsilon}, seed {seed}"))?;
            sweep
                .run
                .append(&report::training_record(sweep.name, &job, &trained, None))?;
            let facts = format!(
                "epsilon {epsilon}  seed {seed}  accuracy {:.4}",
                trained.accuracy
            );
            progress.advance(done, &facts);
        }
    }
    progress.finish();
    sweep.finish()
}
