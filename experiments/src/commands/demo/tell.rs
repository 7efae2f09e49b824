//! What the demo says: who holds what, the table, the statement, and the honest lines.

use std::path::PathBuf;

use serde_json::{Value, json};
use sphinx_dp::PrivacyStatement;

use super::compare::Comparisons;
use crate::child::Server;
use crate::commands::figures::paths;
use crate::inference::Answers;
use crate::job::{Job, Trained};
use crate::output::{Output, number};
use crate::report::Summary;
use crate::run_dir::RunDir;
use crate::table::{Table, bytes, percent, seconds};
use crate::work_ratio::Opponent;

/// Everything that came out of it.
pub(super) struct Results<'a> {
    pub(super) job: &'a Job,
    pub(super) trained: &'a Trained,
    pub(super) comparisons: &'a Comparisons,
    pub(super) summary: Summary,
    pub(super) opponent: Opponent,
    pub(super) while_training: Answers,
    pub(super) idle: Answers,
    pub(super) statement: PrivacyStatement,
    pub(super) identical: bool,
    pub(super) figures: Vec<PathBuf>,
    pub(super) run: &'a RunDir,
}

/// Who holds what, before anything happens.
pub(super) fn introduction(job: &Job, server: &Server) -> String {
    let config = &job.config;
    let mut table = Table::new(["", "client (this process)", "server (a process of its own)"]);
    table.row("images, labels", ["in the clear", "never"]);
    table.row("secret key", ["yes", "never"]);
    table.row("activations, gradients", ["in the clear", "ciphertexts"]);
    table.row(
        "weights",
        ["a replica", "in the clear, differentially private"],
    );
    table.row("biases", ["in the clear", "a ciphertext"]);
    table.row("requests", ["in the clear", "masked"]);
    let randomness = match config.seed {
        Some(seed) => format!(
            "NOTE: batches and noise come from seed {seed}, so that this run can be repeated.\n\
             Noise that others can compute protects nothing: use --secret-randomness in earnest."
        ),
        None => "Batches and noise come from the operating system.".to_owned(),
    };
    format!(
        "Training {} ({} parameters) on {} records of {} at {}\n\n{table}\n\n\
         {} steps, mean batch {}, capacity {}, epsilon {} at delta {}\n{randomness}\n",
        config.model,
        job.network.parameter_count(),
        config.train_size,
        config.dataset,
        server.address(),
        config.steps,
        config.batch,
        job.terms.capacity,
        config.epsilon.unwrap_or(f64::INFINITY),
        config.delta,
    )
}

impl Results<'_> {
    /// Prints it all.
    pub(super) fn tell(&self, out: Output) {
        out.say(self.accuracies());
        out.say(format_args!(
            "\nidentical: {}\n",
            if self.identical { "yes" } else { "NO" }
        ));
        out.say(self.costs());
        out.say(format_args!("\n{}\n", self.statement));
        out.say(self.honest_lines());
        for path in &self.figures {
            if path.extension().is_some_and(|end| end == "png") {
                out.say(format_args!("figure: {}", path.display()));
            }
        }
        out.say(format_args!("run directory: {}", self.run.path().display()));
        out.object(&self.object());
    }

    fn accuracies(&self) -> Table {
        let mut table = Table::new(["", "encrypted", "clear, same seeds", "not private"]);
        let all = [
            self.trained,
            self.comparisons.clear(),
            self.comparisons.free(),
        ];
        table.row("test accuracy", all.map(|t| percent(t.accuracy)));
        let epsilon = format!("{:.3}", self.statement.epsilon);
        table.row("epsilon", [epsilon.clone(), epsilon, "infinite".to_owned()]);
        table.row("seconds of training", all.map(|t| seconds(t.seconds)));
        table
    }

    fn costs(&self) -> Table {
        let steps = self.trained.history.steps.len() as f64;
        let traffic = self.trained.traffic;
        let latency = |answers: &Answers, q| answers.latency(q).map_or("none".into(), seconds);
        let asked = self.while_training.asked();
        let mut table = Table::new(["training under encryption", ""]);
        let rows = [
            (
                "seconds per step (median)",
                seconds(self.summary.seconds_per_step),
            ),
            ("up per step", bytes(traffic.sent as f64 / steps)),
            ("down per step", bytes(traffic.received as f64 / steps)),
            (
                "server CPU per step, requests included",
                seconds(self.trained.server_cpu_s / steps),
            ),
            (
                "CPU per step, client alone in the clear",
                seconds(self.opponent.cpu_s),
            ),
            (
                "client-work ratio",
                format!("{:.1}", self.summary.client_work_ratio),
            ),
            ("private requests while training", asked.to_string()),
            (
                "answers equal to the replica's",
                percent(self.while_training.share(self.while_training.agreed)),
            ),
            (
                "latency while training, p50",
                latency(&self.while_training, 0.5),
            ),
            (
                "latency while training, p99",
                latency(&self.while_training, 0.99),
            ),
            ("latency of the idle server, p50", latency(&self.idle, 0.5)),
            ("latency of the idle server, p99", latency(&self.idle, 0.99)),
            (
                "preparation per request (idle)",
                seconds(self.idle.preparation_per_ticket()),
            ),
        ];
        for (name, value) in rows {
            table.row(name, [value]);
        }
        table
    }

    fn honest_lines(&self) -> String {
        let mut lines = format!(
            "What this does not show:\n\
             - The client alone would need {} per step in the clear; here it does {:.1} times that \
             work\n  itself, to hide the data from a server that computes the rest.\n\
             - Both parties run on this machine, over the loopback interface.\n\
             - Whoever may ask for predictions can work out the weights; they are hidden from \
             nobody.",
            seconds(self.opponent.seconds),
            self.summary.client_work_ratio,
        );
        if self.job.config.seed.is_some() {
            lines.push_str("\n- A seeded run protects nothing: its noise can be computed again.");
        }
        lines
    }

    fn object(&self) -> Value {
        let milliseconds = |q| self.while_training.latency(q).map(|s| 1e3 * s);
        json!({
            "accuracy": self.trained.accuracy,
            "accuracy_clear": self.comparisons.clear().accuracy,
            "accuracy_nonprivate": self.comparisons.free().accuracy,
            "epsilon": number(self.statement.epsilon),
            "delta": self.job.config.delta,
            "steps": self.trained.history.steps.len(),
            "seconds_per_step": self.summary.seconds_per_step,
            "bytes_up": self.trained.traffic.sent,
            "bytes_down": self.trained.traffic.received,
            "inference_requests": self.while_training.asked(),
            "online_latency_ms_p50": milliseconds(0.5),
            "online_latency_ms_p99": milliseconds(0.99),
            "client_work_ratio": self.summary.client_work_ratio,
            "pure_he_seconds_per_step": Value::Null,
            "figures": paths(&self.figures),
            "identical_to_clear": self.identical,
            "run_dir": self.run.path().display().to_string(),
        })
    }
}
