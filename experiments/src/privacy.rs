//! What a run costs and promises: sampling rate, capacity, noise, budget, ledger, statement.
//!
//! Batches are Poisson samples at rate `mean / records`, padded to a public capacity that the
//! tail of all steps exceeds with probability at most 2^-40 ([`DELTA_CAP`], a term of delta). The
//! noise is calibrated by the chosen accountant so that the last step still fits into the budget.
//! With the Renyi accountant the ledger composes what is charged; with any other it is bound to the
//! plan of so many steps of this kind, and refuses whatever the plan does not cover.
//!
//! ```
//! use sphinx_experiments::{config::Config, privacy::Terms};
//!
//! let terms = Terms::resolve(&Config::default())?;
//! assert!(terms.capacity > 512 && terms.noise.is_some());
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::path::Path;

use anyhow::{Context, Result};
use sphinx_dp::statement::{BiasRule, PrivacyStatement, RunFacts};
use sphinx_dp::{
    AccountError, AccountantKind, Adjacency, Budget, Calibrator, ClipBound, Delta, DpEvent,
    Epsilon, FixedPlan, GaussianMechanism, Ledger, LedgerBuilder, NoiseMultiplier, PoissonSampler,
    SamplingRate, Scheme, accountant, capacity,
};

use sphinx_protocol::plan::LocalPhase;

use crate::config::{Config, Engine};
use crate::usage::{OrUsage, UsageError};

/// The probability, over a whole run, that some batch exceeds the capacity.
pub const DELTA_CAP: f64 = 1.0 / (1_u64 << 40) as f64;

/// Slack between what given noise costs and the budget that follows from it.
const SLACK: f64 = 1e-9;

/// The public terms of a run.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How batches are drawn.
    pub rate: SamplingRate,
    /// Rows of every batch.
    pub capacity: usize,
    /// Accounted noise; none for a run without protection.
    pub noise: Option<NoiseMultiplier>,
    /// What may be spent.
    pub budget: Option<Budget>,
    /// Who prices the run.
    pub accountant: AccountantKind,
    /// Number of steps that are planned.
    pub steps: u64,
    /// The one Renyi order at which the ledger spends, if the run asked for a filter.
    pub filter_order: Option<f64>,
}

impl Terms {
    /// Works the terms out from a configuration.
    ///
    /// # Errors
    /// [`UsageError`] for numbers out of range and for a budget out of reach.
    pub fn resolve(config: &Config) -> Result<Self> {
        let records = config.train_size as u64;
        let rate = SamplingRate::from_mean(config.batch, records)
            .or_usage(format!("--batch for {records} training records"))?;
        let capacity = capacity::capacity(records, rate, config.steps, DELTA_CAP)
            .or_usage("the batch capacity")?;
        let delta = Delta::new(config.delta).or_usage("--delta")?;
        let (noise, budget) = match (config.private, config.noise_multiplier) {
            (false, _) => (None, None),
            (true, Some(z)) => given_noise(config, z, rate, delta)?,
            (true, None) => given_budget(config, rate, delta)?,
        };
        let filter_order = match noise.filter(|_| config.renyi_filter) {
            Some(z) => Some(best_order(z, rate, config.steps, delta)?),
            None => None,
        };
        Ok(Self {
            rate,
            capacity: usize::try_from(capacity)?,
            noise,
            budget,
            accountant: config.accountant,
            steps: config.steps,
            filter_order,
        })
    }

    /// What all steps together will have spent.
    ///
    /// # Errors
    /// If the accountant's arithmetic overflows.
    pub fn epsilon_of_run(&self, config: &Config) -> Result<Option<f64>> {
        let Some(z) = self.noise else { return Ok(None) };
        let delta = Delta::new(config.delta).or_usage("--delta")?;
        Ok(Some(price(config, z, self.rate, delta)?))
    }

    /// The mechanism for an engine whose clip bound is `bound` grid units.
    ///
    /// # Errors
    /// [`UsageError`] if the grid is too coarse for so little noise.
    pub fn mechanism(&self, bound: ClipBound) -> Result<GaussianMechanism> {
        let mechanism = match self.noise {
            Some(z) => {
                let scheme = Scheme::poisson(Adjacency::AddRemove, self.rate);
                GaussianMechanism::for_scheme(&scheme, bound, z)
            }
            None => GaussianMechanism::new(bound, None, self.rate),
        };
        mechanism.or_usage("the noise on the gradient grid")
    }

    /// Draws the batches.
    #[must_use]
    pub const fn sampler(&self) -> PoissonSampler {
        PoissonSampler::new(self.rate, self.capacity as u64)
    }

    /// A new ledger file, or a ledger in memory for a run whose releases go nowhere.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn ledger(&self, path: Option<&Path>) -> Result<Ledger> {
        let mut builder = LedgerBuilder::new(self.budget, Adjacency::AddRemove);
        if let (Some(plan), Some(_)) = (self.fixed_plan(), self.budget) {
            builder = builder.fixed_plan(plan).or_usage("--accountant")?;
        }
        if let Some(order) = self.filter_order {
            builder = builder.fixed_order(order).context("the Renyi filter")?;
        }
        match path {
            Some(path) => builder.create(path).context("the ledger"),
            None => Ok(builder.in_memory()),
        }
    }

    /// The plan that the ledger is bound to; none for the Renyi accountant, which prices whatever
    /// is charged, and for runs without noise.
    #[must_use]
    pub fn fixed_plan(&self) -> Option<FixedPlan> {
        let noise_multiplier = self
            .noise
            .filter(|_| self.accountant != AccountantKind::Rdp)?;
        Some(FixedPlan {
            accountant: self.accountant,
            rate: self.rate,
            noise_multiplier,
            steps: self.steps,
        })
    }

    /// The statement for what `ledger` holds.
    ///
    /// # Errors
    /// If the accountant's arithmetic overflows.
    pub fn statement(&self, ledger: &Ledger, config: &Config) -> Result<PrivacyStatement> {
        let facts = RunFacts {
            rate: Some(self.rate),
            bias_rule: config.bias,
            capacity: Some(self.capacity as u64),
            delta_cap: DELTA_CAP,
        };
        let mut statement = PrivacyStatement::new(ledger, &facts)?;
        if !config.grid {
            statement.proven = false;
            let rounding = "rounding in the float engine, which bounds a record's contribution \
                            only up to it (the integer grid is exact)";
            statement.not_covered.push(rounding.to_owned());
        }
        Ok(statement)
    }
}

/// What stands between the training records and the server, in a few words.
#[must_use]
pub const fn protection(config: &Config) -> &'static str {
    match (config.engine, config.private) {
        (Engine::PureHe, _) => "encryption alone: no noise, no epsilon",
        (_, true) if matches!(config.bias, BiasRule::Paper) => {
            "noise on released weights only: biases follow exact gradients, no epsilon is proven"
        }
        (Engine::Clear, true) => "differential privacy of the model; no server",
        (Engine::Clear, false) => "none: no noise; no server",
        (_, true) => "differential privacy of what is released, encryption of the rest",
        (_, false) => "encryption alone: what is released has no noise",
    }
}

/// The statement of a run with everything encrypted, which promises no differential privacy: `charges` steps
/// under the literal that `style` completes.
#[must_use]
pub fn encrypted_statement(security: &str, style: &str, charges: u64) -> String {
    format!(
        "\
privacy: NO epsilon: nothing is noised
  the server sees: ciphertexts, their sizes and times; weights, biases, inputs and output gradients are encrypted
    under the client's key (CKKS, {security}); nothing is released to it in the clear
  the model tells: whatever training without noise puts into it; whoever is given it decrypted, or its answers, is
    given that, and no bound holds
  decrypted results are approximate, and so carry traces of the secret key: they must stay at the client
    (Li and Micciancio, EUROCRYPT 2021)
  biases: encrypted, updated without noise
  style: {style}
  charges: {charges}, noted as unprotected
  not covered: a server that deviates; sizes and times; test records and anything computed from them"
    )
}

/// What a statement says more of a run whose client computes the products `local` itself; nothing if there
/// are none.
#[must_use]
pub fn kept_statement(local: &[LocalPhase]) -> Option<String> {
    if local.is_empty() {
        return None;
    }
    let names = local
        .iter()
        .map(|l| format!("{} of layer {}", l.phase, l.layer));
    let names = names.collect::<Vec<_>>().join(", ");
    Some(format!(
        "\
  kept at the client (--local): {names}
    the plan names them, so the server knows which they are, whatever the data; it is sent no ciphertext and
    returns none for them; it sees the ciphertexts of the other products, and the noised update of every weight as
    without --local, so epsilon and delta are the same"
    ))
}

/// The Renyi order that gives the least epsilon for the whole run: fixed before the first step, so that
/// a filter at this order covers runs that adapt, at the price of the run as planned.
fn best_order(z: NoiseMultiplier, rate: SamplingRate, steps: u64, delta: Delta) -> Result<f64> {
    let mut accountant = AccountantKind::Rdp.accountant(Adjacency::AddRemove);
    accountant.compose(&DpEvent::poisson_gaussian(rate, z), steps)?;
    Ok(accountant.epsilon(delta)?.order)
}

fn given_noise(
    config: &Config,
    z: f64,
    rate: SamplingRate,
    delta: Delta,
) -> Result<(Option<NoiseMultiplier>, Option<Budget>)> {
    let z = NoiseMultiplier::new(z).or_usage("--noise-multiplier")?;
    let epsilon = price(config, z, rate, delta)? * (1.0 + SLACK);
    let epsilon = Epsilon::new(epsilon).or_usage("the epsilon of --noise-multiplier")?;
    Ok((Some(z), Some(Budget { epsilon, delta })))
}

fn given_budget(
    config: &Config,
    rate: SamplingRate,
    delta: Delta,
) -> Result<(Option<NoiseMultiplier>, Option<Budget>)> {
    let Some(epsilon) = config.epsilon else {
        return Err(UsageError::flag(
            "--epsilon",
            "a private run needs a budget or a noise",
        ));
    };
    let calibrator = Calibrator {
        accountant: config.accountant,
        budget: Budget {
            epsilon: Epsilon::new(epsilon).or_usage("--epsilon")?,
            delta,
        },
        adjacency: Adjacency::AddRemove,
    };
    let z = calibrator
        .noise_multiplier(rate, config.steps)
        .or_usage("calibrating the noise")?;
    Ok((Some(z), Some(calibrator.budget)))
}

/// Epsilon of all steps, an upper bound.
fn price(config: &Config, z: NoiseMultiplier, rate: SamplingRate, delta: Delta) -> Result<f64> {
    let kind = config.accountant;
    let answer = accountant::price(kind, Adjacency::AddRemove, rate, z, config.steps, delta);
    answer
        .and_then(|answer| answer.upper.ok_or(AccountError::NoBound(kind)))
        .or_usage(format!("--accountant {kind}"))
}

#[cfg(test)]
mod tests {
    use sphinx_protocol::plan::Phase;

    use super::*;

    #[test]
    fn the_whole_run_fits_into_its_budget_and_nothing_more() {
        for config in [
            Config {
                epsilon: Some(2.0),
                ..Config::default()
            },
            Config {
                epsilon: Some(2.0),
                renyi_filter: true,
                ..Config::default()
            },
            Config {
                epsilon: None,
                noise_multiplier: Some(1.1),
                ..Config::default()
            },
            Config {
                accountant: AccountantKind::Pld,
                ..Config::default()
            },
            Config {
                epsilon: None,
                noise_multiplier: Some(1.1),
                accountant: AccountantKind::Moments,
                ..Config::default()
            },
        ] {
            let terms = Terms::resolve(&config).unwrap();
            let mechanism = terms.mechanism(ClipBound::new(1 << 18).unwrap()).unwrap();
            let mut ledger = terms.ledger(None).unwrap();
            for step in 0..config.steps {
                ledger.charge(step, &mechanism.event()).unwrap();
            }
            assert!(ledger.would_exceed(&mechanism.event()));
            let statement = terms.statement(&ledger, &config).unwrap();
            assert!(statement.proven && statement.delta > config.delta);
            let planned = terms.epsilon_of_run(&config).unwrap().unwrap();
            assert_eq!(statement.epsilon, planned);
        }
    }

    #[test]
    fn the_published_rule_of_biases_proves_nothing() {
        let config = Config {
            engine: Engine::Paper,
            bias: BiasRule::Paper,
            clip_samples: true,
            ..Config::default()
        };
        let terms = Terms::resolve(&config).unwrap();
        let mechanism = terms.mechanism(ClipBound::new(1 << 18).unwrap()).unwrap();
        let mut ledger = terms.ledger(None).unwrap();
        ledger.charge(0, &mechanism.event()).unwrap();
        let statement = terms.statement(&ledger, &config).unwrap();
        assert!(!statement.proven);
        assert!(statement.to_string().contains("NO epsilon is proven"));
        assert!(protection(&config).contains("no epsilon"));
    }

    #[test]
    fn a_run_with_everything_encrypted_claims_no_noise() {
        let told = encrypted_statement("classical-128", "lazy", 3);
        for part in [
            "NO epsilon",
            "nothing is released",
            "style: lazy",
            "charges: 3",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("noised jointly"));
        let config = Config {
            engine: Engine::PureHe,
            private: false,
            ..Config::default()
        };
        assert!(protection(&config).starts_with("encryption alone"));
    }

    #[test]
    fn products_kept_at_the_client_are_named() {
        assert_eq!(kept_statement(&[]), None);
        let local = [(Phase::Forward, 0), (Phase::Gradient, 2)];
        let local = local.map(|(phase, layer)| LocalPhase { phase, layer });
        let told = kept_statement(&local).unwrap();
        let named = "forward of layer 0, gradient of layer 2";
        assert!(told.contains(named), "{told}");
        assert!(told.contains("epsilon and delta are the same"), "{told}");
    }

    #[test]
    fn an_impossible_budget_is_the_users_error() {
        let config = Config {
            epsilon: Some(-1.0),
            ..Config::default()
        };
        assert_eq!(
            crate::usage::exit_code(&Terms::resolve(&config).unwrap_err()),
            2
        );
        let config = Config {
            batch: 1e9,
            ..Config::default()
        };
        assert_eq!(
            crate::usage::exit_code(&Terms::resolve(&config).unwrap_err()),
            2
        );
    }
}
