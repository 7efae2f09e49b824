//! Why every layer has its layout: what was chosen, the next best, and what both cost.

use serde_json::{Value, json};
use sphinx_protocol::plan::{Choice, Explanation, Plan, Preferences};

use crate::table::Table;

/// The choices of a plan.
pub(super) struct Why {
    preferences: Preferences,
    layers: Vec<Explanation>,
}

impl Why {
    pub(super) fn new(preferences: &Preferences, plan: &Plan) -> Self {
        Self {
            preferences: preferences.clone(),
            layers: preferences.explain(plan),
        }
    }

    /// What things cost, in words.
    pub(super) fn prices(&self) -> String {
        let prices = &self.preferences.prices;
        format!(
            "a second of either party costs {} and {}, a megabyte {:.4} up and {:.4} down",
            prices.server,
            prices.client,
            1e6 * prices.up,
            1e6 * prices.down
        )
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new([
            "layer", "", "kind", "chunks", "in", "out", "kept", "server s", "client s", "MB up",
            "MB down", "price",
        ]);
        for layer in &self.layers {
            row(&mut table, layer.layer.to_string(), "chosen", &layer.chosen);
            if let Some(scalar) = &layer.second_upload {
                let more = 100.0 * (scalar.price / layer.chosen.price - 1.0);
                let which = format!("W x by integers, {more:+.1} %");
                row(&mut table, String::new(), &which, scalar);
            }
            if let Some(next) = &layer.runner_up {
                let more = 100.0 * (next.price / layer.chosen.price - 1.0);
                row(
                    &mut table,
                    String::new(),
                    &format!("next, +{more:.1} %"),
                    next,
                );
            }
        }
        table
    }

    pub(super) fn object(&self) -> Value {
        let layers = self.layers.iter().map(|layer| {
            json!({
                "layer": layer.layer,
                "chosen": layer.chosen,
                "runner_up": layer.runner_up,
                "second_upload": layer.second_upload,
                "why": because(layer),
                "alone": layer.alone,
                "candidates": layer.candidates,
            })
        });
        json!({
            "prices": self.preferences.prices,
            "layers": layers.collect::<Vec<_>>(),
        })
    }
}

fn row(table: &mut Table, layer: String, which: &str, choice: &Choice) {
    let [chunks, inputs, outputs] = choice.tiles;
    let kept: Vec<String> = choice.local.iter().map(ToString::to_string).collect();
    table.row(
        layer,
        [
            which.to_owned(),
            kinds(choice),
            chunks.to_string(),
            inputs.to_string(),
            outputs.to_string(),
            kept.join(" "),
            format!("{:.3}", choice.cost.server),
            format!("{:.3}", choice.cost.client),
            format!("{:.1}", choice.cost.bytes_up / 1e6),
            format!("{:.1}", choice.cost.bytes_down / 1e6),
            format!("{:.3}", choice.price),
        ],
    );
}

/// The kind of a layout, and of that of the backward product where it has its own.
fn kinds(choice: &Choice) -> String {
    let kind = choice.tiling.kind();
    match &choice.backward {
        Some(own) => {
            let [chunks, inputs, outputs] = own.tiles;
            let own = own.tiling.kind();
            format!("{kind}, {own} {chunks} x {inputs} x {outputs} backward")
        }
        None => kind.to_owned(),
    }
}

/// One sentence.
fn because(layer: &Explanation) -> String {
    let Some(next) = &layer.runner_up else {
        return "no other layout fits".to_owned();
    };
    let (chosen, next) = (&layer.chosen.cost, &next.cost);
    let sign = |name: &str, unit: &str, more: f64, digits: usize| {
        format!("{more:+.digits$} {unit} {name}")
    };
    format!(
        "the next best would take {}, {}, {} and {}",
        sign("at the server", "s", next.server - chosen.server, 4),
        sign("at the client", "s", next.client - chosen.client, 4),
        sign("up", "MB", (next.bytes_up - chosen.bytes_up) / 1e6, 2),
        sign("down", "MB", (next.bytes_down - chosen.bytes_down) / 1e6, 2),
    )
}
