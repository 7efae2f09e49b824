//! The plan of the engine `pure-he`, in words.

use serde_json::{Value, json};
use sphinx_protocol::pure_he::PureHePlan;

use crate::config::Config;
use crate::table::{Table, bytes};

pub(super) fn overview(plan: &PureHePlan) -> Table {
    let parameters = plan.parameters();
    let counts = plan.counts(parameters.max_level());
    let mut table = Table::new(["plan", "pure-he"]);
    for (name, value) in [
        ("security", parameters.security().name().to_owned()),
        ("style", plan.style().name().to_owned()),
        (
            "ring degree / levels",
            format!("{} / {}", parameters.degree(), parameters.max_level()),
        ),
        (
            "rows of a batch / slots that differ",
            format!("{} / {}", plan.capacity(), plan.slots()),
        ),
        (
            "encrypted parameters",
            plan.network().parameter_count().to_string(),
        ),
        ("held by the server", bytes(plan.memory() as f64)),
        ("products per step", counts.products.to_string()),
        (
            "relinearisations per step",
            counts.relinearisations.to_string(),
        ),
        ("rescales per step", counts.rescales.to_string()),
        ("rotations per step", counts.rotations.to_string()),
        ("transforms per step", counts.transforms.to_string()),
        ("epsilon", "none: nothing is noised".to_owned()),
    ] {
        table.row(name, [value]);
    }
    table
}

pub(super) fn object(config: &Config, plan: &PureHePlan) -> Value {
    let parameters = plan.parameters();
    json!({
        "engine": config.engine.name(),
        "style": plan.style().name(),
        "model": config.model,
        "security": parameters.security().name(),
        "ring_degree": parameters.degree(),
        "levels": parameters.max_level(),
        "capacity": plan.capacity(),
        "server_bytes": plan.memory(),
        "operations_per_step": plan.counts(parameters.max_level()),
    })
}
