//! The float engine with an optimiser: momentum, Nesterov, schedules, averages.
//!
//! [`Float`] lets [`Clear`] compute and updates its parameters itself, from the noised sum `g`
//! divided by the public mean batch size:
//!
//! - `v <- m v + g`, then `w <- w - rate v` (Polyak's momentum), or
//! - `w <- w - rate (g + m v)` (Nesterov 1983, in the form of Sutskever, Martens, Dahl, Hinton,
//!   ICML 2013, with the rate outside `v`).
//!
//! Everything here is a function of released values and public constants.

use sphinx_dp::mechanism::{ClipBound, Noised};
use sphinx_nn::clear::{Clear, ClearError, ClearHeld, ClearPending};
use sphinx_nn::engine::{GradientSum, Infer, Train};
use sphinx_nn::loss::Loss;
use sphinx_nn::pass::Pass;
use sphinx_nn::tensor::Tensor;

use super::average::{Average, Averaging};
use super::schedule::Schedule;
use super::{Kept, KeptError, Learn, Views};
use crate::error::Error;

/// Rows that go through the network at once: their inputs stay in the cache between passes, and a
/// batch of thousands of images needs no memory for all of its activations.
const ROWS_AT_ONCE: usize = 512;

/// How released sums become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateRule {
    /// The learning rate, step by step.
    pub schedule: Schedule,
    /// Share of the velocity kept from step to step, in 0..1.
    pub momentum: f64,
    /// Look ahead along the velocity.
    pub nesterov: bool,
    /// What sums are divided by: the declared mean batch size.
    pub divisor: f64,
    /// Steps of the whole run, for schedules and averages that end with it.
    pub steps: u64,
    /// Which average is the model.
    pub averaging: Averaging,
}

/// The float engine and its optimiser.
#[derive(Clone, Debug)]
pub struct Float {
    clear: Clear,
    rule: UpdateRule,
    velocity: Vec<f32>,
    average: Option<Average>,
    step: u64,
    views: Option<Views>,
    /// The published rule of biases.
    published: bool,
}

impl Float {
    /// Trains `clear` by `rule`; what `clear` itself was told about learning is not used.
    #[must_use]
    pub fn new(clear: Clear, rule: UpdateRule) -> Self {
        let len = clear.parameters().len();
        Self {
            velocity: vec![0.0; len],
            average: Average::new(rule.averaging, len, rule.steps),
            clear,
            rule,
            step: 0,
            views: None,
            published: false,
        }
    }

    /// Biases follow exact sums of their gradients, at the same rate, without momentum: the published rule, for
    /// which no privacy is proven. The floating-point twin of [`crate::model::PublishedBiases`].
    #[must_use]
    pub fn publishing_biases(mut self) -> Self {
        self.clear.leave_out_biases();
        self.published = true;
        self
    }

    /// Learns from views of each record instead of the record: its gradient is their mean, clipped
    /// once.
    ///
    /// # Errors
    /// [`ClearError`] for no views.
    pub fn with_views(mut self, views: Views) -> Result<Self, ClearError> {
        self.clear.average_views(views.settings.multiplicity)?;
        self.views = Some(views);
        Ok(self)
    }

    /// The engine with the last iterate.
    #[must_use]
    pub const fn last_iterate(&self) -> &Clear {
        &self.clear
    }

    /// The engine with the weights that are the model: the average, if one is kept and begun.
    #[must_use]
    pub fn model(&self) -> Clear {
        let mut model = self.clear.clone();
        if let Some(average) = self.average.as_ref().and_then(Average::weights) {
            model.parameters_mut().copy_from_slice(&average);
        }
        model
    }

    /// Takes other first parameters than the engine's.
    ///
    /// # Errors
    /// [`ClearError::Parameters`] for a wrong count.
    pub fn start_from(&mut self, parameters: &[f32]) -> Result<(), ClearError> {
        let (found, expected) = (parameters.len(), self.velocity.len());
        if found != expected {
            return Err(ClearError::Parameters { found, expected });
        }
        self.clear.parameters_mut().copy_from_slice(parameters);
        Ok(())
    }

    /// Goes on from what [`Kept::keep`] gave; unchanged if it does not fit.
    ///
    /// # Errors
    /// [`KeptError`] for the state of another network, engine or average.
    pub fn restore(&mut self, state: &super::State) -> Result<(), KeptError> {
        let len = self.velocity.len();
        let weights = state.read_f32("weights", len)?;
        let velocity = state.read_f32("velocity", len)?;
        if let Some(average) = &mut self.average {
            let values = state.read_f64("average", len)?;
            if !average.restore(state.read_number("averaged_steps")?, values) {
                return Err(KeptError::Missing { name: "average" });
            }
        }
        self.clear.parameters_mut().copy_from_slice(&weights);
        self.velocity = velocity;
        self.step = state.step();
        Ok(())
    }

    fn update(&mut self, values: &[i64]) -> Result<(), ClearError> {
        let parameters = self.clear.parameters().len();
        if values.len() != parameters {
            return Err(ClearError::Parameters {
                found: values.len(),
                expected: parameters,
            });
        }
        let rate = self.rule.schedule.rate(self.step, self.rule.steps) as f32;
        let momentum = self.rule.momentum as f32;
        let grid = (1_u64 << self.clear.shift()) as f64;
        let scale = 1.0 / (grid * self.rule.divisor);
        let biases = self.next_biases(f64::from(rate) / self.rule.divisor);
        let parameters = self.clear.parameters_mut().iter_mut();
        for ((p, v), g) in parameters.zip(&mut self.velocity).zip(values) {
            let g = (*g as f64 * scale) as f32;
            *v = momentum * *v + g;
            *p -= rate
                * if self.rule.nesterov {
                    g + momentum * *v
                } else {
                    *v
                };
        }
        for (place, value) in biases {
            self.clear.parameters_mut()[place] = value;
            self.velocity[place] = 0.0;
        }
        if let Some(average) = &mut self.average {
            average.take(self.step, self.clear.parameters());
        }
        self.step += 1;
        Ok(())
    }

    /// Where the biases go by the published rule, and their places; none by the default rule.
    fn next_biases(&self, rate: f64) -> Vec<(usize, f32)> {
        let Some(sums) = self.clear.bias_sums().filter(|_| self.published) else {
            return Vec::new();
        };
        let parameters = self.clear.parameters();
        let spans = self.clear.network().layout().iter();
        let next = |at: usize| (f64::from(parameters[at]) - rate * sums[at]) as f32;
        spans
            .flat_map(|span| span.biases.clone().map(|at| (at, next(at))))
            .collect()
    }
}

impl Infer for Float {
    type Error = ClearError;

    fn forward(&mut self, layer: usize, x: &Tensor) -> Result<Tensor, ClearError> {
        self.clear.forward(layer, x)
    }

    fn infer_whole(&mut self, x: &Tensor) -> Option<Result<Tensor, ClearError>> {
        self.clear.infer_whole(x)
    }
}

impl Train for Float {
    type Held = ClearHeld;
    type Pending = ClearPending;

    fn begin(&mut self, step: u64, capacity: usize) -> Result<(), ClearError> {
        self.clear.begin(step, capacity)
    }

    fn forward_held(
        &mut self,
        layer: usize,
        x: &Tensor,
    ) -> Result<(Tensor, ClearHeld), ClearError> {
        self.clear.forward_held(layer, x)
    }

    fn backward(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: &ClearHeld,
    ) -> Result<Tensor, ClearError> {
        self.clear.backward(layer, d, held)
    }

    fn submit_gradient(
        &mut self,
        layer: usize,
        d: &Tensor,
        held: ClearHeld,
    ) -> Result<ClearPending, ClearError> {
        self.clear.submit_gradient(layer, d, held)
    }

    fn pass_whole(
        &mut self,
        x: &Tensor,
        labels: &[Option<u8>],
        loss: Loss,
    ) -> Option<Result<Pass<ClearPending>, ClearError>> {
        self.clear.pass_whole(x, labels, loss)
    }

    fn collect(&mut self, pending: Vec<ClearPending>) -> Result<GradientSum, ClearError> {
        self.clear.collect(pending)
    }
}

impl Learn for Float {
    fn clip_bound(&self) -> Result<ClipBound, Error> {
        self.clear.clip_bound()
    }

    fn learn(&mut self, noised: &Noised) -> Result<(), ClearError> {
        self.update(noised.values())
    }

    fn rows_at_once(&self) -> Option<usize> {
        Some(ROWS_AT_ONCE)
    }

    fn views(&self) -> Option<Views> {
        self.views
    }
}

impl Kept for Float {
    fn keep(&self) -> super::State {
        let mut state = super::State::new(self.step);
        state.f32("weights", self.clear.parameters());
        state.f32("velocity", &self.velocity);
        if let Some(average) = &self.average {
            let (taken, values) = average.state();
            state.f64("average", values);
            state.number("averaged_steps", taken);
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sphinx_nn::clear::ClearConfig;
    use sphinx_nn::{Network, architectures};

    use super::*;
    use crate::fixture::image;
    use crate::train::Shape;

    fn float(rule: UpdateRule) -> Float {
        let input = image(1, 1, 1);
        let architecture = architectures::by_name("linear", input, 2).unwrap();
        let network = Network::new(&architecture).unwrap();
        let config = ClearConfig {
            shift: 10,
            ..ClearConfig::default()
        };
        let clear = Clear::new(&network, vec![0.5; 4], config).unwrap();
        Float::new(clear, rule)
    }

    fn rule(nesterov: bool, momentum: f64) -> UpdateRule {
        UpdateRule {
            schedule: Schedule::constant(0.5),
            momentum,
            nesterov,
            divisor: 4.0,
            steps: 10,
            averaging: Averaging::None,
        }
    }

    #[test]
    fn plain_momentum_is_that_of_the_network_crate() {
        let mut ours = float(rule(false, 0.9));
        let mut theirs = ours.clear.clone();
        theirs = Clear::new(
            theirs.network(),
            theirs.parameters().to_vec(),
            ClearConfig {
                learning_rate: 0.5,
                momentum: 0.9,
                divisor: 4.0,
                shift: 10,
                ..ClearConfig::default()
            },
        )
        .unwrap();
        for update in [[1000, -77, 0, 5], [3, 3, 3, -4096], [9, 8, 7, 6]] {
            ours.update(&update).unwrap();
            theirs.apply(&update, 10).unwrap();
            assert_eq!(ours.clear.parameters(), theirs.parameters());
        }
    }

    /// By the published rule weights are clipped and noised as before, biases take the exact sum.
    #[test]
    fn published_biases_take_exact_sums() {
        let mut float = float(rule(false, 0.5)).publishing_biases();
        float.clear.begin(0, 2).unwrap();
        let x = Tensor::from_vec(2, 1, vec![0.0, 0.0]).unwrap();
        let network = float.clear.network().clone();
        let labels = [Some(0), Some(0)];
        let pass = sphinx_nn::pass::gradients(&mut float, &network, &x, &labels).unwrap();
        let sum = float.collect(pass.pending).unwrap();
        // without inputs weights have no gradient, and biases are not in the sum
        assert_eq!(sum.values, [0; 4]);
        assert_eq!(sum.norms_squared, [0; 2]);
        // noise at a bias, as a release has it, is not looked at
        float.update(&[0, 0, 777, -777]).unwrap();
        // d = (-1/2, 1/2) for both rows; rate 0.5 over 4
        assert_eq!(float.clear.parameters()[2..], [0.5 + 0.125, 0.5 - 0.125]);
        assert_eq!(float.velocity[2..], [0.0; 2]);
        // the next step begins without what was summed
        float.clear.begin(1, 2).unwrap();
        float.update(&[0; 4]).unwrap();
        assert_eq!(float.clear.parameters()[2..], [0.625, 0.375]);
    }

    #[test]
    fn nesterov_looks_ahead() {
        // g = 1 in every step: v = 1, 1.5; steps 0.5 (1 + 0.5), 0.5 (1 + 0.75).
        let mut float = float(rule(true, 0.5));
        float.update(&[4096, 0, 0, 0]).unwrap();
        assert_eq!(float.clear.parameters()[0], 0.5 - 0.75);
        float.update(&[4096, 0, 0, 0]).unwrap();
        assert_eq!(float.clear.parameters()[0], 0.5 - 0.75 - 0.875);
        assert_eq!(float.clear.parameters()[1], 0.5);
    }

    proptest! {
        /// Stopping after any step and going on from what was kept changes no bit.
        #[test]
        fn what_is_kept_is_enough(
            stop in 0_usize..10, nesterov: bool, ema: bool,
            updates in proptest::collection::vec(proptest::array::uniform4(-9999_i64..9999), 10),
        ) {
            let averaging = if ema {
                Averaging::Ema { decay: 0.9 }
            } else {
                Averaging::Tail { share: 0.7 }
            };
            let rule = UpdateRule {
                schedule: Schedule { base: 0.3, warm_up: 2, shape: Shape::Cosine { to: 0.1 } },
                averaging,
                ..rule(nesterov, 0.8)
            };
            let mut whole = float(rule);
            updates.iter().for_each(|u| whole.update(u).unwrap());
            let mut first = float(rule);
            updates[..stop].iter().for_each(|u| first.update(u).unwrap());
            let bytes = first.keep().to_bytes().unwrap();
            let mut second = float(rule);
            second.restore(&crate::train::State::from_bytes(&bytes).unwrap()).unwrap();
            updates[stop..].iter().for_each(|u| second.update(u).unwrap());
            prop_assert_eq!(whole.clear.parameters(), second.clear.parameters());
            prop_assert_eq!(whole.average, second.average);
        }
    }
}
