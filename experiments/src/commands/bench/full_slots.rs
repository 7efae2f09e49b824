//! `sphinx bench --full-slots`: a step of `minionn-cifar10` by the engine `paper` with all slots in use,
//! extrapolated from a declared subset.
//!
//! A ciphertext of this engine has 2048 slots whether a batch fills them or not: the server does the same for 200
//! records as for 2048, and the client's work on rows grows. Measured are two steps of the same network
//! with an eighth of its channels (the *subset*): at a mean batch of 200 and at the largest whose capacity is 2048.
//! From each,
//!
//! - the server's seconds of products and of divisions, by its own count, grow with their numbers; expanding an
//!   upload is timed by itself and grows with how often tiles need one; what is left grows with the number
//!   of messages;
//! - the client's seconds are `messages * m + rows * numbers * r`, with `m` and `r` from the two fills;
//! - as many cores stay busy as in the subset.
//!
//! Numbers of operations, messages and bytes are those of formulas that tests check. The result is **extrapolated** and
//! printed as such; the prediction for 200 can be compared with a recorded step.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use sphinx_he::ckks::{Ciphertext, Encoder, Level, Scale, SeededCiphertext};
use sphinx_he::rlwe::SecretKey;
use sphinx_nn::data::Split;
use sphinx_nn::engine::Train;
use sphinx_nn::network::{Architecture, LayerSpec};
use sphinx_nn::{ImageShape, Network, architectures, pass};
use sphinx_protocol::grid::Engine as Grid;
use sphinx_protocol::model::Replica;
use sphinx_protocol::paper::{Paper, PaperPlan};
use sphinx_protocol::work::{Seconds, StepCounts};

use super::{kept_or, median, remark_memory};
use crate::child::Server;
use crate::config::{Config, Engine, load_for};
use crate::environment;
use crate::job::{Job, design_paper};
use crate::netsim::PROFILES;
use crate::output::Output;
use crate::privacy::Terms;
use crate::table::{Table, bytes, seconds};
use crate::usage::OrUsage;
use crate::work_ratio::Opponent;

/// The network that is extrapolated to.
const NETWORK: &str = "minionn-cifar10";
/// The subset has one channel in so many.
const THINNED: usize = 8;
/// Records to draw batches from.
const RECORDS: usize = 6000;
/// The mean batch that the paper has.
const BATCH: f64 = 200.0;
/// Slots of a ciphertext.
const SLOTS: usize = 2048;
/// Repetitions of the expansion of one upload.
const TIMES: usize = 200;

/// A step of the subset, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filled {
    batch: f64,
    capacity: usize,
    seconds: f64,
    client_cpu_s: f64,
    server_cpu_s: f64,
    /// As the server added them up.
    spent: Seconds,
    counts: StepCounts,
}

/// A step of the whole network, extrapolated.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extrapolated {
    batch: f64,
    capacity: usize,
    seconds: f64,
    client_cpu_s: f64,
    server_cpu_s: f64,
    bytes_up: u64,
    bytes_down: u64,
    /// The integers that the client holds: activations and gradients of all rows.
    client_bytes: u64,
    /// What the server writes to disk.
    disk_bytes: u64,
    /// The client alone: measured at the batch of 200, and by rows from there.
    alone_seconds: f64,
    alone_cpu_s: f64,
}

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullSlots {
    machine: String,
    network: String,
    subset: String,
    measured: Vec<Filled>,
    /// Seconds to expand one upload, one thread.
    expansion_s: f64,
    /// Uploads expanded in a step of the subset, and of the network.
    expansions: [u64; 2],
    /// Numbers that a row has in the subset, and in the network.
    numbers: [u64; 2],
    counts: StepCounts,
    rounds: u64,
    extrapolated: Vec<Extrapolated>,
}

pub(super) fn run(out: Output, from: Option<&Path>) -> Result<()> {
    let takes = "two steps of a narrow network; about three minutes";
    let all = kept_or(out, from, takes, || measure(out))?;
    print(out, &all);
    out.object(&serde_json::to_value(&all)?);
    Ok(())
}

fn config(batch: f64) -> Config {
    Config {
        engine: Engine::Paper,
        model: NETWORK.to_owned(),
        dataset: "synth-shapes".to_owned(),
        train_size: RECORDS,
        test_size: 10,
        batch,
        steps: 1,
        clip: Some(0.1),
        clip_samples: true,
        seed: Some(1),
        ..Config::default()
    }
}

/// The largest mean batch whose capacity fits the slots.
fn full_batch() -> Result<f64> {
    let mut batch = SLOTS as f64;
    while Terms::resolve(&config(batch))?.capacity > SLOTS {
        batch -= 1.0;
    }
    Ok(batch)
}

/// The same layers with an eighth of the channels.
fn thinned(network: &Network) -> Architecture {
    let mut architecture = network.architecture().clone();
    architecture.name = format!("{NETWORK}, one channel in {THINNED}");
    for layer in &mut architecture.layers {
        if let LayerSpec::Conv { channels, .. } = layer {
            *channels /= THINNED;
        }
    }
    architecture
}

fn measure(out: Output) -> Result<FullSlots> {
    let input = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };
    let large = architectures::by_name(NETWORK, input, 10).context("the paper's network")?;
    let large = Network::new(&large)?;
    let small = Network::new(&thinned(&large))?;
    let split = load_for(&config(BATCH), None)?;
    let log = std::env::temp_dir().join(format!("sphinx-bench-{}.log", std::process::id()));
    let server = Server::obtain(None, &log)?;
    let batches = [BATCH, full_batch()?];
    let mut measured = Vec::new();
    for batch in batches {
        out.remark(format_args!("a mean batch of {batch}"));
        let job = Job::of_network(config(batch), Arc::clone(&split), small.clone())?;
        measured.push(step(&job, &server, &split)?);
    }
    remark_memory(out, Some(&server));
    drop(server);
    fs::remove_file(&log).or_usage("removing the server's log")?;
    out.remark("the client alone");
    let whole = Job::of_network(config(BATCH), split, large.clone())?;
    let alone = Opponent::measure(&whole)?;
    let plans = batches.map(|batch| plan(&large, batch));
    let [near, full] = plans.map(|plan| plan.context("planning the whole network"));
    let (near, full) = (near?, full?);
    let of_subset = plan(&small, BATCH)?;
    let mut all = FullSlots {
        machine: environment::capture().machine(),
        network: NETWORK.to_owned(),
        subset: format!("all layers, one channel in {THINNED}; procedural images"),
        measured,
        expansion_s: expansion(&near)?,
        expansions: [of_subset.expansions(), near.expansions()],
        numbers: [numbers(&small), numbers(&large)],
        counts: Paper::counts_of(&near),
        rounds: 2 * large.linears().len() as u64 + 1,
        extrapolated: Vec::new(),
    };
    for (at, plan) in [near, full].iter().enumerate() {
        all.extrapolated.push(extrapolate(&all, at, plan, &alone));
    }
    Ok(all)
}

fn plan(network: &Network, batch: f64) -> Result<PaperPlan> {
    let config = config(batch);
    design_paper(&config, network, &Terms::resolve(&config)?)
}

/// Inputs, outputs and weights of all layers: what the client holds of a row.
fn numbers(network: &Network) -> u64 {
    let of_layer = network.linears().iter();
    of_layer
        .map(|s| (s.inputs + s.outputs + s.weights()) as u64)
        .sum()
}

/// One step but for its update: no release, so nothing to account.
fn step(job: &Job, server: &Server, split: &Split) -> Result<Filled> {
    let plan = job.paper.as_ref().context("a plan with slots")?;
    let replica = Replica::initial(plan.grid());
    let paper = Paper::open(server.link()?, plan, replica, &mut rand::rng())?;
    let mut engine = Grid::new(paper);
    engine.multiplier_mut().work()?;
    let (batch, capacity) = (job.config.batch, plan.capacity());
    let rows: Vec<u32> = (0..batch as u32).collect();
    let x = split.train.images.gather(&rows, capacity);
    let label = |row: usize| (row < batch as usize).then(|| split.train.labels[row]);
    let labels: Vec<Option<u8>> = (0..capacity).map(label).collect();
    let before = server.cpu_seconds()?;
    let (start, cpu) = (Instant::now(), ProcessTime::now());
    engine.begin(0, capacity)?;
    let pass = pass::gradients(&mut engine, &job.network, &x, &labels)?;
    engine.collect(pass.pending)?;
    let (seconds, client_cpu_s) = (start.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
    let server_cpu_s = server.cpu_seconds()? - before;
    // There is no update: the step ends with the connection.
    let work = engine.multiplier_mut().work()?;
    let mut counts = Paper::counts_of(plan);
    counts.uploads = work.counts.uploads;
    anyhow::ensure!(
        work.counts == counts,
        "the server counted {:?}",
        work.counts
    );
    Ok(Filled {
        batch,
        capacity,
        seconds,
        client_cpu_s,
        server_cpu_s,
        spent: work.seconds,
        counts: Paper::counts_of(plan),
    })
}

/// Seconds to parse and expand one upload.
fn expansion(plan: &PaperPlan) -> Result<f64> {
    let (parameters, mut rng) = (plan.parameters(), StdRng::from_rng(&mut rand::rng()));
    let secret = SecretKey::generate(parameters, &mut rng);
    let scale = Scale::power_of_two(30);
    let plain = Encoder::new(parameters).encode_real(&[1.0, 2.0], Level(1), scale)?;
    let sent = SeededCiphertext::encrypt(&plain, &secret, &mut rng)?.to_bytes();
    median(TIMES, || {
        std::hint::black_box(SeededCiphertext::from_bytes(&sent, parameters)?.expand());
        Ok(())
    })
}

fn messages(counts: &StepCounts) -> f64 {
    (counts.uploads + counts.downloads) as f64
}

/// The step of the whole network at the fill of measurement `at`.
fn extrapolate(all: &FullSlots, at: usize, plan: &PaperPlan, alone: &Opponent) -> Extrapolated {
    let (small, to) = (&all.measured[at], &all.counts);
    let (from, spent) = (&small.counts, &small.spent);
    let sums = |counts: &StepCounts| (counts.plain_products + counts.products) as f64;
    let sent = messages(to) / messages(from);
    let [few, many] = all.expansions.map(|count| count as f64 * all.expansion_s);
    // The server adds up wall seconds of its threads, which beside other work wait for a core: together they are never
    // more than its processor time.
    let threads = spent.products + spent.switching;
    let share = ((small.server_cpu_s - few).max(0.0) / threads).min(1.0);
    let known = threads * share + few;
    let server_cpu_s = spent.products * share * sums(to) / sums(from)
        + spent.switching * share * to.rescales as f64 / from.rescales as f64
        + many
        + (small.server_cpu_s - known).max(0.0) * sent;
    let client_cpu_s = client(all, small.capacity);
    let busy = (small.client_cpu_s + small.server_cpu_s) / small.seconds;
    let (bytes_up, bytes_down) = traffic(plan);
    let rows = plan.capacity() as u64;
    let grown = rows as f64 / all.extrapolated.first().map_or(rows, |e| e.capacity as u64) as f64;
    Extrapolated {
        batch: small.batch,
        capacity: plan.capacity(),
        seconds: (client_cpu_s + server_cpu_s) / busy,
        client_cpu_s,
        server_cpu_s,
        bytes_up,
        bytes_down,
        client_bytes: 4 * rows * all.numbers[1],
        disk_bytes: bytes_up,
        alone_seconds: alone.seconds * grown,
        alone_cpu_s: alone.cpu_s * grown,
    }
}

/// Seconds of the client for a batch of this capacity, from the two fills of the subset.
fn client(all: &FullSlots, capacity: usize) -> f64 {
    let [few, many] = [0, 1].map(|at| &all.measured[at]);
    let rows = many.capacity.saturating_sub(few.capacity).max(1) as f64;
    let of_row = ((many.client_cpu_s - few.client_cpu_s) / rows).max(0.0);
    let of_messages = (few.client_cpu_s - of_row * few.capacity as f64).max(0.0);
    let numbers = all.numbers[1] as f64 / all.numbers[0] as f64;
    let sent = messages(&all.counts) / messages(&few.counts);
    of_messages * sent + of_row * numbers * capacity as f64
}

/// Bytes of the ciphertexts of a step.
fn traffic(plan: &PaperPlan) -> (u64, u64) {
    let (parameters, counts) = (plan.parameters(), Paper::counts_of(plan));
    let gradients = (plan.grid().weight_count() * plan.blocks()) as u64;
    let down = |degree| Ciphertext::wire_size(parameters, 0, degree) as u64;
    (
        counts.uploads * SeededCiphertext::wire_size(parameters, 1) as u64,
        (counts.downloads - gradients) * down(1) + gradients * down(2),
    )
}

fn print(out: Output, all: &FullSlots) {
    let heading = format!("measured: {}", all.subset);
    let fills = |all: &[Filled]| -> Vec<String> {
        let fill = all.iter();
        fill.map(|f| format!("batch {} in {}", f.batch, f.capacity))
            .collect()
    };
    let columns = fills(&all.measured);
    let mut table = Table::new(std::iter::once(heading).chain(columns));
    let row = |value: fn(&Filled) -> f64| all.measured.iter().map(move |f| seconds(value(f)));
    table.row("a step", row(|f| f.seconds));
    table.row("client CPU", row(|f| f.client_cpu_s));
    table.row("server CPU", row(|f| f.server_cpu_s));
    table.row("of which products", row(|f| f.spent.products));
    table.row("of which divisions", row(|f| f.spent.switching));
    out.say(table);
    let heading = format!("EXTRAPOLATED to {}", all.network);
    let columns = all.extrapolated.iter();
    let columns = columns.map(|e| format!("batch {} in {}", e.batch, e.capacity));
    let mut table = Table::new(std::iter::once(heading).chain(columns));
    let row = |value: &dyn Fn(&Extrapolated) -> String| -> Vec<String> {
        all.extrapolated.iter().map(value).collect()
    };
    let total = |e: &Extrapolated| (e.bytes_up + e.bytes_down) as f64;
    let over = |at: usize| {
        row(&|e| {
            let total = e.bytes_up + e.bytes_down;
            seconds(PROFILES[at].seconds(e.seconds, total, all.rounds))
        })
    };
    table.row("a step", row(&|e| seconds(e.seconds)));
    table.row("per image", row(&|e| seconds(e.seconds / e.batch)));
    table.row("client alone", row(&|e| seconds(e.alone_seconds)));
    table.row("client CPU", row(&|e| seconds(e.client_cpu_s)));
    table.row(
        "client-work ratio",
        row(&|e| format!("{:.0}", e.client_cpu_s / e.alone_cpu_s)),
    );
    table.row("server CPU", row(&|e| seconds(e.server_cpu_s)));
    table.row("bytes", row(&|e| bytes(total(e))));
    table.row("bytes per image", row(&|e| bytes(total(e) / e.batch)));
    table.row("computed: LAN", over(0));
    table.row("computed: WAN", over(1));
    table.row(
        "integers at the client",
        row(&|e| bytes(e.client_bytes as f64)),
    );
    table.row(
        "uploads on the server's disk",
        row(&|e| bytes(e.disk_bytes as f64)),
    );
    out.say("");
    out.say(table);
    out.say(format_args!(
        "by formula: {} products with integers, {} of two ciphertexts, {} divisions, {} uploads, {} downloads; uploads are \
         expanded {} times,\n{} each. Nothing of the second table was run.",
        all.counts.plain_products,
        all.counts.products,
        all.counts.rescales,
        all.counts.uploads,
        all.counts.downloads,
        all.expansions[1],
        seconds(all.expansion_s),
    ));
}
