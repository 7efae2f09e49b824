//! Adding steps up and converting the sum.

use std::sync::OnceLock;

use super::{fixed, pair};
use crate::accountant::{
    AccountError, Accountant, AccountantKind, Answer, NotFinite, Spent, Unsupported, at_distance,
};
use crate::event::DpEvent;
use crate::flat::{Flat, Piece};
use crate::quantity::{Adjacency, Delta};
use crate::rdp::divergence::{MARGIN, poisson_gaussian};
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
    if i + 1 >= GRID {
        high
    } else {
        (high - low).mul_add(i as f64 / (GRID - 1) as f64, low)
    }
}

/// The order with this logarithm of order - 1, kept inside the range.
fn order_at(ln_lambda: f64) -> f64 {
    (1.0 + ln_lambda.exp()).clamp(MIN_ORDER, MAX_ORDER)
}

impl Piece {
    /// The Renyi divergence at `order`; parameters are in range by construction.
    pub(crate) fn rdp(self, adjacency: Adjacency, order: f64) -> f64 {
        let replace = adjacency == Adjacency::ReplaceOne;
        let lambda = order - 1.0;
        let ln_moment = match self {
            Self::Gaussian(step) if !replace => {
                return poisson_gaussian(step.rate, step.noise_multiplier, order)
                    .unwrap_or(f64::NAN);
            }
            Self::Gaussian(step) => {
                pair::replaced_gaussian(step.rate, step.noise_multiplier, order)
            }
            Self::Laplace { rate, scale } => pair::laplace(rate, scale, order, replace),
            Self::Discrete {
                rate,
                std_dev,
                bound,
                ..
            } => pair::discrete(rate, std_dev, bound, order, replace),
            // The sensitivity of a replacement is two clip bounds.
            Self::Fixed(step) => fixed::ln_moment(step.rate, 0.5 * step.noise_multiplier, order),
        };
        ln_moment / lambda * (1.0 + MARGIN)
    }
}

/// `count` runs of one kind of release, and its divergences on the grid of orders, found when asked.
#[derive(Debug, Clone)]
struct Run {
    piece: Piece,
    count: u64,
    grid: [OnceLock<f64>; GRID],
}

/// The accountant that adds Renyi divergences.
///
/// Supports every event: Gaussian, discrete Gaussian and Laplace releases, unsampled and
/// Poisson-sampled (several Gaussians on one sampled batch count as one with `1/z^2` added up), batches
/// cut to a capacity (charged to delta), Gaussians on batches of fixed size (under
/// [`Adjacency::ReplaceOne`]), repetition and composition. Under [`Adjacency::ReplaceOne`] the
/// sensitivity of a clipped sum is 2 C.
///
/// Each [`epsilon`](Accountant::epsilon) costs some 20 evaluations per distinct kind of release; the
/// divergences met on a coarse grid of orders are kept.
#[derive(Debug, Clone)]
pub struct RdpAccountant {
    adjacency: Adjacency,
    runs: Vec<Run>,
    unprotected: bool,
    distance: f64,
}

impl RdpAccountant {
    /// An accountant that has seen nothing.
    #[must_use]
    pub const fn new(adjacency: Adjacency) -> Self {
        Self {
            adjacency,
            runs: Vec::new(),
            unprotected: false,
            distance: 0.0,
        }
    }

    /// An accountant that has seen these pieces.
    pub(crate) fn of(adjacency: Adjacency, pieces: impl IntoIterator<Item = (Piece, u64)>) -> Self {
        let mut this = Self::new(adjacency);
        for (piece, count) in pieces {
            this.add(piece, count);
        }
        this
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
            .map(|run| run.count as f64 * run.piece.rdp(self.adjacency, order))
            .sum()
    }

    /// How far, in total variation, the run may be from the one that is accounted: for batches cut to
    /// a capacity and for grids. It is charged to delta, `1 + e^epsilon` times.
    #[must_use]
    pub const fn distance(&self) -> f64 {
        self.distance
    }

    /// An upper bound on epsilon at `delta` for all that was composed; infinite where
    /// [`distance`](Self::distance) uses up delta.
    ///
    /// # Errors
    /// [`NotFinite`] if the arithmetic overflows.
    pub fn epsilon(&self, delta: Delta) -> Result<Spent, NotFinite> {
        match self.spent(delta) {
            Err(AccountError::NotFinite(error)) => Err(error),
            Ok(spent) => Ok(spent),
            Err(_) => Ok(Spent {
                epsilon: f64::INFINITY,
                order: MIN_ORDER,
                at_edge: false,
            }),
        }
    }

    fn spent(&self, delta: Delta) -> Result<Spent, AccountError> {
        if self.unprotected {
            return Ok(Spent {
                epsilon: f64::INFINITY,
                order: MIN_ORDER,
                at_edge: false,
            });
        }
        let ask = |delta| self.ideal(delta).map_err(AccountError::from);
        at_distance(delta, self.distance, ask, |spent| spent.epsilon)
    }

    /// Epsilon of the run that is accounted.
    pub(crate) fn ideal(&self, delta: Delta) -> Result<Spent, NotFinite> {
        if self.runs.is_empty() {
            return Ok(Spent {
                epsilon: 0.0,
                order: MAX_ORDER,
                at_edge: false,
            });
        }
        let on_grid = |i: usize, rdp: f64| convert(rdp, order_at(grid_point(i)), delta.get());
        let best = self.best_on_grid(on_grid, self.likely(delta));
        let at = |x: f64| convert(self.rdp(order_at(x)), order_at(x), delta.get());
        let (x, epsilon) = self.refined(at, on_grid, best);
        let order = order_at(x);
        if !epsilon.is_finite() {
            let delta = delta.get();
            return Err(NotFinite { delta, order });
        }
        let edges = [grid_point(0), grid_point(GRID - 1)];
        Ok(Spent {
            epsilon: epsilon.max(0.0),
            order,
            at_edge: edges.iter().any(|edge| (x - edge).abs() < 1e-4),
        })
    }

    fn add(&mut self, piece: Piece, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(run) = self.runs.iter_mut().find(|run| run.piece == piece) {
            run.count = run.count.saturating_add(count);
            return;
        }
        let grid = [const { OnceLock::new() }; GRID];
        self.runs.push(Run { piece, count, grid });
    }

    /// The sum of divergences at an order of the grid.
    fn rdp_on_grid(&self, i: usize) -> f64 {
        let one = |run: &Run| {
            let rdp = || run.piece.rdp(self.adjacency, order_at(grid_point(i)));
            run.count as f64 * run.grid[i].get_or_init(rdp)
        };
        self.runs.iter().map(one).sum()
    }

    /// Where on the grid the best order may be: that of the Gaussian in the limit.
    fn likely(&self, delta: Delta) -> usize {
        let precision = |run: &Run| {
            let one = match run.piece {
                Piece::Gaussian(step) | Piece::Fixed(step) => step.noise_multiplier.powi(-2),
                Piece::Laplace { scale, .. } => scale.powi(-2),
                Piece::Discrete { std_dev, bound, .. } => (bound / std_dev).powi(2),
            };
            let rate = run.piece.rate();
            let sampled = (rate * rate * one.min(500.0).exp_m1()).min(one);
            run.count as f64 * sampled
        };
        let mu = self.runs.iter().map(precision).sum::<f64>().sqrt();
        // Where the divergence bends upwards the best order comes sooner.
        let lambda = ((-2.0 * delta.get().ln()).sqrt() / mu).clamp(MIN_ORDER - 1.0, 30.0);
        let (low, high) = (grid_point(0), grid_point(GRID - 1));
        ((lambda.ln() - low) / (high - low) * (GRID - 1) as f64) as usize
    }

    /// The order of the grid with the smallest value, downhill from `start`: the value is
    /// quasi-convex in the order.
    fn best_on_grid(&self, value: impl Fn(usize, f64) -> f64, start: usize) -> usize {
        let at = |i: usize| value(i, self.rdp_on_grid(i));
        let mut best = (start.min(GRID - 1), at(start.min(GRID - 1)));
        for up in [false, true] {
            let mut moved = false;
            loop {
                let next = if up {
                    best.0 + 1
                } else {
                    best.0.wrapping_sub(1)
                };
                if next >= GRID {
                    break;
                }
                let here = at(next);
                // Also past infinities, towards smaller orders.
                if here < best.1 || (!up && !best.1.is_finite()) {
                    best = (next, here);
                    moved = true;
                } else {
                    break;
                }
            }
            if moved && !up {
                break;
            }
        }
        best.0
    }

    /// The smallest value near the best order of the grid, and the logarithm of that order less one.
    fn refined(
        &self,
        value: impl Fn(f64) -> f64,
        on_grid: impl Fn(usize, f64) -> f64,
        best: usize,
    ) -> (f64, f64) {
        let (low, high) = (best.saturating_sub(1), (best + 1).min(GRID - 1));
        let known = |i: usize| (grid_point(i), on_grid(i, self.rdp_on_grid(i)));
        let inner = minimize(
            &value,
            known(low),
            known(best),
            known(high),
            ORDER_TOLERANCE,
        );
        let mut least = known(best);
        if inner.1 < least.1 {
            least = inner;
        }
        // Between integer orders the bound without replacement is interpolated: it has corners there.
        if self
            .runs
            .iter()
            .any(|run| matches!(run.piece, Piece::Fixed(_)))
        {
            let x = (order_at(least.0).round() - 1.0).max(MIN_ORDER - 1.0).ln();
            let corner = (x, value(x));
            if corner.1 < least.1 {
                least = corner;
            }
        }
        least
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
        self.distance += flat.distance;
        for (piece, count) in flat.pieces {
            self.add(piece, count);
        }
        Ok(())
    }

    fn epsilon_at(&self, delta: Delta) -> Result<Answer, AccountError> {
        let spent = self.spent(delta)?;
        Ok(Answer {
            upper: Some(spent.epsilon),
            order: Some(spent.order),
            at_edge: spent.at_edge,
            ..Answer::default()
        })
    }

    fn delta_at(&self, epsilon: f64) -> Result<Answer, AccountError> {
        let upper = |delta: f64, order| Answer {
            upper: Some((1.0 + epsilon.exp()).mul_add(self.distance, delta).min(1.0)),
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
        let ln = |rdp: f64, x: f64| {
            let order = order_at(x);
            (order - 1.0) * (rdp - epsilon + (-1.0 / order).ln_1p()) - order.ln()
        };
        let on_grid = |i: usize, rdp: f64| ln(rdp, grid_point(i));
        let best = self.best_on_grid(on_grid, GRID / 2);
        let at = |x: f64| ln(self.rdp(order_at(x)), x);
        let (x, value) = self.refined(at, on_grid, best);
        if value.is_nan() {
            let (delta, order) = (f64::NAN, order_at(x));
            return Err(NotFinite { delta, order }.into());
        }
        Ok(upper(value.exp(), order_at(x)))
    }
}

/// Epsilon from a Renyi divergence at one order: Canonne, Kamath, Steinke 2020, Proposition 12.
pub(crate) fn convert(rdp: f64, order: f64, delta: f64) -> f64 {
    rdp + (-1.0 / order).ln_1p() - (delta.ln() + order.ln()) / (order - 1.0)
}
