//! `sphinx bench --widths`: from which widths on outsourcing saves the client work.
//!
//! One layer as wide as it is high, dense or a convolution, and the products that a client may
//! have computed elsewhere: its processor seconds with ciphertexts (packing, encrypting, sending,
//! receiving, decrypting) over those of the same products by the float engine's kernels. Small
//! layers are **measured**: a step of a network in which the client keeps all other products, less
//! the same step with that layer kept as well, beside the kernels run alone. Wider ones are
//! **extrapolated**: ciphertexts counted by the layout that is best for the client, times what each
//! was measured to cost on this machine; multiplications times what one was measured to cost at
//! the widest layer.

use anyhow::{Context, Result};
use cpu_time::ProcessTime;
use serde::Serialize;
use serde_json::json;
use sphinx_figures::record::{Record, label, sample};
use sphinx_nn::conv::{self, ConvShape};
use sphinx_nn::engine::Train;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec, LinearKind, LinearShape};
use sphinx_nn::{Tensor, dense, pass};
use sphinx_protocol::grid::Engine;
use sphinx_protocol::message::ModelId;
use sphinx_protocol::model::{PublicModel, Replica};
use sphinx_protocol::packed::Packed;
use sphinx_protocol::packed::estimate::Calibration;
use sphinx_protocol::plan::{
    Limits, LocalChoice, LocalPhase, Phase, Plan, PlanChoices, PlanLiteral, Preferences, Prices,
};

use crate::child::Server;
use crate::cli::BenchArgs;
use crate::environment;
use crate::output::Output;
use crate::run_dir::{RunDir, utc_now};
use crate::table::Table;

/// Times that everything is measured; the least counts.
const TIMES: usize = 3;
/// What a second of the server costs beside one of the client when layouts are chosen here.
const SERVER: f64 = 0.01;
const DEGREE: usize = 4096;
const ALL: [Phase; 3] = [Phase::Forward, Phase::Backward, Phase::Gradient];

/// What is outsourced.
const SERIES: [(&str, &[Phase]); 4] = [
    ("forward alone", &[Phase::Forward]),
    ("backward alone", &[Phase::Backward]),
    ("gradient alone", &[Phase::Gradient]),
    ("all three", &ALL),
];

/// A kind of layer that can be made wider.
struct Family {
    name: &'static str,
    rows: usize,
    /// Side of the images, one for dense layers.
    side: usize,
    measured: &'static [usize],
    extrapolated: &'static [usize],
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "dense",
        rows: 2048,
        side: 1,
        measured: &[32, 64, 128, 256],
        extrapolated: &[
            256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131_072,
        ],
    },
    Family {
        name: "convolution",
        rows: 64,
        side: 16,
        measured: &[4, 8, 16, 32],
        extrapolated: &[32, 64, 128, 256, 512, 1024, 2048, 4096, 8192],
    },
];

/// The work of a client at one width.
#[derive(Clone, Copy, Debug, Serialize)]
struct At {
    width: usize,
    /// Processor seconds of the client with ciphertexts.
    client: f64,
    /// Processor seconds of the products in the clear.
    alone: f64,
    /// Processor seconds of the server, where they were computed.
    server: Option<f64>,
}

impl At {
    fn ratio(&self) -> f64 {
        self.client / self.alone
    }
}

/// One line of the figure.
#[derive(Debug, Serialize)]
struct Line {
    layer: &'static str,
    rows: usize,
    outsourced: &'static str,
    measured: Vec<At>,
    extrapolated: Vec<At>,
}

impl Line {
    /// The first width at which the client saves work.
    fn pays_from(&self) -> Option<usize> {
        let all = self.measured.iter().chain(&self.extrapolated);
        all.filter(|at| at.ratio() < 1.0).map(|at| at.width).min()
    }
}

pub(super) fn run(out: Output, args: &BenchArgs) -> Result<()> {
    out.remark("measuring layers of growing width; about two minutes");
    let log = std::env::temp_dir().join(format!("sphinx-widths-{}.log", std::process::id()));
    let server = Server::obtain(None, &log)?;
    let mut lines = Vec::new();
    for family in &FAMILIES {
        lines.extend(family.lines(&server)?);
        out.remark(family.name);
    }
    super::remark_memory(out, Some(&server));
    drop(server);
    // The log of a server that did its work says nothing that is worth keeping.
    let _ = std::fs::remove_file(&log);
    out.say(table(&lines));
    if let Some(path) = &args.run_dir {
        let run = RunDir::create(Some(path), "bench", "packed")?;
        run.write_config(&json!({"command": "bench --widths"}))?;
        for record in lines.iter().flat_map(records) {
            run.append(&record)?;
        }
    }
    out.object(&json!({
        "machine": environment::capture().machine(),
        "server_second_costs": SERVER,
        "widths": lines,
        "pays_from": lines.iter().map(Line::pays_from).collect::<Vec<_>>(),
    }));
    Ok(())
}

/// Least processor seconds of all threads.
fn least(mut work: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        best = best.min(work()?);
    }
    Ok(best)
}

fn cpu(work: impl FnOnce()) -> f64 {
    let start = ProcessTime::now();
    work();
    start.elapsed().as_secs_f64()
}

fn tensor(rows: usize, columns: usize) -> Result<Tensor> {
    let values = (0..rows * columns).map(|at| (at * 37 % 101) as f32 / 101.0);
    Tensor::from_vec(rows, columns, values.collect()).context("a tensor")
}

impl Family {
    fn shape(&self, width: usize) -> Result<LinearShape> {
        if self.side == 1 {
            return Ok(LinearShape::dense(width, width));
        }
        let input = ImageShape {
            channels: width,
            height: self.side,
            width: self.side,
        };
        let shape = ConvShape::new(input, width, 3, 1, 1).context("a convolution")?;
        Ok(LinearShape::conv(shape))
    }

    /// A network whose middle layer is the one in question.
    fn plan(&self, width: usize, outsourced: &[Phase]) -> Result<Plan> {
        let wide = |spec: &mut Vec<LayerSpec>| {
            spec.push(match self.side {
                1 => LayerSpec::Dense { outputs: width },
                _ => LayerSpec::Conv {
                    channels: width,
                    kernel: 3,
                    stride: 1,
                    padding: 1,
                },
            });
            spec.push(LayerSpec::Tanh);
        };
        let mut layers = Vec::new();
        wide(&mut layers);
        wide(&mut layers);
        layers.push(LayerSpec::Dense { outputs: 10 });
        let architecture = Architecture {
            name: "widths".into(),
            input: ImageShape {
                channels: 1,
                height: self.side.max(4),
                width: self.side.max(4),
            },
            layers,
        };
        let choices = PlanChoices {
            architecture,
            capacity: self.rows,
            clip_bound: 0.1,
            learning_rate: 1.0,
            momentum: 0.5,
            divisor: self.rows as f64,
            init_seed: 1,
            tickets: 1,
        };
        let kept = (0..3).flat_map(|layer| ALL.map(|phase| LocalPhase { phase, layer }));
        let exists = |l: &LocalPhase| l.layer > 0 || l.phase != Phase::Backward;
        let kept = kept.filter(|l| exists(l) && !(l.layer == 1 && outsourced.contains(&l.phase)));
        let preferences = Preferences {
            prices: Prices {
                server: SERVER,
                ..Prices::default()
            },
            local: LocalChoice::Named(kept.collect()),
            ..Preferences::default()
        };
        let literal = PlanLiteral::design_for(&choices, &preferences)?;
        Ok(Plan::new(&literal, &Limits::default())?)
    }

    /// Client seconds of one step at `server`, from the first product to the clipped sum.
    fn step(&self, server: &Server, plan: &Plan) -> Result<f64> {
        let x = tensor(self.rows, plan.network().inputs())?;
        let labels = vec![Some(3); self.rows];
        least(|| {
            let id = ModelId(rand::random());
            let replica = Replica::initial(plan.grid());
            let packed = Packed::open(server.link()?, id, plan, replica, &mut rand::rng())?;
            let mut engine = Engine::new(packed);
            let start = ProcessTime::now();
            engine.begin(0, self.rows)?;
            let pass = pass::gradients(&mut engine, plan.network(), &x, &labels)?;
            engine.collect(pass.pending)?;
            Ok(start.elapsed().as_secs_f64())
        })
    }

    /// Seconds of the three products in the clear.
    fn alone(&self, shape: LinearShape) -> Result<[f64; 3]> {
        let (x, d) = (
            tensor(self.rows, shape.inputs)?,
            tensor(self.rows, shape.outputs)?,
        );
        let mut weights = tensor(1, shape.weights())?.into_vec();
        let mut biases = vec![0.0; shape.biases()];
        let image = match shape.kind {
            LinearKind::Dense => None,
            LinearKind::Conv(shape) => Some(shape),
        };
        let forward = least(|| {
            Ok(cpu(|| {
                std::hint::black_box(match image {
                    None => dense::forward(shape, &weights, &biases, &x),
                    Some(image) => conv::forward(image, &weights, &biases, &x),
                });
            }))
        })?;
        let backward = least(|| {
            Ok(cpu(|| {
                std::hint::black_box(match image {
                    None => dense::backward(shape, &weights, &d),
                    Some(image) => conv::backward(image, &weights, &d),
                });
            }))
        })?;
        let mut scratch = Vec::new();
        let gradient = least(|| {
            Ok(cpu(|| match image {
                None => dense::gradient(shape, &d, &x, &mut weights, &mut biases),
                Some(image) => {
                    for row in 0..self.rows {
                        let (d, x) = (d.row(row), x.row(row));
                        let (w, b) = (&mut weights, &mut biases);
                        conv::sample_gradient(image, d, x, &mut scratch, w, b);
                    }
                }
            }))
        })?;
        Ok([forward, backward, gradient])
    }

    /// Times of every kind of work, by a plan in which a layer of this width is outsourced.
    fn calibration(&self, width: usize) -> Result<Calibration> {
        let plan = self.plan(width, &ALL)?;
        let tightness = plan.tightness(&PublicModel::initial(plan.grid()).snapshot());
        Ok(Calibration::measure(&plan, &tightness)?)
    }

    /// Processor seconds of the three products on the integer grid, which a client spends that keeps
    /// them: the difference of two steps does not hold them any more.
    fn on_grid(&self, width: usize) -> Result<[f64; 3]> {
        let layers = self.calibration(width)?.own.layers;
        let kept = layers.get(1).context("a layer in the middle")?;
        Ok([kept.forward, kept.backward, kept.gradient].map(|spent| spent.cpu))
    }

    fn lines(&self, server: &Server) -> Result<Vec<Line>> {
        let sum = |alone: &[f64; 3], phases: &[Phase]| -> f64 {
            let all = ALL.iter().zip(alone);
            all.filter(|(phase, _)| phases.contains(phase))
                .map(|(_, seconds)| seconds)
                .sum()
        };
        let widest = *self.measured.last().context("a measured width")?;
        let units = self.calibration(widest)?.units;
        let preferences = Preferences {
            prices: Prices {
                units,
                server: SERVER,
                ..Prices::default()
            },
            ..Preferences::default()
        };
        let at_widest = self.alone(self.shape(widest)?)?;
        let per = self.shape(widest)?.multiplications() as f64;
        let mut lines: Vec<Line> = Vec::new();
        for (outsourced, phases) in SERIES {
            let mut line = Line {
                layer: self.name,
                rows: self.rows,
                outsourced,
                measured: Vec::new(),
                extrapolated: Vec::new(),
            };
            for &width in self.measured {
                let kept = self.step(server, &self.plan(width, &[])?)?;
                let sent = self.step(server, &self.plan(width, phases)?)?;
                line.measured.push(At {
                    width,
                    client: (sent - kept + sum(&self.on_grid(width)?, phases)).max(0.0),
                    alone: sum(&self.alone(self.shape(width)?)?, phases),
                    server: None,
                });
            }
            for &width in self.extrapolated {
                let shape = self.shape(width)?;
                let choice = preferences.layer(&shape, DEGREE, self.rows, phases);
                let cost = choice.context("a layer of this width has no layout")?.cost;
                let more = shape.multiplications() as f64 / per;
                line.extrapolated.push(At {
                    width,
                    client: cost.client,
                    alone: more * sum(&at_widest, phases),
                    server: Some(cost.server),
                });
            }
            lines.push(line);
        }
        Ok(lines)
    }
}

/// Two records for every line: what was measured, and what was extrapolated.
fn records(line: &Line) -> [Record; 2] {
    let environment = environment::capture();
    [
        (label::MEASURED, &line.measured),
        ("extrapolated", &line.extrapolated),
    ]
    .map(|(basis, points)| {
        let trial = format!(
            "{}-{}-{basis}",
            line.layer,
            line.outsourced.replace(' ', "-")
        );
        let subject = format!("{} layers", line.layer);
        let column = |of: &dyn Fn(&At) -> f64| points.iter().map(of).collect::<Vec<_>>();
        Record::new("widths", trial, "packed", line.layer, subject, 0)
            .with_security("classical-128")
            .with_label(label::SERIES, line.outsourced)
            .with_label(label::BASIS, basis)
            .with_label(label::MACHINE, environment.machine())
            .with_label(label::COMMAND, environment::command_line())
            .with_label(label::VERSION, environment::version(&environment))
            .with_label(label::FINISHED, utc_now())
            .with_metric("rows", line.rows as f64)
            .with_samples(sample::WIDTHS, column(&|at| at.width as f64))
            .with_samples(sample::WIDTH_RATIOS, column(&At::ratio))
            .with_samples("outsourcing.client_s", column(&|at| at.client))
            .with_samples("outsourcing.alone_s", column(&|at| at.alone))
    })
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new([
        "client's work over that without a server",
        "outsourced",
        "measured",
        "extrapolated",
        "pays from",
    ]);
    let ends = |points: &[At]| match (points.first(), points.last()) {
        (Some(a), Some(b)) => {
            format!(
                "{:.1} at {} to {:.2} at {}",
                a.ratio(),
                a.width,
                b.ratio(),
                b.width
            )
        }
        _ => String::new(),
    };
    for line in lines {
        let from = line.pays_from();
        table.row(
            format!("{}, {} rows", line.layer, line.rows),
            [
                line.outsourced.to_owned(),
                ends(&line.measured),
                ends(&line.extrapolated),
                from.map_or_else(|| "nowhere here".into(), |width| width.to_string()),
            ],
        );
    }
    table
}
