//! Keeping what was composed and bracketing its epsilon.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::accountant::{AccountError, Accountant, AccountantKind, Answer, Reason, Unsupported};
use crate::event::DpEvent;
use crate::gaussian;
use crate::pld::contour::{Composed, Contour, Target, WAYS};
use crate::pld::{Direction, PldError, single};
use crate::quantity::{Adjacency, Delta};
use crate::rdp::{Flat, Step};

/// An epsilon from both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bracket {
    /// No smaller epsilon holds for the worst pair of neighbouring outputs.
    pub lower: f64,
    /// The upper bound less what the grid added to it, to first order; not a bound.
    pub estimate: f64,
    /// The bound to be relied on.
    pub upper: f64,
    /// The Renyi order, one more than the tilt, at which the upper bound was composed; infinite
    /// where no grid was needed.
    pub order: f64,
}

impl Bracket {
    const fn exact(epsilon: f64) -> Self {
        Self {
            lower: epsilon,
            estimate: epsilon,
            upper: epsilon,
            order: f64::INFINITY,
        }
    }
}

/// Both bounds are moved outwards by this much, relatively and absolutely: far above what is known
/// to be uncertain, for what the proof does not model (the last bits of library functions).
const MARGIN: (f64, f64) = (2e-6, 5e-7);

/// Brackets wider than this, relatively and absolutely, are refused.
const WIDEST: (f64, f64) = (1.01, 0.01);

/// How many compositions are kept.
const KEPT: usize = 8;

/// The accountant that composes privacy-loss distributions (see [`crate::pld`]).
///
/// What was composed is kept: a further question near an earlier one, at another delta or epsilon,
/// costs a few sums.
#[derive(Debug)]
pub struct PldAccountant {
    adjacency: Adjacency,
    /// Sampled steps.
    steps: Vec<(Step, u64)>,
    /// Sum of `1 / z^2` of the unsampled ones, at a sensitivity of one clip bound.
    precision: f64,
    unprotected: bool,
    kept: Mutex<Vec<Kept>>,
}

/// A composition and the target that it was made for.
#[derive(Debug, Clone)]
struct Kept {
    direction: Direction,
    target: Target,
    contour: Arc<Contour>,
}

impl Clone for PldAccountant {
    fn clone(&self) -> Self {
        Self {
            steps: self.steps.clone(),
            kept: Mutex::new(self.kept().clone()),
            ..*self
        }
    }
}

impl PldAccountant {
    /// An accountant that has seen nothing.
    #[must_use]
    pub const fn new(adjacency: Adjacency) -> Self {
        Self {
            adjacency,
            steps: Vec::new(),
            precision: 0.0,
            unprotected: false,
            kept: Mutex::new(Vec::new()),
        }
    }

    /// Adds `count` runs of `event`.
    ///
    /// # Errors
    /// [`Unsupported`] names the sub-event that cannot be priced; nothing is added then.
    pub fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        let flat = Flat::new(self.adjacency, event, count)?;
        if self.adjacency == Adjacency::ReplaceOne && flat.steps.iter().any(|(s, _)| s.rate < 1.0) {
            return flat.refuse(event, Reason::SampledReplaceOne);
        }
        self.unprotected |= flat.unprotected;
        self.kept().clear();
        for (step, count) in flat.steps {
            if step.rate >= 1.0 {
                self.precision += count as f64 / (step.noise_multiplier * step.noise_multiplier);
            } else if let Some(known) = self.steps.iter_mut().find(|(s, _)| *s == step) {
                known.1 = known.1.saturating_add(count);
            } else {
                self.steps.push((step, count));
            }
        }
        Ok(())
    }

    /// Epsilon at `delta` for all that was composed, from both sides.
    ///
    /// # Errors
    /// [`PldError`] where double precision cannot deliver.
    pub fn bracket(&self, delta: Delta) -> Result<Bracket, PldError> {
        if self.unprotected {
            return Ok(Bracket::exact(f64::INFINITY));
        }
        if self.steps.is_empty() {
            let epsilon = gaussian::epsilon(self.distance(), delta);
            return Ok(Bracket {
                lower: epsilon * (1.0 - 2e-12),
                ..Bracket::exact(epsilon)
            });
        }
        let remove = self.one_direction(Direction::Remove, delta)?;
        let add = self.one_direction(Direction::Add, delta)?;
        let larger = if add.upper > remove.upper {
            add
        } else {
            remove
        };
        let lower = add.lower.max(remove.lower);
        // A bracket this wide means that rounding, not privacy, decides the upper end.
        if larger.upper > WIDEST.0 * lower + WIDEST.1 {
            return Err(PldError::Precision);
        }
        Ok(Bracket {
            lower,
            estimate: add.estimate.max(remove.estimate).min(larger.upper),
            ..larger
        })
    }

    /// The distance of the unsampled releases together, in standard deviations.
    fn distance(&self) -> f64 {
        let sensitivity = match self.adjacency {
            Adjacency::AddRemove => 1.0,
            Adjacency::ReplaceOne => 2.0,
        };
        sensitivity * self.precision.sqrt()
    }

    fn composed(&self) -> Composed<'_> {
        Composed {
            steps: &self.steps,
            precision: self.precision,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        // A panic elsewhere leaves a list of whole compositions.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One direction's bracket on epsilon: by the closed form or by inversion.
    fn one_direction(&self, direction: Direction, delta: Delta) -> Result<Bracket, PldError> {
        let ln_delta = delta.get().ln();
        if let ([(step, 1)], 0.0) = (&self.steps[..], self.precision) {
            let epsilon = single::epsilon_of(*step, direction, ln_delta);
            return Ok(widened([epsilon; 3], f64::INFINITY));
        }
        let target = Target::LnDelta(ln_delta);
        let (epsilons, tilt) = self.ask(direction, target, |c| c.epsilons(ln_delta))?;
        Ok(widened(epsilons, tilt + 1.0))
    }

    /// Asks a composition that was made for a target nearby, or makes one.
    fn ask(
        &self,
        direction: Direction,
        target: Target,
        answer: impl Fn(&Contour) -> Option<[f64; 3]>,
    ) -> Result<([f64; 3], f64), PldError> {
        let known = self.kept().clone();
        for kept in &known {
            if kept.direction == direction
                && kept.target.is_near(target)
                && let Some(found) = answer(&kept.contour)
            {
                return Ok((found, kept.contour.tilt));
            }
        }
        let mut failure = PldError::Precision;
        for way in WAYS {
            let contour = match Contour::new(self.composed(), direction, target, way) {
                Ok(contour) => Arc::new(contour),
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            let tilt = contour.tilt;
            if let Some(found) = answer(&contour) {
                let mut all = self.kept();
                if all.len() == KEPT {
                    all.remove(0);
                }
                all.push(Kept {
                    direction,
                    target,
                    contour,
                });
                return Ok((found, tilt));
            }
        }
        Err(failure)
    }

    /// Delta at `epsilon` for all that was composed: from below, an estimate, and from above.
    ///
    /// # Errors
    /// [`PldError`] where double precision cannot deliver.
    pub fn delta_bracket(&self, epsilon: f64) -> Result<[f64; 3], PldError> {
        if self.unprotected {
            return Ok([1.0; 3]);
        }
        let epsilon = epsilon.max(0.0);
        if self.steps.is_empty() {
            let mu = self.distance();
            let delta = if mu > 0.0 {
                gaussian::ln_delta(mu, epsilon).exp()
            } else {
                0.0
            };
            return Ok([delta; 3]);
        }
        let mut worst = [0.0f64; 3];
        for direction in [Direction::Remove, Direction::Add] {
            let deltas = if let ([(step, 1)], 0.0) = (&self.steps[..], self.precision) {
                let delta = single::ln_delta_of(*step, direction, epsilon).exp();
                [delta * (1.0 - 1e-9), delta, delta * (1.0 + 1e-9)]
            } else {
                let target = Target::Epsilon(epsilon);
                self.ask(direction, target, |c| c.deltas(epsilon))?.0
            };
            for (worst, delta) in worst.iter_mut().zip(deltas) {
                *worst = worst.max(delta);
            }
        }
        Ok(worst)
    }
}

/// A bracket with the margin added.
fn widened([lower, estimate, upper]: [f64; 3], order: f64) -> Bracket {
    let (relative, absolute) = MARGIN;
    Bracket {
        lower: (lower * (1.0 - relative) - absolute).max(0.0),
        estimate,
        upper: if upper > 0.0 {
            upper.mul_add(1.0 + relative, absolute)
        } else {
            0.0
        },
        order,
    }
}

impl Accountant for PldAccountant {
    fn kind(&self) -> AccountantKind {
        AccountantKind::Pld
    }

    fn adjacency(&self) -> Adjacency {
        self.adjacency
    }

    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        Self::compose(self, event, count)
    }

    fn epsilon_at(&self, delta: Delta) -> Result<Answer, AccountError> {
        let bracket = self.bracket(delta)?;
        Ok(Answer {
            lower: Some(bracket.lower),
            estimate: Some(bracket.estimate),
            upper: Some(bracket.upper),
            order: Some(bracket.order).filter(|order| order.is_finite()),
            at_edge: false,
        })
    }

    fn delta_at(&self, epsilon: f64) -> Result<Answer, AccountError> {
        let [lower, estimate, upper] = self.delta_bracket(epsilon)?;
        Ok(Answer {
            lower: Some(lower),
            estimate: Some(estimate),
            upper: Some(upper),
            ..Answer::default()
        })
    }
}
