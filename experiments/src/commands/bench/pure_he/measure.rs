//! The measurements: every engine against a server in a process of its own.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use sphinx_figures::stats;
use sphinx_he::ckks::{Ciphertext, SeededCiphertext};
use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::data::Split;
use sphinx_nn::engine::Train;
use sphinx_nn::network::{Architecture, LayerSpec};
use sphinx_nn::{Network, Tensor, architectures, init, pass};
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::Replica;
use sphinx_protocol::paper::Paper;
use sphinx_protocol::plan::Limits;
use sphinx_protocol::pure_he::{PureHe, PureHeLiteral, PureHePlan, Style};
use sphinx_protocol::shared::ModelFeed;
use sphinx_protocol::work::Work;

use super::tables::{Comparison, Inference, Step};
use super::{image, remark_memory};
use crate::child::Server;
use crate::config::{Config, Engine, load_for};
use crate::environment;
use crate::inference::{Asker, load_if_absent};
use crate::job::{Begun, Job, Randomness, Unwatched};
use crate::output::Output;
use crate::privacy::Terms;
use crate::usage::OrUsage;

/// Mean batch, as the paper's for MNIST.
const BATCH: f64 = 500.0;
/// Training records.
const RECORDS: usize = 6000;
/// Steps of `paper`, the first of which does not count.
const STEPS: u64 = 3;
/// Requests that are timed.
const REQUESTS: usize = 50;
/// The paper's network.
const LARGE: &str = "minionn-mnist";

/// A measured step of the baseline, with what extrapolation needs.
struct Measured {
    step: Step,
    inference: Inference,
    work: Work,
    plan: PureHePlan,
}

pub(super) fn all(out: Output) -> Result<Comparison> {
    let config = Config {
        engine: Engine::Paper,
        model: LARGE.to_owned(),
        train_size: RECORDS,
        test_size: 100,
        batch: BATCH,
        steps: STEPS,
        clip: Some(0.1),
        clip_samples: true,
        seed: Some(1),
        ..Config::default()
    };
    let split = load_for(&config, None)?;
    let log = std::env::temp_dir().join(format!("sphinx-bench-{}.log", std::process::id()));
    let server = Server::obtain(None, &log)?;
    let large = Network::new(
        &architectures::by_name(LARGE, split.train.shape, split.train.classes)
            .context("the paper's network")?,
    )?;
    let small = Network::new(&thinned(&large))?;
    let bench = Bench {
        out,
        config,
        split,
        server,
    };
    let comparison = bench.compare(&small, &large)?;
    remark_memory(out, Some(&bench.server));
    drop(bench);
    std::fs::remove_file(&log).or_usage("removing the server's log")?;
    Ok(comparison)
}

/// The same layers with two of sixteen channels and twelve of a hundred hidden values.
fn thinned(network: &Network) -> Architecture {
    let mut architecture = network.architecture().clone();
    architecture.name = "minionn-mnist, 2 of 16 channels".to_owned();
    for layer in &mut architecture.layers {
        match layer {
            LayerSpec::Conv { channels, .. } => *channels /= 8,
            LayerSpec::Dense {
                outputs: outputs @ 100,
            } => *outputs = 12,
            _ => {}
        }
    }
    architecture
}

struct Bench {
    out: Output,
    config: Config,
    split: Arc<Split>,
    server: Server,
}

impl Bench {
    fn compare(&self, small: &Network, large: &Network) -> Result<Comparison> {
        let mut steps = vec![self.paper(small)?];
        let (mut inference, mut far) = (Vec::new(), vec![self.paper(large)?]);
        for style in [Style::Eager, Style::Lazy] {
            let measured = self.pure_he(small, style, &steps[0])?;
            let (step, mut one) = extrapolate(&measured, large, style, &far[0])?;
            let alone = self.alone_image(large)?;
            one.client_work_ratio = one.client_cpu_s.map(|ours| ours / alone);
            one.alone_cpu_s = Some(alone);
            steps.push(measured.step);
            far.push(step);
            inference.extend([measured.inference, one]);
        }
        self.out.remark("requests");
        inference.push(image::measure(&self.image())?);
        inference.push(self.shared()?);
        steps.append(&mut far);
        Ok(Comparison {
            machine: environment::capture().machine(),
            steps,
            inference,
        })
    }

    fn image(&self) -> Tensor {
        self.split.test.images.gather(&[0], 1)
    }

    /// A job for a network that has no name on the command line.
    fn job(&self, network: &Network, engine: Engine) -> Result<Job> {
        let grid = engine.is_encrypted();
        let config = Config {
            engine,
            grid,
            clip_samples: engine == Engine::Paper,
            ..self.config.clone()
        };
        Job::of_network(config, Arc::clone(&self.split), network.clone())
    }

    /// Median CPU and wall seconds of a step of the client that trains alone.
    fn alone(&self, network: &Network) -> Result<(f64, f64)> {
        let mut job = self.job(network, Engine::Clear)?;
        job.config.steps = 8;
        let mut begun = Begun::unkept(job.terms.ledger(None)?);
        let trained = job.train_local(&Randomness::new(None), &mut begun, &mut Unwatched)?;
        let steady = trained.history.steady();
        let cpu: Vec<f64> = steady.iter().map(|s| s.cpu_s).collect();
        let wall: Vec<f64> = steady.iter().map(|s| s.report.seconds).collect();
        Ok((stats::median(&cpu)?, stats::median(&wall)?))
    }

    /// The published protocol.
    fn paper(&self, network: &Network) -> Result<Step> {
        self.out
            .remark(format_args!("paper, {}", network.architecture().name));
        let (alone_cpu_s, alone_seconds) = self.alone(network)?;
        let job = self.job(network, Engine::Paper)?;
        let mut begun = Begun::unkept(job.terms.ledger(None)?);
        let randomness = Randomness::Seeded(1);
        let trained = job.train_paper(&self.server, &randomness, &mut begun, &mut Unwatched)?;
        let steady = trained.history.steady();
        let walls: Vec<f64> = steady.iter().map(|s| s.report.seconds).collect();
        let cpus: Vec<f64> = steady.iter().map(|s| s.cpu_s).collect();
        let plan = job.paper.as_ref().context("a plan with slots")?;
        let each = |total: u64| total / STEPS;
        Ok(Step {
            engine: "paper".to_owned(),
            network: network.architecture().name.clone(),
            batch: BATCH,
            security: plan.parameters().security().name().to_owned(),
            extrapolated: false,
            seconds: stats::median(&walls)?,
            client_cpu_s: stats::median(&cpus)?,
            server_cpu_s: trained.server_cpu_s / STEPS as f64,
            bytes_up: each(trained.traffic.sent),
            bytes_down: each(trained.traffic.received),
            // every layer forward, every layer backward, and the update
            rounds: 2 * network.linears().len() as u64 + 1,
            offline_seconds: trained.offline_seconds,
            counts: Paper::counts_of(plan),
            alone_cpu_s,
            alone_seconds,
        })
    }

    /// One step and one batch of inference with everything encrypted.
    fn pure_he(&self, network: &Network, style: Style, paper: &Step) -> Result<Measured> {
        let name = format!("pure-he {}", style.name());
        self.out
            .remark(format_args!("{name}, {}", network.architecture().name));
        let terms = Terms::resolve(&self.config)?;
        let plan = plan_of(network, style, terms.capacity)?;
        let start = Instant::now();
        let values = init::glorot(network, 1);
        let size = 1.0 / BATCH;
        let link = self.server.link()?;
        let mut engine = PureHe::open(link, &plan, &values, size, &mut rand::rng())?;
        let offline_seconds = start.elapsed().as_secs_f64();
        engine.work()?;
        let train = &self.split.train;
        let rows: Vec<u32> = (0..BATCH as u32).collect();
        let x = train.images.gather(&rows, plan.capacity());
        let labels: Vec<Option<u8>> = (0..plan.capacity())
            .map(|row| (row < BATCH as usize).then(|| train.labels[row]))
            .collect();
        let before = engine.link().meter().read();
        let (server_before, start, cpu) = (
            self.server.cpu_seconds()?,
            Instant::now(),
            ProcessTime::now(),
        );
        engine.begin(0, plan.capacity())?;
        let pass = pass::gradients(&mut engine, network, &x, &labels)?;
        engine.collect(pass.pending)?;
        let (seconds, client_cpu_s) = (start.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        let server_cpu_s = self.server.cpu_seconds()? - server_before;
        let after = engine.link().meter().read();
        let work = engine.work()?;
        let counts = plan.counts(plan.parameters().max_level());
        anyhow::ensure!(
            work.counts == counts,
            "the server counted {:?}",
            work.counts
        );
        let step = Step {
            engine: name.clone(),
            network: network.architecture().name.clone(),
            batch: BATCH,
            security: plan.parameters().security().name().to_owned(),
            extrapolated: false,
            seconds,
            client_cpu_s,
            server_cpu_s,
            bytes_up: after.sent - before.sent,
            bytes_down: after.received - before.received,
            // every layer forward, all but the first backward, and the end
            rounds: 2 * network.linears().len() as u64,
            offline_seconds,
            counts,
            alone_cpu_s: paper.alone_cpu_s,
            alone_seconds: paper.alone_seconds,
        };
        let inference = self.infer(&mut engine, network, &name)?;
        engine.close()?;
        Ok(Measured {
            step,
            inference,
            work,
            plan,
        })
    }

    /// One batch, at the level that a step has left; it takes as long with one image in it as with all.
    fn infer(&self, engine: &mut PureHe, network: &Network, name: &str) -> Result<Inference> {
        let image = self.image();
        let values = engine.parameters()?;
        let before = engine.link().meter().read();
        let (start, cpu) = (Instant::now(), ProcessTime::now());
        let logits = pass::infer(engine, network, &image)?;
        let (seconds, client) = (start.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        let after = engine.link().meter().read();
        let mut clear = Clear::new(network, values, ClearConfig::default())?;
        let expected = pass::infer(&mut clear, network, &image)?;
        let gaps = logits.as_slice().iter().zip(expected.as_slice());
        let error = gaps.map(|(a, b)| f64::from(a - b).abs());
        let alone = image::alone(&mut clear, network, &image)?;
        Ok(Inference {
            form: format!("{name}, layer by layer"),
            network: network.architecture().name.clone(),
            extrapolated: false,
            seconds,
            bytes: after.sent - before.sent + after.received - before.received,
            rounds: network.linears().len() as u64,
            offline_seconds: 0.0,
            error: error.reduce(f64::max),
            client_work_ratio: Some(client / alone),
            client_cpu_s: Some(client),
            alone_cpu_s: Some(alone),
        })
    }

    /// Our own requests, on the paper's network: online without encryption.
    fn shared(&self) -> Result<Inference> {
        let config = Config {
            engine: Engine::Packed,
            clip_samples: false,
            ..self.config.clone()
        };
        let job = Job::new(config, Arc::clone(&self.split))?;
        let plan = job.plan()?;
        let replica = Replica::initial(plan.grid());
        let id = ModelId(rand::random());
        load_if_absent(&self.server, id, plan, &replica)?;
        let feed = ModelFeed::new(replica.freeze());
        let test = &job.split.test;
        let mut asker = Asker::attach(&self.server, id, plan, feed, test, false)?;
        for index in 0..REQUESTS {
            asker.ask(index)?;
        }
        let answers = asker.finish()?;
        anyhow::ensure!(answers.agreed == answers.asked(), "a request went wrong");
        let alone = self.alone_image(&job.network)?;
        let bytes = (answers.online_up + answers.online_down) / answers.asked() as u64;
        Ok(Inference {
            form: "shared, online".to_owned(),
            network: LARGE.to_owned(),
            extrapolated: false,
            seconds: answers.latency(0.5).context("no request was answered")?,
            bytes,
            rounds: job.network.linears().len() as u64,
            offline_seconds: answers.preparation_per_ticket(),
            error: None,
            client_work_ratio: Some(answers.cpu_per_request() / alone),
            client_cpu_s: Some(answers.cpu_per_request()),
            alone_cpu_s: Some(alone),
        })
    }

    /// CPU seconds of one image in the clear.
    fn alone_image(&self, network: &Network) -> Result<f64> {
        let values = init::glorot(network, 1);
        let mut clear = Clear::new(network, values, ClearConfig::default())?;
        image::alone(&mut clear, network, &self.image())
    }
}

/// The plan with as much memory as it wants: the formulas do not ask for it.
fn plan_of(network: &Network, style: Style, capacity: usize) -> Result<PureHePlan> {
    let literal = PureHeLiteral::standard(network.architecture().clone(), capacity, style);
    let limits = Limits {
        bytes: usize::MAX,
        ..Limits::default()
    };
    Ok(PureHePlan::new(&literal, &limits)?)
}

/// Seconds of each kind of operation times its number; bytes and counts by formula.
fn extrapolate(
    measured: &Measured,
    large: &Network,
    style: Style,
    paper: &Step,
) -> Result<(Step, Inference)> {
    let plan = plan_of(large, style, measured.plan.capacity())?;
    let level = plan.parameters().max_level();
    let (from, to) = (&measured.work.counts, plan.counts(level));
    let (spent, small) = (&measured.work.seconds, &measured.step);
    let messages = ratio(from.uploads + from.downloads, to.uploads + to.downloads);
    let grown = spent.products * ratio(from.products, to.products)
        + spent.switching * ratio(from.relinearisations, to.relinearisations)
        + spent.rotations * ratio(from.rotations, to.rotations);
    let known = spent.products + spent.switching + spent.rotations;
    let client_cpu_s = small.client_cpu_s * messages;
    let server_cpu_s = grown + (small.server_cpu_s - known).max(0.0) * messages;
    // As many cores stay busy as in the small step.
    let busy = (small.client_cpu_s + small.server_cpu_s) / small.seconds;
    let parameters = plan.parameters();
    let up = |level| SeededCiphertext::wire_size(parameters, level) as u64;
    let down = Ciphertext::wire_size(parameters, 0, 1) as u64;
    let parameter_counts = [measured.plan.network(), large].map(Network::parameter_count);
    let step = Step {
        network: large.architecture().name.clone(),
        extrapolated: true,
        seconds: (client_cpu_s + server_cpu_s) / busy,
        client_cpu_s,
        server_cpu_s,
        bytes_up: to.uploads * up(level),
        bytes_down: to.downloads * down,
        offline_seconds: small.offline_seconds
            * ratio(parameter_counts[0] as u64, parameter_counts[1] as u64),
        counts: to,
        alone_cpu_s: paper.alone_cpu_s,
        alone_seconds: paper.alone_seconds,
        ..small.clone()
    };
    // Inference was measured one level below.
    let below = level - 1;
    let (of, to) = (
        measured.plan.inference_counts(below),
        plan.inference_counts(below),
    );
    let messages = ratio(of.uploads + of.downloads, to.uploads + to.downloads);
    let inference = Inference {
        network: large.architecture().name.clone(),
        extrapolated: true,
        seconds: measured.inference.seconds * ratio(of.products, to.products),
        bytes: to.uploads * up(below) + to.downloads * down,
        error: None,
        client_cpu_s: measured.inference.client_cpu_s.map(|s| s * messages),
        ..measured.inference.clone()
    };
    Ok((step, inference))
}

fn ratio(of: u64, to: u64) -> f64 {
    to as f64 / of.max(1) as f64
}
