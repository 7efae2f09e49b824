//! Adding steps up and converting the sum.

use crate::accountant::{
    AccountError, Accountant, AccountantKind, Answer, NotFinite, Reason, Spent, Unsupported,
};
use crate::event::DpEvent;
use crate::quantity::{Adjacency, Delta};
use crate::rdp::divergence::{ln_reverse_moment, poisson_gaussian};
use crate::special::minimize;

/// The smallest order that is tried.
pub const MIN_ORDER: f64 = 1.005;
/// The largest order that is tried.
pub const MAX_ORDER: f64 = 2001.0;

/// How many orders are kept per kind of step.
const GRID: usize = 49;

/// The tolerance of the search for the best order, in its logarithm. Small, because at low rates
/// the curve has a sharp bend where the minimum may sit.
const ORDER_TOLERANCE: f64 = 2e-9;

/// The logarithms of order - 1 from one edge to the other.
fn grid_point(i: usize) -> f64 {
    let (low, high) = ((MIN_ORDER - 1.0).ln(), (MAX_ORDER - 1.0).ln());
    if i + 1 == GRID {
        high
    } else {
        (high - low).mul_add(i as f64 / (GRID - 1) as f64, low)
    }
}

/// The order with this logarithm of order - 1, kept inside the range.
fn order_at(ln_lambda: f64) -> f64 {
    (1.0 + ln_lambda.exp()).clamp(MIN_ORDER, MAX_ORDER)
}

/// The exponents of Holder's inequality that are tried for sampled steps under replace-one.
const HOLDER: [f64; 3] = [2.0, 1.4, 1.12];

/// One kind of step: a Gaussian at some rate (one for unsampled).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) rate: f64,
    pub(crate) noise_multiplier: f64,
}

impl Step {
    /// The Renyi divergence at `order`; parameters are in range by construction.
    pub(crate) fn rdp(self, adjacency: Adjacency, order: f64) -> f64 {
        let add_remove =
            |order| poisson_gaussian(self.rate, self.noise_multiplier, order).unwrap_or(f64::NAN);
        match adjacency {
            Adjacency::AddRemove => add_remove(order),
            Adjacency::ReplaceOne => {
                let z = self.noise_multiplier;
                let lambda = order - 1.0;
                // The unsampled pair is at distance 2 C.
                let plain = 2.0 * order / (z * z);
                if self.rate >= 1.0 {
                    return plain;
                }
                // Joint convexity: A <= 1 - q + q exp(lambda plain).
                let grown = lambda * plain;
                let convex = if grown > 600.0 {
                    grown + self.rate.ln() + 1e-15
                } else {
                    (self.rate * grown.exp_m1()).ln_1p()
                };
                // Holder's inequality through the data set without the record.
                let through = HOLDER
                    .into_iter()
                    .map(|p| {
                        let forward = (p * order - 1.0) * add_remove(p * order);
                        let conjugate = p / (p - 1.0);
                        let m = (order - 1.0 / p).mul_add(conjugate, -1.0);
                        forward / p + ln_reverse_moment(self.rate, z, m) / conjugate
                    })
                    .fold(f64::INFINITY, f64::min);
                // The second density is at least (1 - q) times the one without the record.
                let floor = lambda * (add_remove(order) - (-self.rate).ln_1p());
                convex.min(through).min(floor) / lambda * (1.0 + 1e-14)
            }
        }
    }
}

/// `count` runs of one kind of step, and its divergences on the grid of orders.
#[derive(Debug, Clone)]
struct Run {
    step: Step,
    count: u64,
    grid: [f64; GRID],
}

/// The accountant that adds Renyi divergences.
///
/// Supports Gaussian releases, unsampled and Poisson-sampled (several Gaussians on one sampled
/// batch count as one with `1/z^2` added up), repetition and composition, under both adjacencies.
/// Under [`Adjacency::ReplaceOne`] the sensitivity of a clipped sum is 2 C; sampled steps are
/// priced by the smallest of three proven bounds, loose below a hundred steps (see the proof in
/// [`crate::rdp`]).
///
/// Each [`epsilon`](Accountant::epsilon) costs some 20 to 50 evaluations per distinct kind of step;
/// the divergences on a coarse grid of orders are kept.
#[derive(Debug, Clone)]
pub struct RdpAccountant {
    adjacency: Adjacency,
    runs: Vec<Run>,
    unprotected: bool,
}

impl RdpAccountant {
    /// An accountant that has seen nothing.
    #[must_use]
    pub const fn new(adjacency: Adjacency) -> Self {
        Self {
            adjacency,
            runs: Vec::new(),
            unprotected: false,
        }
    }

    /// The sum of Renyi divergences at one order in `1.005..=2001`, infinite after an
    /// unprotected release.
    #[must_use]
    pub fn rdp(&self, order: f64) -> f64 {
        if self.unprotected {
            return f64::INFINITY;
        }
        self.runs
            .iter()
            .map(|run| run.count as f64 * run.step.rdp(self.adjacency, order))
            .sum()
    }

    /// An upper bound on epsilon at `delta` for all that was composed.
    ///
    /// # Errors
    /// [`NotFinite`] if the arithmetic overflows.
    pub fn epsilon(&self, delta: Delta) -> Result<Spent, NotFinite> {
        if self.unprotected {
            return Ok(Spent {
                epsilon: f64::INFINITY,
                order: MIN_ORDER,
                at_edge: false,
            });
        }
        if self.runs.is_empty() {
            return Ok(Spent {
                epsilon: 0.0,
                order: MAX_ORDER,
                at_edge: false,
            });
        }
        let best = self.best_on_grid(delta.get());
        let bracket = (best.saturating_sub(1), (best + 1).min(GRID - 1));
        spent(
            |order| self.rdp(order),
            delta,
            grid_point(bracket.0),
            grid_point(bracket.1),
        )
    }

    fn add(&mut self, step: Step, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(run) = self.runs.iter_mut().find(|run| run.step == step) {
            run.count = run.count.saturating_add(count);
            return;
        }
        let adjacency = self.adjacency;
        let grid = std::array::from_fn(|i| step.rdp(adjacency, order_at(grid_point(i))));
        self.runs.push(Run { step, count, grid });
    }

    /// The grid order with the smallest epsilon.
    fn best_on_grid(&self, delta: f64) -> usize {
        let mut best = (f64::INFINITY, 0);
        for i in 0..GRID {
            let rdp: f64 = self
                .runs
                .iter()
                .map(|run| run.count as f64 * run.grid[i])
                .sum();
            let epsilon = convert(rdp, order_at(grid_point(i)), delta);
            if epsilon < best.0 {
                best = (epsilon, i);
            }
        }
        best.1
    }
}

impl Accountant for RdpAccountant {
    fn kind(&self) -> AccountantKind {
        AccountantKind::Rdp
    }

    fn adjacency(&self) -> Adjacency {
        self.adjacency
    }

    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        let flat = Flat::new(self.adjacency, event, count)?;
        self.unprotected |= flat.unprotected;
        for (step, count) in flat.steps {
            self.add(step, count);
        }
        Ok(())
    }

    fn epsilon_at(&self, delta: Delta) -> Result<Answer, AccountError> {
        let spent = Self::epsilon(self, delta)?;
        Ok(Answer {
            upper: Some(spent.epsilon),
            order: Some(spent.order),
            at_edge: spent.at_edge,
            ..Answer::default()
        })
    }

    fn delta_at(&self, epsilon: f64) -> Result<Answer, AccountError> {
        let upper = |delta: f64, order| Answer {
            upper: Some(delta),
            order: Some(order),
            ..Answer::default()
        };
        if self.unprotected {
            return Ok(upper(1.0, MIN_ORDER));
        }
        if self.runs.is_empty() {
            return Ok(upper(0.0, MAX_ORDER));
        }
        // The inverse of the conversion at every order; a minimum of bounds is one.
        let ln = |x: f64| {
            let order = order_at(x);
            (order - 1.0) * (self.rdp(order) - epsilon + (-1.0 / order).ln_1p()) - order.ln()
        };
        let on_grid = (0..GRID).map(|i| (ln(grid_point(i)), i));
        let best = on_grid.min_by(|a, b| a.0.total_cmp(&b.0));
        let i = best.map_or(0, |(_, i)| i);
        let ends = (i.saturating_sub(1), (i + 1).min(GRID - 1));
        let inner = minimize(ln, grid_point(ends.0), grid_point(ends.1), ORDER_TOLERANCE);
        let at_grid = (grid_point(i), ln(grid_point(i)));
        let (x, value) = if inner.1 < at_grid.1 { inner } else { at_grid };
        if value.is_nan() {
            let (delta, order) = (f64::NAN, order_at(x));
            return Err(NotFinite { delta, order }.into());
        }
        Ok(upper(value.exp().min(1.0), order_at(x)))
    }
}

/// Epsilon from a Renyi divergence at one order: Canonne, Kamath, Steinke 2020, Proposition 12.
pub(crate) fn convert(rdp: f64, order: f64, delta: f64) -> f64 {
    rdp + (-1.0 / order).ln_1p() - (delta.ln() + order.ln()) / (order - 1.0)
}

/// The smallest epsilon over orders whose `ln(order - 1)` lies between `low` and `high`.
///
/// The converted epsilon is quasi-convex in the order (see the proof in [`crate::rdp`]), so the
/// search finds the minimum; whatever it returns was evaluated and is a bound.
pub(crate) fn spent(
    rdp: impl Fn(f64) -> f64,
    delta: Delta,
    low: f64,
    high: f64,
) -> Result<Spent, NotFinite> {
    let at = |x: f64| convert(rdp(order_at(x)), order_at(x), delta.get());
    let inner = minimize(at, low, high, ORDER_TOLERANCE);
    let edges = [grid_point(0), grid_point(GRID - 1)];
    let (mut x, mut epsilon) = inner;
    for edge in edges.into_iter().filter(|e| *e == low || *e == high) {
        let value = at(edge);
        if value < epsilon {
            (x, epsilon) = (edge, value);
        }
    }
    let order = order_at(x);
    if !epsilon.is_finite() {
        return Err(NotFinite {
            delta: delta.get(),
            order,
        });
    }
    let at_edge = edges.iter().any(|edge| (x - edge).abs() < 1e-4);
    Ok(Spent {
        epsilon: epsilon.max(0.0),
        order,
        at_edge,
    })
}

/// A walk over an event tree that turns it into counted steps, or names what it cannot.
pub(crate) struct Flat {
    adjacency: Adjacency,
    pub(crate) steps: Vec<(Step, u64)>,
    pub(crate) unprotected: bool,
}

impl Flat {
    /// The counted steps of `count` runs of `event`.
    pub(crate) fn new(
        adjacency: Adjacency,
        event: &DpEvent,
        count: u64,
    ) -> Result<Self, Unsupported> {
        let mut flat = Self {
            adjacency,
            steps: Vec::new(),
            unprotected: false,
        };
        flat.walk(event, count)?;
        Ok(flat)
    }

    pub(crate) fn refuse<T>(&self, event: &DpEvent, reason: Reason) -> Result<T, Unsupported> {
        Err(Unsupported {
            event: Box::new(event.clone()),
            adjacency: self.adjacency,
            reason,
        })
    }

    fn walk(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        if count == 0 {
            return Ok(());
        }
        match event {
            DpEvent::NoOp => {}
            DpEvent::NonPrivate => self.unprotected = true,
            DpEvent::Gaussian { noise_multiplier } => {
                let step = Step {
                    rate: 1.0,
                    noise_multiplier: noise_multiplier.get(),
                };
                self.steps.push((step, count));
            }
            DpEvent::SelfComposed {
                event: inner,
                count: times,
            } => {
                let Some(total) = count.checked_mul(*times) else {
                    return self.refuse(event, Reason::TooMany);
                };
                self.walk(inner, total)?;
            }
            DpEvent::Composed(events) => {
                for inner in events {
                    self.walk(inner, count)?;
                }
            }
            DpEvent::PoissonSampled { rate, event: inner } => {
                self.sampled(event, rate.get(), inner, count)?;
            }
        }
        Ok(())
    }

    /// All Gaussians on one sampled batch are one Gaussian with the precisions added up.
    fn sampled(
        &mut self,
        whole: &DpEvent,
        rate: f64,
        inner: &DpEvent,
        count: u64,
    ) -> Result<(), Unsupported> {
        if let DpEvent::Gaussian { noise_multiplier } = inner {
            self.steps.push((
                Step {
                    rate,
                    noise_multiplier: noise_multiplier.get(),
                },
                count,
            ));
            return Ok(());
        }
        let mut batch = Self {
            adjacency: self.adjacency,
            steps: Vec::new(),
            unprotected: false,
        };
        batch.walk(inner, 1)?;
        self.unprotected |= batch.unprotected;
        if batch.steps.iter().any(|(step, _)| step.rate < 1.0) {
            return self.refuse(whole, Reason::NestedSampling);
        }
        let precision: f64 = batch
            .steps
            .iter()
            .map(|(step, times)| *times as f64 / (step.noise_multiplier * step.noise_multiplier))
            .sum();
        if precision > 0.0 {
            // Rounded down: less noise than there is.
            let noise_multiplier = precision.sqrt().recip() * (1.0 - 1e-14);
            if noise_multiplier < 1e-6 {
                return self.refuse(whole, Reason::TooLittleNoise);
            }
            self.steps.push((
                Step {
                    rate,
                    noise_multiplier,
                },
                count,
            ));
        }
        Ok(())
    }
}
