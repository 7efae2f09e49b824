//! Keeping what was composed and bracketing its epsilon.

use crate::accountant::{AccountError, Accountant, AccountantKind, Answer, Reason, Unsupported};
use crate::event::DpEvent;
use crate::gaussian;
use crate::pld::PldError;
use crate::pld::compose::Profile;
use crate::pld::plan::{Plan, plan};
use crate::pld::step::{Cut, Direction, Grid};
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

/// How much of delta may be spent on what is cut off, as a logarithm.
const LN_CUT: f64 = -18.42;

/// By how much, relative to one plus epsilon, the upper bound may exceed the estimate before the grid
/// is refined.
const EXCESS: f64 = 2e-5;

/// Multiples of the saddle point's tilt that are tried where it fails.
const STRETCHES: [f64; 5] = [1.5, 0.6, 2.2, 3.5, 6.0];

/// How much coarser the grid of the direction is that is expected to be the smaller.
const COARSE: f64 = 8.0;

/// The accountant that composes privacy-loss distributions (see [`crate::pld`]).
#[derive(Debug, Clone)]
pub struct PldAccountant {
    adjacency: Adjacency,
    /// Sampled steps.
    steps: Vec<(Step, u64)>,
    /// Sum of `1 / z^2` of the unsampled ones, at a sensitivity of one clip bound.
    precision: f64,
    unprotected: bool,
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
            let distance = match self.adjacency {
                Adjacency::AddRemove => 1.0,
                Adjacency::ReplaceOne => 2.0,
            };
            let epsilon = gaussian::epsilon(distance * self.precision.sqrt(), delta);
            return Ok(Bracket::exact(epsilon));
        }
        let cuts = self.cuts(delta)?;
        let remove = one_side(&cuts, Direction::Remove, delta)?;
        let rough =
            Side::new(&cuts, Direction::Add, delta, COARSE, 1.0).and_then(|side| side.upper(delta));
        if rough.is_ok_and(|(upper, _)| upper <= remove.upper) {
            return Ok(remove);
        }
        let add = one_side(&cuts, Direction::Add, delta)?;
        let larger = if add.upper > remove.upper {
            add
        } else {
            remove
        };
        Ok(Bracket {
            lower: add.lower.max(remove.lower),
            estimate: add.estimate.max(remove.estimate).min(larger.upper),
            ..larger
        })
    }

    /// All kinds of steps, cut where their tails are negligible against `delta`.
    fn cuts(&self, delta: Delta) -> Result<Vec<(Cut, u64)>, PldError> {
        let mut steps = self.steps.clone();
        if self.precision > 0.0 {
            let noise_multiplier = self.precision.sqrt().recip() * (1.0 - 1e-15);
            let whole = Step {
                rate: 1.0,
                noise_multiplier,
            };
            steps.push((whole, 1));
        }
        let count: f64 = steps.iter().map(|(_, count)| *count as f64).sum();
        let ln_tail = delta.get().ln() + LN_CUT - count.ln();
        if ln_tail < -680.0 {
            return Err(PldError::Precision);
        }
        steps
            .into_iter()
            .map(|(step, count)| Ok((Cut::new(step, ln_tail)?, count)))
            .collect()
    }
}

/// One direction's bracket, on a grid that is refined until it is narrow enough.
fn one_side(cuts: &[(Cut, u64)], direction: Direction, delta: Delta) -> Result<Bracket, PldError> {
    let mut coarser = 1.0;
    let mut stretches = STRETCHES.into_iter();
    let mut stretch = 1.0;
    let mut best = None;
    loop {
        match Side::new(cuts, direction, delta, coarser, stretch).and_then(|s| s.bracket(delta)) {
            Ok(bracket) => {
                let excess = bracket.upper - bracket.estimate;
                if excess <= EXCESS * (1.0 + bracket.estimate) || coarser < 0.1 {
                    return Ok(bracket);
                }
                best = Some(bracket);
                coarser *= 0.5;
            }
            Err(error) if best.is_some() => return best.ok_or(error),
            // With few steps of two very different outcomes the saddle point may be far off.
            Err(PldError::Precision) => stretch = stretches.next().ok_or(PldError::Precision)?,
            Err(other) => return Err(other),
        }
    }
}

/// The discretised steps of one direction.
struct Side {
    plan: Plan,
    above: Vec<(Grid, u64)>,
    below: Vec<(Grid, u64)>,
    cut_off: f64,
    shift: f64,
}

impl Side {
    fn new(
        cuts: &[(Cut, u64)],
        direction: Direction,
        delta: Delta,
        coarser: f64,
        stretch: f64,
    ) -> Result<Self, PldError> {
        let mut side = Self {
            plan: plan(cuts, direction, delta.get().ln(), coarser, stretch)?,
            above: Vec::new(),
            below: Vec::new(),
            cut_off: 0.0,
            shift: 0.0,
        };
        for (cut, count) in cuts {
            let pair = cut.discretise(direction, side.plan.h, side.plan.tilt)?;
            side.cut_off += cut.tail * *count as f64;
            side.shift += pair.shift * *count as f64;
            side.above.push((pair.above, *count));
            side.below.push((pair.below, *count));
        }
        Ok(side)
    }

    /// The upper bound, and how much of it the grid added: delta grows with the composed moment
    /// and falls by the tilt per unit of epsilon.
    fn upper(&self, delta: Delta) -> Result<(f64, f64), PldError> {
        let plan = &self.plan;
        let profile = Profile::compose(&self.above, plan, plan.h, plan.first, plan.len)?;
        let excess = (profile.ln_moment - plan.ln_moment) / plan.tilt;
        Ok((profile.epsilon(delta.get() - self.cut_off, 1.0)?, excess))
    }

    /// The epsilon of the merged steps, before their shift is taken off.
    fn merged(&self, delta: Delta) -> Result<f64, PldError> {
        let plan = &self.plan;
        let (h, first, len) = (2.0 * plan.h, plan.first / 2, plan.len / 2);
        Profile::compose(&self.below, plan, h, first, len)?.epsilon(delta.get(), -1.0)
    }

    fn bracket(&self, delta: Delta) -> Result<Bracket, PldError> {
        let (upper, excess) = self.upper(delta)?;
        // Where the grid is too coarse for the lower side, zero is always a lower bound.
        let merged = self.merged(delta).unwrap_or(0.0);
        let lower = (merged - self.shift).clamp(0.0, upper);
        let estimate = (upper - excess).clamp(lower, upper);
        Ok(Bracket {
            lower,
            estimate,
            upper,
            order: self.plan.tilt + 1.0,
        })
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

    fn delta_at(&self, _epsilon: f64) -> Result<Answer, AccountError> {
        Err(PldError::Precision.into())
    }
}
