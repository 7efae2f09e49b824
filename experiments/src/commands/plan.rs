//! `sphinx plan`: what a training run would do, without running it.

use anyhow::Result;
use serde_json::{Value, json};
use sphinx_he::rlwe::Parameters;
use sphinx_nn::Network;
use sphinx_protocol::packed::Upload;
use sphinx_protocol::packed::estimate::Hosts;
use sphinx_protocol::plan::Plan;

use crate::cli::{DataArgs, Dataset, PlanArgs};
use crate::config::{Config, Engine, load_split};
use crate::job::{design, design_by, design_paper, design_pure_he};
use crate::output::Output;
use crate::privacy::Terms;
use crate::table::Table;
use crate::usage::OrUsage;

mod paper;
mod pure_he;
mod step;
mod validate;
mod why;

use step::Step;

/// Records of a set when neither files nor flags say how many.
const RECORDS: usize = 60_000;
/// Classes of every data set of this version.
const CLASSES: usize = 10;

pub(super) fn run(args: &PlanArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let records = records(&args.training.data)?;
    let test = args.training.data.test_size.unwrap_or(1);
    let config = Config::resolve(&args.training, records, test)?;
    let network = Network::new(&config.architecture(args.training.data.dataset.shape(), CLASSES)?)
        .or_usage("--model")?;
    let terms = Terms::resolve(&config)?;
    let epsilon = terms.epsilon_of_run(&config)?;
    if config.engine == Engine::Paper {
        let plan = design_paper(&config, &network, &terms)?;
        out.say(paper::overview(&config, &terms, &plan, epsilon));
        out.say("\noperations of one step, by formula");
        out.say(paper::operations(&plan));
        out.say("\nevery slot is an exact integer (over 2^40 decoded slots)");
        out.say(paper::exactness(plan.exactness()));
        out.object(&paper::object(&config, &terms, &plan, epsilon));
        return Ok(());
    }
    if config.engine == Engine::PureHe {
        let plan = design_pure_he(&config, &network, &terms)?;
        out.say(pure_he::overview(&plan));
        out.object(&pure_he::object(&config, &plan));
        return Ok(());
    }
    let mut preferences = config.layouts.preferences();
    if args.calibrate {
        out.remark("calibrating");
        let plan = design(&config, &network, &terms)?;
        preferences.prices.units = step::calibrated(&plan)?;
    }
    let plan = design_by(&config, &network, &terms, &preferences)?;
    let choices = why::Why::new(&preferences, &plan);
    out.say(overview(&config, &terms, &plan, epsilon));
    out.say(format_args!(
        "\nlayouts (tiles of the training batch, then of a batch of tickets)"
    ));
    out.say(layouts(&plan));
    out.say(format_args!(
        "\nwhy: processor seconds and bytes of a step as they were priced ({})",
        choices.prices()
    ));
    out.say(choices.table());
    out.say("\nevery product is an exact integer (over 2^40 decoded coefficients);");
    out.say("of the residues of c0 and of c1 (and c2) so many bits are sent");
    out.say(exactness(&plan));
    out.say("\none step: bytes as on the wire, processor seconds by a short calibration of this machine");
    let step = Step::predict(&plan, hosts(&config))?;
    out.say(step.table());
    out.say(format_args!("\none step, predicted ({})", step.place()));
    out.say(step.summary());
    let mut object = object(&config, &terms, &plan, epsilon, &step);
    object["choices"] = choices.object();
    if let Some(steps) = args.validate {
        let validation = validate::Validation::run(args, config, steps)?;
        out.say("\npredicted beside measured");
        out.say(validation.table(&step));
        object["validation"] = validation.object(&step);
    }
    out.object(&object);
    Ok(())
}

/// Where the parties are assumed to be.
fn hosts(config: &Config) -> Hosts {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config
        .layouts
        .network
        .map_or(Hosts::Shared { cores }, |network| {
            let profile = network.profile();
            Hosts::Apart {
                cores,
                bits_per_second: profile.bits_per_second,
                round_trip: profile.round_trip,
            }
        })
}

/// How many training records there would be. Procedural sets are not generated for it.
fn records(args: &DataArgs) -> Result<usize> {
    match (args.train_size, args.dataset, &args.data) {
        (Some(records), ..) => Ok(records),
        (None, Dataset::Mnist | Dataset::FashionMnist | Dataset::Cifar10, Some(_)) => {
            Ok(load_split(args, 0)?.train.len())
        }
        _ => Ok(RECORDS),
    }
}

/// Bits of the modulus, special primes included, and the largest that the security table allows.
fn modulus_bits(parameters: &Parameters) -> (f64, Option<u32>) {
    let bound = parameters.security().max_log_qp(parameters.log_n());
    let special = parameters.special_moduli().iter().map(|p| p.log2());
    let bits = parameters.log2_q(parameters.max_level()) + special.sum::<f64>();
    (bits, bound)
}

fn overview(config: &Config, terms: &Terms, plan: &Plan, epsilon: Option<f64>) -> Table {
    let (bits, bound) = modulus_bits(plan.parameters());
    let parameters = plan.parameters();
    let mut table = Table::new(["plan", ""]);
    let bound = bound.map_or("none".to_owned(), |b| b.to_string());
    let rows = [
        ("security", parameters.security().name().to_owned()),
        ("ring degree", parameters.degree().to_string()),
        (
            "modulus bits / largest allowed",
            format!("{bits:.1} / {bound}"),
        ),
        (
            "network",
            format!(
                "{}, {} parameters",
                config.model,
                plan.network().parameter_count()
            ),
        ),
        ("training records", config.train_size.to_string()),
        ("steps", config.steps.to_string()),
        (
            "mean batch / capacity",
            format!("{} / {}", config.batch, terms.capacity),
        ),
        (
            "noise multiplier",
            terms
                .noise
                .map_or("none".into(), |z| format!("{:.4}", z.get())),
        ),
        (
            "epsilon",
            epsilon.map_or("none".into(), |e| {
                format!("{e:.4} at delta {}", config.delta)
            }),
        ),
        (
            "gradient grid",
            format!("2^-{}", plan.literal().grid.gradient_shift),
        ),
        (
            "clip bound in grid units",
            plan.literal().grid.clip_bound.to_string(),
        ),
        (
            "mask bits of inference",
            plan.literal().mask_bits.to_string(),
        ),
    ];
    for (name, value) in rows {
        table.row(name, [value]);
    }
    table
}

fn layouts(plan: &Plan) -> Table {
    let mut table = Table::new([
        "layer",
        "shape",
        "kind",
        "backward",
        "tickets",
        "batch chunks",
        "in tiles",
        "out tiles",
        "ticket chunks",
    ]);
    let linears = plan.network().linears().iter();
    for (at, ((shape, layout), ticket)) in linears
        .zip(plan.layouts())
        .zip(plan.ticket_layouts())
        .enumerate()
    {
        table.row(
            at.to_string(),
            [
                format!("{} -> {}", shape.inputs, shape.outputs),
                kind(plan, Upload::Activation, at).to_owned(),
                kind(plan, Upload::OutputGradient, at).to_owned(),
                ticket.tiling().kind().to_owned(),
                layout.chunks().to_string(),
                layout.input_tiles().to_string(),
                layout.output_tiles().to_string(),
                ticket.chunks().to_string(),
            ],
        );
    }
    table
}

/// How the product of such uploads is laid out: local where the client keeps it; of a layer's
/// layout, where it keeps both products that have it.
fn kind(plan: &Plan, upload: Upload, layer: usize) -> &'static str {
    let local = |upload| plan.is_local(upload, layer);
    match upload {
        Upload::OutputGradient if layer == 0 => "-",
        Upload::OutputGradient if local(upload) => "local",
        Upload::Activation if local(upload) && local(Upload::ClippedGradient) => "local",
        _ => plan.layout(upload, layer).tiling().kind(),
    }
}

fn exactness(plan: &Plan) -> Table {
    let mut table = Table::new([
        "layer",
        "product",
        "error (steps)",
        "headroom",
        "log2 failure",
        "bits sent",
    ]);
    let bits = plan.parameters().moduli()[0].bits();
    for row in plan.exactness() {
        let cut = plan.returned(row.phase, row.layer).truncation;
        table.row(
            row.layer.to_string(),
            [
                row.phase.to_string(),
                format!("{:.5}", row.std_dev),
                headroom(row.log2_headroom),
                format!("{:.0}", row.log2_failure),
                format!("{} + {}", bits - cut.c0, bits - cut.masks),
            ],
        );
    }
    table
}

/// Bits to spare below half the modulus; none are needed where results wrap on purpose.
fn headroom(bits: f64) -> String {
    if bits.is_finite() {
        format!("{bits:.1} bits")
    } else {
        "wraps".to_owned()
    }
}

fn object(config: &Config, terms: &Terms, plan: &Plan, epsilon: Option<f64>, step: &Step) -> Value {
    let (bits, bound) = modulus_bits(plan.parameters());
    let layout = |layout: &sphinx_protocol::packed::layout::Layout| {
        json!({
            "kind": layout.tiling().kind(),
            "chunks": layout.chunks(),
            "input_tiles": layout.input_tiles(),
            "output_tiles": layout.output_tiles(),
        })
    };
    json!({
        "config": config,
        "security": plan.parameters().security().name(),
        "degree": plan.parameters().degree(),
        "modulus_bits": bits,
        "modulus_bits_allowed": bound,
        "parameters": plan.network().parameter_count(),
        "capacity": terms.capacity,
        "noise_multiplier": terms.noise.map(sphinx_dp::NoiseMultiplier::get),
        "epsilon": epsilon,
        "layouts": plan.layouts().iter().map(layout).collect::<Vec<_>>(),
        "kinds": (0..plan.layouts().len()).map(|layer| json!({
            "layer": layer,
            "kind": kind(plan, Upload::Activation, layer),
            "backward": kind(plan, Upload::OutputGradient, layer),
        })).collect::<Vec<_>>(),
        "ticket_layouts": plan.ticket_layouts().iter().map(layout).collect::<Vec<_>>(),
        "exactness": plan.exactness(),
        "step": step.object(),
        "plan": plan.literal(),
    })
}
