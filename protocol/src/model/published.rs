//! Biases by the published rule: they follow exact sums of output gradients, in integers.
//!
//! Per step `b <- b - lr / batch * (sum of d)` over all samples and, for a convolution, all positions: no clipping, no
//! noise, no momentum. A server that holds `[b]` and `[d]` can do it by additions, one product with a public
//! integer and rotations ([`crate::paper`]); the client does the same in the clear, integer by integer.
//!
//! With `d` in units of `2^-d_shift` and products in units of `2^-y_shift`, a bias is an integer `B` in units of
//! `2^-(y_shift + 24)`, and a step is `B <- B - k sum d` with
//! `k = round(lr / batch * 2^(y_shift - d_shift + 24))`: the rate that takes effect is
//! `k / 2^(y_shift - d_shift + 24)`, within 2^-7 of what was asked for (`k` is 64 at least).
//!
//! What is added to `W x` in the clear is `B` rounded, first to the grid of master biases, then to that of the product: a
//! function of the master biases alone, which a saved model holds.
//!
//! **Deviation**: a step that would carry a bias beyond ±8 is left out, by counting the channel's output gradients as
//! zero before they are used for anything; the published rule knows no limit, and ciphertexts need one. Both
//! parties see the same sizes either way.
//!
//! These biases are **not** a function of released values: no privacy is proven for a run that uses
//! them (the book's chapter on the bias gap, and the tests of this workspace, show why).

use crate::error::Error;
use crate::format::{Integers, MASTER_SHIFT, shift_round};
use crate::plan::GridPlan;

use super::{BIAS_LIMIT, Parameters};

/// Fraction bits of a bias below the grid of the products it is added to.
pub const REFINED: u32 = 24;
/// Least and largest multiplier: the rate is right within 2^-7, and sums stay within 62 bits.
const MULTIPLIERS: std::ops::RangeInclusive<i128> = 64..=1 << 36;

/// Biases that follow exact gradients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedBiases {
    layers: Vec<Layer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Layer {
    multiplier: i64,
    /// Fraction bits of the layer's products.
    y_shift: u32,
    values: Vec<i64>,
    /// Sums of output gradients since the last update.
    sums: Vec<i64>,
}

impl PublishedBiases {
    /// The public multiplier of one layer's sums of output gradients.
    ///
    /// # Errors
    /// [`Error::BiasRate`] for a learning rate that it would not represent.
    pub fn multiplier(plan: &GridPlan, layer: usize) -> Result<i64, Error> {
        let (literal, format) = (plan.literal(), &plan.formats()[layer]);
        // lr / batch is multiplier / 2^shift, brought from the gradient's grid to that of master biases.
        let up = literal.gradient_shift + REFINED + format.y_shift();
        let down = literal.rule.shift + MASTER_SHIFT + format.d_shift;
        let multiplier = i128::from(literal.rule.multiplier);
        let multiplier = match up.checked_sub(down) {
            Some(left) => multiplier << left.min(64),
            None => shift_round(multiplier, down - up),
        };
        match i64::try_from(multiplier) {
            Ok(fits) if MULTIPLIERS.contains(&multiplier) => Ok(fits),
            _ => Err(Error::BiasRate {
                layer,
                multiplier,
                least: *MULTIPLIERS.start(),
                most: *MULTIPLIERS.end(),
            }),
        }
    }

    /// The rate that takes effect in one layer, `lr / batch` in real units.
    ///
    /// # Errors
    /// As [`Self::multiplier`].
    pub fn rate(plan: &GridPlan, layer: usize) -> Result<f64, Error> {
        let format = &plan.formats()[layer];
        let bits = f64::from(REFINED + format.y_shift()) - f64::from(format.d_shift);
        Ok(Self::multiplier(plan, layer)? as f64 * (-bits).exp2())
    }

    pub(super) fn of(plan: &GridPlan, biases: &[Parameters]) -> Result<Self, Error> {
        let layers = biases.iter().zip(plan.formats()).enumerate();
        let layers = layers.map(|(layer, (biases, format))| {
            let fine = |&b: &i32| i64::from(b) << (format.y_shift() + REFINED - MASTER_SHIFT);
            Ok(Layer {
                multiplier: Self::multiplier(plan, layer)?,
                y_shift: format.y_shift(),
                values: biases.master.iter().map(fine).collect(),
                sums: vec![0; biases.master.len()],
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_, Error>>()?,
        })
    }

    /// All biases in their own units, layer by layer.
    #[must_use]
    pub fn values(&self) -> Vec<i64> {
        let layers = self.layers.iter();
        layers.flat_map(|layer| layer.values.clone()).collect()
    }

    /// Takes kept values, if there are as many and all are within the limit.
    pub(super) fn restore(&mut self, values: &[i64]) -> Result<(), Error> {
        let (expected, got) = (self.values().len(), values.len());
        if expected != got {
            return Err(Error::UpdateLength { expected, got });
        }
        let mut rest = values;
        for layer in &mut self.layers {
            let (mine, others) = rest.split_at(layer.values.len());
            rest = others;
            if let Some(&beyond) = mine.iter().find(|v| v.abs() > layer.limit()) {
                return Err(Error::BiasOutOfRange {
                    bias: layer.real(beyond),
                    limit: layer.real(layer.limit()),
                });
            }
            layer.values.copy_from_slice(mine);
        }
        Ok(())
    }

    /// Biases in units of one layer's products, fractions and all.
    #[must_use]
    pub fn in_products(&self, layer: usize) -> Vec<f64> {
        let unit = (-f64::from(REFINED)).exp2();
        let values = self.layers[layer].values.iter();
        values.map(|&v| v as f64 * unit).collect()
    }

    /// Counts as zero the output gradients of channels that would carry a bias beyond its limit.
    pub(crate) fn pass_over(&self, layer: usize, d: &mut Integers) {
        let layer = &self.layers[layer];
        let sums = channel_sums(layer.values.len(), d);
        let beyond: Vec<bool> = (0..sums.len())
            .map(|i| layer.next(i, sums[i]).abs() > layer.limit())
            .collect();
        let positions = d.columns() / beyond.len().max(1);
        for row in 0..d.rows() {
            for (channel, beyond) in d
                .row_mut(row)
                .chunks_exact_mut(positions.max(1))
                .zip(&beyond)
            {
                let keep = i32::from(!beyond);
                channel.iter_mut().for_each(|d| *d *= keep);
            }
        }
    }

    /// Notes the output gradients of a step, as they go to the server.
    pub(crate) fn note(&mut self, layer: usize, d: &Integers) {
        let layer = &mut self.layers[layer];
        let sums = channel_sums(layer.values.len(), d);
        for (sum, more) in layer.sums.iter_mut().zip(sums) {
            *sum += more;
        }
    }

    /// Forgets what was noted: a step begins anew.
    pub(crate) fn forget(&mut self) {
        self.layers.iter_mut().for_each(|layer| layer.sums.fill(0));
    }

    /// Takes the step that was noted; the new biases on the grid of master biases go to `biases`.
    pub(super) fn step(&mut self, biases: &mut [Parameters]) {
        for (layer, biases) in self.layers.iter_mut().zip(&mut *biases) {
            for i in 0..layer.values.len() {
                layer.values[i] = layer.next(i, layer.sums[i]);
            }
            layer.write(biases);
        }
        self.forget();
    }

    pub(super) fn write(&self, biases: &mut [Parameters]) {
        for (layer, biases) in self.layers.iter().zip(biases) {
            layer.write(biases);
        }
    }
}

impl Layer {
    /// A bias after a step.
    fn next(&self, i: usize, sum: i64) -> i64 {
        self.values[i].saturating_sub(self.multiplier.saturating_mul(sum))
    }

    const fn limit(&self) -> i64 {
        BIAS_LIMIT << (self.y_shift + REFINED - MASTER_SHIFT)
    }

    fn real(&self, value: i64) -> f64 {
        value as f64 * (-f64::from(self.y_shift + REFINED)).exp2()
    }

    /// Rounds to the grid of master biases.
    fn write(&self, biases: &mut Parameters) {
        let shift = self.y_shift + REFINED - MASTER_SHIFT;
        for (master, &value) in biases.master.iter_mut().zip(&self.values) {
            *master = shift_round(i128::from(value), shift) as i32;
        }
    }
}

/// Sums over rows and positions, channel by channel.
fn channel_sums(channels: usize, d: &Integers) -> Vec<i64> {
    let positions = (d.columns() / channels.max(1)).max(1);
    let mut sums = vec![0; channels];
    for row in 0..d.rows() {
        for (sum, channel) in sums.iter_mut().zip(d.row(row).chunks_exact(positions)) {
            *sum += channel.iter().map(|&d| i64::from(d)).sum::<i64>();
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use sphinx_nn::network::LayerSpec;

    use super::*;
    use crate::fixture::{choices, image};
    use crate::model::Replica;
    use crate::plan::{GridLiteral, Limits, PlanChoices};

    fn plan(learning_rate: f64) -> GridPlan {
        let layers = vec![LayerSpec::Dense { outputs: 2 }];
        let choices = PlanChoices {
            clip_bound: 0.5,
            learning_rate,
            momentum: 0.9,
            divisor: 2.0,
            ..choices(image(1, 1, 3), layers, 4)
        };
        let literal = GridLiteral::design(&choices).unwrap().clipping_samples();
        GridPlan::new(&literal, &Limits::default()).unwrap()
    }

    fn noted(plan: &GridPlan, rows: [[i32; 2]; 4]) -> Replica {
        let mut replica = Replica::initial(plan).publishing_biases().unwrap();
        let mut d = Integers::zeros(4, 2);
        for (row, values) in rows.iter().enumerate() {
            d.row_mut(row).copy_from_slice(values);
        }
        replica.pass_over(0, &mut d);
        replica.note_outputs(0, &d);
        replica
    }

    #[test]
    fn a_step_is_that_of_the_real_rule() {
        let plan = plan(0.3);
        let rate = PublishedBiases::rate(&plan, 0).unwrap();
        assert!((rate / 0.15 - 1.0).abs() < 1e-6, "{rate}");
        // d is in units of 2^-10
        let mut replica = noted(&plan, [[1024, 5], [1024, 0], [0, -7], [512, 0]]);
        replica.step_published();
        let biases = &replica.published().unwrap().layers[0];
        let real: Vec<f64> = biases.values.iter().map(|&v| biases.real(v)).collect();
        assert!((real[0] + 0.15 * 2.5).abs() < 1e-6, "{real:?}");
        assert!((real[1] - 0.15 * 2.0 / 1024.0).abs() < 1e-9);
        // the product sees the same, rounded
        assert_eq!(
            replica.biases(0),
            [real[0], real[1]].map(|b| (b * 16384.0).round() as i32)
        );
        // a second update without a step moves nothing
        let before = replica.master_biases();
        replica.step_published();
        assert_eq!(replica.master_biases(), before);
    }

    #[test]
    fn a_channel_beyond_the_limit_is_passed_over() {
        let plan = plan(30.0);
        let mut replica = noted(&plan, [[2000, 9], [2000, 0], [0, 0], [0, 0]]);
        replica.step_published();
        let masters = replica.master_biases();
        assert_eq!(masters[0], 0);
        assert!(masters[1] < 0);
    }

    #[test]
    fn rates_without_a_multiplier_are_refused() {
        assert!(PublishedBiases::multiplier(&plan(1e-7), 0).is_err());
        assert!(PublishedBiases::multiplier(&plan(1.0), 0).is_ok());
    }
}
