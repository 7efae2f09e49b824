//! Small worlds for the tests of this crate: shapes, choices, toy plans, layers by their definition, a served connection.

use std::sync::Arc;

use proptest::prelude::*;
use sphinx_he::rlwe::{ParametersLiteral, Security};
use sphinx_nn::conv::ConvShape;
use sphinx_nn::network::{Architecture, ImageShape, LayerSpec, LinearKind, LinearShape};

use crate::link::Link;
use crate::party::{Hub, HubLimits};
use crate::plan::{Limits, Plan, PlanChoices, PlanLiteral};
use crate::serve::converse;
use crate::transport::loopback;
use crate::view::View;

pub(crate) const fn image(channels: usize, height: usize, width: usize) -> ImageShape {
    ImageShape {
        channels,
        height,
        width,
    }
}

pub(crate) fn architecture(input: ImageShape, layers: Vec<LayerSpec>) -> Architecture {
    Architecture {
        name: "test".into(),
        input,
        layers,
    }
}

/// The usual choices of a test; what differs is written by struct update.
pub(crate) fn choices(input: ImageShape, layers: Vec<LayerSpec>, capacity: usize) -> PlanChoices {
    PlanChoices {
        architecture: architecture(input, layers),
        capacity,
        clip_bound: 1.0,
        learning_rate: 1.0,
        momentum: 0.5,
        divisor: 4.0,
        init_seed: 3,
        tickets: 2,
    }
}

/// These parameters at another degree, insecure and named so.
pub(crate) fn toy(literal: ParametersLiteral, log_n: u32) -> ParametersLiteral {
    ParametersLiteral {
        log_n,
        security: Security::Toy,
        ..literal
    }
}

/// A plan of `packed` at a toy degree, with the largest primes that a plan may take.
pub(crate) fn packed_plan(choices: &PlanChoices, log_n: u32) -> Plan {
    let he = ParametersLiteral {
        log_n,
        log_q: vec![47, 42],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Toy,
    };
    let literal = PlanLiteral::design_with(choices, he).unwrap();
    Plan::new(&literal, &Limits::default()).unwrap()
}

/// A connection to a server of its own, which ends with it.
pub(crate) fn link(view: Option<View>) -> Link {
    let (client, server) = loopback();
    let hub = Arc::new(Hub::new(HubLimits::default()));
    std::thread::spawn(move || converse(server, hub, 0, view.as_ref()));
    Link::greet(client).unwrap()
}

/// Convolutions of all strides and paddings.
pub(crate) fn convolutions() -> impl Strategy<Value = ConvShape> {
    let sizes = (1_usize..4, 1_usize..8, 1_usize..8);
    let moves = (1_usize..4, 1_usize..6, 1_usize..4, 0_usize..4);
    (sizes, moves).prop_filter_map(
        "a kernel that fits",
        |((channels, height, width), (out, kernel, stride, padding))| {
            ConvShape::new(image(channels, height, width), out, kernel, stride, padding)
        },
    )
}

/// Calls `term(weight, output, input)` for every product that the layer's definition names.
pub(crate) fn terms(shape: &LinearShape, mut term: impl FnMut(usize, usize, usize)) {
    let conv = match shape.kind {
        LinearKind::Dense => {
            for weight in 0..shape.weights() {
                term(weight, weight / shape.inputs, weight % shape.inputs);
            }
            return;
        }
        LinearKind::Conv(conv) => conv,
    };
    let (input, output, k) = (conv.input(), conv.output(), conv.kernel());
    for weight in 0..shape.weights() {
        let (e, a, c) = (
            weight % k,
            weight / k % k,
            weight / (k * k) % input.channels,
        );
        let out = weight / (k * k * input.channels);
        for position in 0..conv.positions() {
            let (i, j) = (position / output.width, position % output.width);
            let line = (i * conv.stride() + a).checked_sub(conv.padding());
            let column = (j * conv.stride() + e).checked_sub(conv.padding());
            if let (Some(u), Some(v)) = (line, column)
                && u < input.height
                && v < input.width
            {
                let pixel = (c * input.height + u) * input.width + v;
                term(weight, out * conv.positions() + position, pixel);
            }
        }
    }
}
