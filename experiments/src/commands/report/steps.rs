//! What a training step took: time, traffic, processors, operations, beside the client that trains alone and
//! beside published figures.
//!
//! One column per recorded run at a server. Seconds, bytes and CPU are those of the record (bytes are all of the run,
//! divided by its steps); what a network would add is computed by [`crate::netsim`], and says so. Operations are by
//! formula: those of the record, or derived again from its configuration where an older one has none.

use serde_json::{Value, json};
use sphinx_figures::claims::StepClaim;
use sphinx_figures::record::{Record, label};
use sphinx_figures::stats;
use sphinx_nn::{ImageShape, Network, architectures};

use crate::config::Config;
use crate::netsim::{LAN, Profile, WAN};
use crate::privacy::Terms;
use crate::report::{OPERATIONS, counts_of};
use crate::table::{Table, bytes, seconds};

/// Classes of every data set of this version.
const CLASSES: usize = 10;
/// The network on features.
const ON_FEATURES: &str = "scatter-linear";

/// One run.
pub(super) struct Step<'a> {
    record: &'a Record,
    batch: f64,
    steps: f64,
    seconds: f64,
    /// The operations of one step.
    operations: serde_json::Map<String, Value>,
}

/// A line of the table: its name, and its value where the record has it.
type Line = (&'static str, fn(&Step<'_>) -> Option<String>);

const LINES: [Line; 20] = [
    ("seconds per step", |s| Some(seconds(s.seconds))),
    ("client alone, in the clear", |s| s.alone_seconds()),
    ("client CPU per step", |s| s.per_step("client_cpu_s")),
    ("client alone, CPU", |s| s.alone_cpu().map(seconds)),
    ("client-work ratio", |s| {
        Some(format!("{:.0}", s.metric("client_work_ratio")?))
    }),
    ("server CPU per step", |s| s.per_step("server_cpu_s")),
    ("before the first step", |s| {
        s.metric("offline_seconds").map(seconds)
    }),
    ("up per step", |s| Some(bytes(s.traffic()?[0]))),
    ("down per step", |s| Some(bytes(s.traffic()?[1]))),
    ("per image of the mean batch", |s| {
        Some(bytes(s.traffic()?.iter().sum::<f64>() / s.batch))
    }),
    ("rounds", |s| Some(s.rounds()?.to_string())),
    ("computed: LAN", |s| Some(seconds(s.over(LAN)?))),
    ("computed: WAN", |s| Some(seconds(s.over(WAN)?))),
    ("ciphertext x integer", |s| s.count("plain_products")),
    ("ciphertext x ciphertext", |s| s.count("products")),
    ("relinearisations", |s| s.count("relinearisations")),
    ("rescales", |s| s.count("rescales")),
    ("rotations", |s| s.count("rotations")),
    ("transforms at the server", |s| s.count("transforms")),
    ("security", |s| Some(s.record.security.clone())),
];

impl<'a> Step<'a> {
    /// The run of a record, if it is one of training at a server.
    pub(super) fn of(record: &'a Record) -> Option<Self> {
        let metric = |name: &str| record.metrics.get(name).copied();
        let (steps, seconds) = (metric("steps")?, metric("seconds_per_step")?);
        let batch = record.config.get("batch").and_then(Value::as_f64)?;
        let served = metric("bytes_up").is_some_and(|up| up > 0.0);
        (served && steps > 0.0).then_some(Self {
            record,
            batch,
            steps,
            seconds,
            operations: recorded(record)
                .or_else(|| derived(record))
                .unwrap_or_default(),
        })
    }

    fn metric(&self, name: &str) -> Option<f64> {
        self.record.metrics.get(name).copied()
    }

    fn per_step(&self, name: &str) -> Option<String> {
        Some(seconds(self.metric(name)? / self.steps))
    }

    fn count(&self, name: &str) -> Option<String> {
        let count = self.operations.get(name)?.as_f64()?;
        Some(format!("{count:.0}"))
    }

    /// Recorded, or what the recorded ratio was taken over.
    fn alone_cpu(&self) -> Option<f64> {
        self.metric("alone_cpu_s").or_else(|| {
            let ours = self.record.samples.get("step_cpu_s")?;
            Some(stats::median(ours).ok()? / self.metric("client_work_ratio")?)
        })
    }

    fn alone_seconds(&self) -> Option<String> {
        self.metric("alone_seconds").map(seconds)
    }

    /// Bytes up and down of a step.
    fn traffic(&self) -> Option<[f64; 2]> {
        let [up, down] = ["bytes_up", "bytes_down"].map(|name| self.metric(name));
        Some([up? / self.steps, down? / self.steps])
    }

    /// Times that one party waits for the other: every layer forward, all but the first backward, every layer's
    /// gradient (with the backward pass but in `packed`), and the update.
    fn rounds(&self) -> Option<u64> {
        let layers = layers(self.record)?;
        Some(match self.record.engine.as_str() {
            "packed" => 3 * layers,
            "pure-he" => 2 * layers,
            _ => 2 * layers + 1,
        })
    }

    fn over(&self, network: Profile) -> Option<f64> {
        let total: f64 = self.traffic()?.iter().sum();
        Some(network.seconds(self.seconds, total as u64, self.rounds()?))
    }

    fn name(&self) -> String {
        let Record { engine, model, .. } = self.record;
        let style = self.record.config.get("style").and_then(Value::as_str);
        let style = style.filter(|_| engine == "pure-he").unwrap_or_default();
        let name = format!("{engine} {style}");
        format!("{}, {model}, batch {}", name.trim_end(), self.batch)
    }

    pub(super) fn dataset(&self) -> &'a str {
        &self.record.dataset
    }

    pub(super) fn object(&self) -> Value {
        let told = LINES.iter().map(|(name, value)| (*name, value(self)));
        let mut object: serde_json::Map<_, _> = told
            .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
            .collect();
        object.insert("run".into(), self.name().into());
        object.into()
    }
}

/// The counts in a record.
fn recorded(record: &Record) -> Option<serde_json::Map<String, Value>> {
    let counted = record.metrics.iter();
    let counted = counted.filter_map(|(name, &count)| {
        Some((name.strip_prefix(OPERATIONS)?.to_owned(), count.into()))
    });
    let counted: serde_json::Map<_, _> = counted.collect();
    (!counted.is_empty()).then_some(counted)
}

/// The counts of a step with the configuration of a record.
fn derived(record: &Record) -> Option<serde_json::Map<String, Value>> {
    let fields = Value::Object(record.config.clone().into_iter().collect());
    let config: Config = serde_json::from_value(fields).ok()?;
    if config.model == ON_FEATURES {
        return None; // its inputs are not those of the data set
    }
    let network = Network::new(&config.architecture(input(record), CLASSES).ok()?).ok()?;
    // The noise has no part in it, and takes a while to calibrate.
    let terms = Terms::resolve(&Config {
        private: false,
        ..config.clone()
    });
    match serde_json::to_value(counts_of(&config, &network, &terms.ok()?)?).ok()? {
        Value::Object(counts) => Some(counts),
        _ => None,
    }
}

fn input(record: &Record) -> ImageShape {
    let colour = ["cifar10", "synth-shapes"].contains(&record.dataset.as_str());
    let (channels, side) = if colour { (3, 32) } else { (1, 28) };
    ImageShape {
        channels,
        height: side,
        width: side,
    }
}

/// Linear layers of a network.
fn layers(record: &Record) -> Option<u64> {
    let architecture = architectures::by_name(&record.model, input(record), CLASSES)?;
    Some(Network::new(&architecture).ok()?.linears().len() as u64)
}

/// The table of all runs, and below it what others have published of these networks.
pub(super) fn table(steps: &[&Step<'_>], claims: &[StepClaim]) -> String {
    let heading = "one training step".to_owned();
    let mut table = Table::new(std::iter::once(heading).chain(steps.iter().map(|s| s.name())));
    for (name, value) in LINES {
        table.row(
            name,
            steps.iter().map(|s| value(s).unwrap_or_else(|| "-".into())),
        );
    }
    let mut told = table.to_string();
    let shown = |c: &&StepClaim| {
        let mut records = steps.iter().map(|s| s.record);
        records.any(|r| r.model == c.model && r.dataset == c.dataset)
    };
    for claim in claims.iter().filter(shown) {
        told.push_str(&format!(
            "\n{} ({}), {}, batch {}: {} a step, {} per image, on {}",
            claim.label,
            claim.source,
            claim.model,
            claim.batch,
            seconds(claim.seconds),
            bytes(claim.bytes_per_image),
            claim.machine,
        ));
    }
    let machines: std::collections::BTreeSet<_> = steps
        .iter()
        .filter_map(|s| s.record.labels.get(label::MACHINE))
        .collect();
    for machine in machines {
        told.push_str(&format!("\nours: {machine}, both parties on it"));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Engine;

    fn record(engine: &str) -> Record {
        let metrics = [
            ("steps", 2.0),
            ("seconds_per_step", 3.0),
            ("bytes_up", 8e6),
            ("bytes_down", 2e6),
            ("client_work_ratio", 20.0),
        ];
        let mut record = Record::new("train", "t", engine, "minionn-mnist", "mnist", 1)
            .with_samples("step_cpu_s", vec![1.0, 3.0]);
        record.config.insert("batch".into(), json!(500.0));
        for (name, value) in metrics {
            record = record.with_metric(name, value);
        }
        record
    }

    #[test]
    fn a_step_is_told_with_what_its_record_has() {
        let (paper, packed, local) = (record("paper"), record("packed"), {
            let mut record = record("clear");
            record.metrics.insert("bytes_up".into(), 0.0);
            record
        });
        assert!(Step::of(&local).is_none());
        let steps = [&paper, &packed].map(|r| Step::of(r).unwrap());
        // four linear layers; the opponent from the ratio
        assert_eq!(steps[0].rounds(), Some(9));
        assert_eq!(steps[1].rounds(), Some(12));
        assert_eq!(steps[0].alone_cpu(), Some(0.1));
        // 5 MB over 100 Mbit/s and nine rounds of 40 ms
        assert!((steps[0].over(WAN).unwrap() - (3.0 + 0.4 + 0.36)).abs() < 1e-9);
        let claims = sphinx_figures::claims::published().unwrap();
        let told = table(&[&steps[0], &steps[1]], &claims.step);
        for part in [
            "paper, minionn-mnist, batch 500",
            "390.00 s a step",
            "second hand",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("minionn-cifar10"), "{told}");
        // no configuration to derive them from
        let rotations = told.lines().find(|l| l.starts_with("rotations")).unwrap();
        assert!(rotations.ends_with('-'), "{told}");
    }

    #[test]
    fn operations_are_recorded_or_derived_again() {
        let mut older = record("paper");
        let config = Config {
            engine: Engine::Paper,
            model: "minionn-mnist".to_owned(),
            clip_samples: true,
            train_size: 60_000,
            ..Config::default()
        };
        if let Value::Object(fields) = serde_json::to_value(config).unwrap() {
            older.config = fields.into_iter().collect();
        }
        let count = |record: &Record| Step::of(record).unwrap().count("rescales");
        // outputs forward, inputs backward, weights: of every layer but the first backward
        assert_eq!(count(&older).as_deref(), Some("46410"));
        let newer = older.clone().with_metric("operations.rescales", 7.0);
        assert_eq!(count(&newer).as_deref(), Some("7"));
    }
}
