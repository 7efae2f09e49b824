//! Keeping what was composed and bracketing its epsilon.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::accountant::{
    AccountError, Accountant, AccountantKind, Answer, Reason, Unsupported, at_distance,
};
use crate::event::DpEvent;
use crate::flat::{Flat, Piece, Step};
use crate::gaussian;
use crate::pld::bracket::{Bracket, widened};
use crate::pld::contour::{Composed, Contour, Part, Slice, WAYS, Way};
use crate::pld::grid::{Grid, Steps, at_the_end};
use crate::pld::largest::{LEAST, Largest};
use crate::pld::target::Target;
use crate::pld::{Direction, PldError, single, two};
use crate::quantity::{Adjacency, Delta};
use crate::rdp::RdpAccountant;

/// Where a bracket is wider than this, relatively and absolutely, the Renyi bound is asked as well.
const WIDEST: (f64, f64) = (1.01, 0.01);

/// Brackets wider than this part of one plus epsilon are tried in another way, or on a finer grid.
const FINE: (f64, f64) = (5e-5, 8e-5);

/// The grids that are tried: by how much the tilt is stretched, and how much finer they are made.
const GRIDS: [(f64, f64); 5] = [(1.0, 1.0), (0.8, 1.0), (0.6, 1.0), (1.0, 4.0), (0.8, 4.0)];

/// How many compositions are kept.
const KEPT: usize = 8;

/// The accountant that composes privacy-loss distributions (see [`crate::pld`]).
///
/// What was composed is kept: a further question near an earlier one, at another delta or epsilon,
/// costs a few sums.
#[derive(Debug)]
pub struct PldAccountant {
    adjacency: Adjacency,
    /// Everything but unsampled Gaussians.
    pieces: Vec<(Piece, u64)>,
    /// Sum of `1 / z^2` of the unsampled ones, at a sensitivity of one clip bound.
    precision: f64,
    unprotected: bool,
    /// See [`crate::RdpAccountant::distance`].
    distance: f64,
    kept: Mutex<Vec<Kept>>,
}

/// A way to compose that answers questions nearby.
#[derive(Debug)]
enum Composition {
    Contour(Contour),
    Largest(Largest),
    Grid(Grid),
}

impl Composition {
    const fn tilt(&self) -> f64 {
        match self {
            Self::Contour(contour) => contour.tilt,
            Self::Largest(largest) => largest.tilt,
            Self::Grid(grid) => grid.tilt,
        }
    }

    fn epsilons(&self, ln_delta: f64) -> Option<[f64; 3]> {
        match self {
            Self::Contour(contour) => contour.epsilons(ln_delta),
            Self::Largest(largest) => largest.epsilons(ln_delta),
            Self::Grid(grid) => grid.epsilons(ln_delta),
        }
    }

    fn deltas(&self, epsilon: f64) -> Option<[f64; 3]> {
        match self {
            Self::Contour(contour) => contour.deltas(epsilon),
            Self::Largest(largest) => largest.deltas(epsilon),
            Self::Grid(grid) => grid.deltas(epsilon),
        }
    }

    /// How sharp an answer has to be.
    const fn fine(&self) -> f64 {
        match self {
            Self::Grid(_) => FINE.1,
            _ => FINE.0,
        }
    }

    /// The answer to a target, and whether it is sharp.
    fn answer(&self, target: Target) -> Option<([f64; 3], bool)> {
        let (found, sharp) = match target {
            Target::LnDelta(ln) => {
                let found = self.epsilons(ln)?;
                (found, found[2] - found[0] <= self.fine() * (1.0 + found[2]))
            }
            Target::Epsilon(epsilon) => {
                let found = self.deltas(epsilon)?;
                let width = (found[2] / found[0]).ln();
                (
                    found,
                    width <= self.fine() * (1.0 + epsilon) * (1.0 + self.tilt()),
                )
            }
        };
        Some((found, sharp || matches!(self, Self::Contour(_))))
    }
}

/// A composition and the target that it was made for.
#[derive(Debug, Clone)]
struct Kept {
    direction: Direction,
    target: Target,
    composition: Arc<Composition>,
}

impl Clone for PldAccountant {
    fn clone(&self) -> Self {
        Self {
            pieces: self.pieces.clone(),
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
            pieces: Vec::new(),
            precision: 0.0,
            unprotected: false,
            distance: 0.0,
            kept: Mutex::new(Vec::new()),
        }
    }

    /// Adds `count` runs of `event`.
    ///
    /// # Errors
    /// [`Unsupported`] names the sub-event that cannot be priced; nothing is added then.
    pub fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        let flat = Flat::checked(self.adjacency, event, count, |piece| match piece {
            Piece::Fixed(_) => Some(Reason::FixedSizeLoss),
            Piece::Discrete { single: false, .. } => Some(Reason::CoarseGrid),
            _ => None,
        })?;
        self.unprotected |= flat.unprotected;
        self.distance += flat.distance;
        self.kept().clear();
        for (piece, count) in flat.pieces {
            match piece {
                Piece::Gaussian(step) if step.rate >= 1.0 => {
                    let z = step.noise_multiplier;
                    self.precision += count as f64 / (z * z);
                }
                _ => {
                    if let Some(known) = self.pieces.iter_mut().find(|(p, _)| *p == piece) {
                        known.1 = known.1.saturating_add(count);
                    } else {
                        self.pieces.push((piece, count));
                    }
                }
            }
        }
        Ok(())
    }

    /// Epsilon at `delta` for all that was composed, from both sides.
    ///
    /// # Errors
    /// [`AccountError`] where double precision cannot deliver, or where batches cut to a capacity use
    /// up delta.
    pub fn bracket(&self, delta: Delta) -> Result<Bracket, AccountError> {
        let mut bracket = at_distance(delta, self.distance, |d| self.ideal(d), |b| b.upper)?;
        if self.distance > 0.0 && bracket.upper.is_finite() {
            // The real run may be as much better.
            let charged = (1.0 + bracket.upper.exp()) * self.distance;
            bracket.lower = match Delta::new((delta.get() + charged) * (1.0 + 1e-15)) {
                Ok(delta) => self.ideal(delta)?.lower,
                Err(_) => 0.0,
            };
        }
        Ok(bracket)
    }

    /// The bracket of the run that is accounted: of the composed loss where that is sharp, else also of
    /// the Renyi bound and of what one step alone costs.
    fn ideal(&self, delta: Delta) -> Result<Bracket, AccountError> {
        if self.unprotected {
            return Ok(Bracket::exact(f64::INFINITY));
        }
        if self.pieces.is_empty() {
            let epsilon = gaussian::epsilon(self.distance_apart(), delta);
            return Ok(Bracket {
                lower: epsilon * (1.0 - 2e-12),
                ..Bracket::exact(epsilon)
            });
        }
        if let Some(bracket) = self.added_up(delta) {
            return Ok(bracket);
        }
        let loss = self.loss(delta);
        if let Ok(bracket) = loss
            && bracket.upper <= WIDEST.0 * bracket.lower + WIDEST.1
        {
            return Ok(bracket);
        }
        let renyi = self.renyi().ideal(delta).map_err(AccountError::from);
        let (mut bracket, renyi) = match (loss, renyi) {
            (Ok(loss), Ok(renyi)) => (loss, renyi),
            (Err(_), Ok(renyi)) => (
                Bracket {
                    lower: 0.0,
                    ..Bracket::exact(renyi.epsilon)
                },
                renyi,
            ),
            (Err(error), Err(_)) => return Err(error.into()),
            (Ok(_), Err(error)) => return Err(error),
        };
        if renyi.epsilon <= bracket.upper {
            (bracket.upper, bracket.order) = (renyi.epsilon, renyi.order);
        }
        bracket.lower = bracket
            .lower
            .max(self.one_step_alone(delta))
            .min(bracket.upper);
        bracket.estimate = bracket.estimate.clamp(bracket.lower, bracket.upper);
        Ok(bracket)
    }

    /// The Renyi accountant of the same run.
    fn renyi(&self) -> RdpAccountant {
        let z = self.precision.sqrt().recip();
        let unsampled = Piece::Gaussian(Step {
            rate: 1.0,
            noise_multiplier: z * (1.0 - 1e-15),
        });
        let unsampled = (self.precision > 0.0).then_some((unsampled, 1));
        RdpAccountant::of(self.adjacency, self.pieces.iter().copied().chain(unsampled))
    }

    /// What the dearest sampled Gaussian step costs alone: more is never cheaper.
    fn one_step_alone(&self, delta: Delta) -> f64 {
        let steps = self.gaussians().unwrap_or_default();
        let ln_delta = delta.get().ln();
        let alone = steps.iter().map(|(step, _)| {
            let epsilon = single::epsilon_of(*step, Direction::Remove, ln_delta);
            widened([epsilon; 3], f64::INFINITY).lower
        });
        alone.fold(0.0, f64::max)
    }

    /// The sum of what the steps cost alone, each with its share of delta, where that is next to nothing.
    fn added_up(&self, delta: Delta) -> Option<Bracket> {
        let steps = self.gaussians()?;
        if self.precision > 0.0 {
            return None;
        }
        let total: f64 = steps.iter().map(|(_, count)| *count as f64).sum();
        let ln_share = delta.get().ln() - total.ln();
        let sum = |direction| -> f64 {
            let one = |(step, count): &(Step, u64)| {
                *count as f64 * single::epsilon_of(*step, direction, ln_share)
            };
            steps.iter().map(one).sum()
        };
        let upper = sum(Direction::Remove);
        // Removing costs more nearly always, but not by a theorem.
        if upper > LEAST || total < 2.0 {
            return None;
        }
        let upper = upper.max(sum(Direction::Add));
        let lower = self.one_step_alone(delta);
        (upper <= LEAST).then(|| Bracket {
            lower,
            ..widened([lower, upper, upper], f64::INFINITY)
        })
    }

    /// The bracket of the composed loss alone.
    fn loss(&self, delta: Delta) -> Result<Bracket, PldError> {
        let mut worst: Option<Bracket> = None;
        let steps = Steps::new(&self.pieces, self.precision_apart());
        for direction in self.directions() {
            let bound = steps.bound(*direction);
            if bound
                .zip(worst)
                .is_some_and(|(bound, worst)| bound <= worst.upper)
            {
                continue;
            }
            // At low rates the other direction is far below.
            let below = |worst: Bracket| {
                worst.upper < 1.0 && self.is_within(*direction, worst.upper, delta.get().ln())
            };
            if worst.is_some_and(below) {
                continue;
            }
            let here = match (self.one_direction(*direction, &steps, delta), bound) {
                (Err(_), Some(bound)) => {
                    let bound = bound.min(self.within(*direction, delta.get().ln()));
                    widened([0.0, bound, bound], f64::INFINITY)
                }
                (here, _) => here?,
            };
            worst = Some(worst.map_or(here, |worst| Bracket {
                lower: worst.lower.max(here.lower),
                estimate: worst.estimate.max(here.estimate),
                ..if here.upper > worst.upper {
                    here
                } else {
                    worst
                }
            }));
        }
        let mut worst = worst.ok_or(PldError::Precision)?;
        worst.estimate = worst.estimate.min(worst.upper);
        Ok(worst)
    }

    /// The pairs to be looked at: both directions, or the one of a replacement; without sampling they
    /// are mirror images.
    fn directions(&self) -> &'static [Direction] {
        match self.adjacency {
            Adjacency::ReplaceOne => &[Direction::Replace],
            Adjacency::AddRemove if self.pieces.iter().all(|(p, _)| p.rate() >= 1.0) => {
                &[Direction::Add]
            }
            Adjacency::AddRemove => &[Direction::Remove, Direction::Add],
        }
    }

    /// The distance of the unsampled releases together, in standard deviations.
    fn distance_apart(&self) -> f64 {
        let sensitivity = match self.adjacency {
            Adjacency::AddRemove => 1.0,
            Adjacency::ReplaceOne => 2.0,
        };
        sensitivity * self.precision.sqrt()
    }

    /// The steps that the contour takes, if it takes all of them.
    fn gaussians(&self) -> Option<Vec<(Step, u64)>> {
        if self.adjacency == Adjacency::ReplaceOne {
            return None;
        }
        let step = |(piece, count): &(Piece, u64)| match piece {
            Piece::Gaussian(step) => Some((*step, *count)),
            _ => None,
        };
        self.pieces.iter().map(step).collect()
    }

    /// The same as parts of themselves.
    fn whole_steps(&self) -> Option<Vec<(Slice, u64)>> {
        let part = Part::WHOLE;
        let whole = |(step, count)| (Slice { step, part }, count);
        Some(self.gaussians()?.into_iter().map(whole).collect())
    }

    /// The distance of a single unsampled Laplace release, in scales: it has a closed form, too.
    fn laplace_alone(&self) -> Option<f64> {
        match self.pieces[..] {
            [(Piece::Laplace { rate: 1.0, scale }, 1)] if self.precision == 0.0 => {
                let distance = match self.adjacency {
                    Adjacency::AddRemove => 1.0,
                    Adjacency::ReplaceOne => 2.0,
                };
                Some(distance / scale)
            }
            _ => None,
        }
    }

    /// The single sampled Gaussian under add-or-remove, which has a closed form.
    fn alone(&self) -> Option<Step> {
        match (&self.gaussians()?[..], self.precision) {
            ([(step, 1)], 0.0) => Some(*step),
            _ => None,
        }
    }

    /// Two sampled Gaussians under add-or-remove and nothing else.
    fn two(&self) -> Option<[Step; 2]> {
        match (&self.gaussians()?[..], self.precision) {
            ([(step, 2)], 0.0) => Some([*step; 2]),
            ([(first, 1), (second, 1)], 0.0) => Some([*first, *second]),
            _ => None,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        // A panic elsewhere leaves a list of whole compositions.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One direction's bracket on epsilon: by the closed form, by inversion or on a grid.
    fn one_direction(
        &self,
        direction: Direction,
        steps: &Steps,
        delta: Delta,
    ) -> Result<Bracket, PldError> {
        let ln_delta = delta.get().ln();
        if let Some(step) = self.alone() {
            let epsilon = single::epsilon_of(step, direction, ln_delta);
            return Ok(widened([epsilon; 3], f64::INFINITY));
        }
        if let Some(distance) = self.laplace_alone() {
            // delta(epsilon) = 1 - e^((epsilon - distance) / 2)
            let epsilon = 2.0f64.mul_add((-delta.get()).ln_1p(), distance).max(0.0);
            return Ok(widened([epsilon; 3], f64::INFINITY));
        }
        let end = steps.largest(direction);
        if let Some(found) = end.and_then(|end| at_the_end(end, ln_delta)) {
            return Ok(widened(found, f64::INFINITY));
        }
        let (mut epsilons, tilt) = self.ask(direction, steps, Target::LnDelta(ln_delta))?;
        if let Some(bound) = steps.bound(direction) {
            epsilons = epsilons.map(|epsilon| epsilon.min(bound));
        }
        let wide = epsilons[2] - epsilons[0] > FINE.1 * (1.0 + epsilons[2]);
        if let (true, Some(two)) = (wide, self.two()) {
            epsilons = two::narrowed(two, direction, ln_delta, epsilons);
        }
        Ok(widened(epsilons, tilt + 1.0))
    }

    /// The square of the distance of the unsampled Gaussians.
    fn precision_apart(&self) -> f64 {
        self.distance_apart().powi(2)
    }

    /// Asks a composition that was made for a target nearby, or makes one: first along the contour,
    /// which is faster, then on ever finer grids.
    fn ask(
        &self,
        direction: Direction,
        steps: &Steps,
        target: Target,
    ) -> Result<([f64; 3], f64), PldError> {
        let known = self.kept().clone();
        for kept in &known {
            if kept.direction == direction
                && kept.target.is_near(target)
                && let Some((found, true)) = kept.composition.answer(target)
            {
                return Ok((found, kept.composition.tilt()));
            }
        }
        let keep = |composition: Composition| {
            let mut all = self.kept();
            if all.len() == KEPT {
                all.remove(0);
            }
            all.push(Kept {
                direction,
                target,
                composition: Arc::new(composition),
            });
        };
        let (first, others) = WAYS.split_at(1);
        let found = self.along(direction, target, first);
        if found.is_none()
            && let Target::LnDelta(ln) = target
            && self.is_within(direction, LEAST, ln)
        {
            return Ok(([0.0, 0.0, LEAST], f64::INFINITY));
        }
        let found = found.or_else(|| self.by_largest(direction, target));
        let found = found.or_else(|| self.along(direction, target, others));
        if let Some((found, composition)) = found {
            let tilt = composition.tilt();
            keep(composition);
            return Ok((found, tilt));
        }
        let mut result = Err(PldError::Precision);
        let mut width = f64::INFINITY;
        for (stretch, finer) in GRIDS {
            match Grid::new(steps, direction, target, (stretch, finer)) {
                Ok(Some(grid)) => {
                    let grid = Composition::Grid(grid);
                    let Some((found, sharp)) = grid.answer(target) else {
                        continue;
                    };
                    if found[2] - found[0] < width {
                        width = found[2] - found[0];
                        result = Ok((found, grid.tilt()));
                        keep(grid);
                    }
                    if sharp {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => result = result.or(Err(error)),
            }
        }
        result
    }

    /// The answer of the first of the ways along the contour that has one.
    fn along(
        &self,
        direction: Direction,
        target: Target,
        ways: &[Way],
    ) -> Option<([f64; 3], Composition)> {
        let steps = self.whole_steps()?;
        let composed = Composed {
            steps: &steps,
            precision: self.precision,
        };
        ways.iter().find_map(|way| {
            let contour = Contour::new(composed, direction, target, *way).ok()?;
            let composition = Composition::Contour(contour);
            let (found, _) = composition.answer(target)?;
            Some((found, composition))
        })
    }

    /// Whether Chernoff's inequality alone shows that `epsilon` is enough in this direction.
    fn is_within(&self, direction: Direction, epsilon: f64, ln_delta: f64) -> bool {
        let Some(steps) = self.whole_steps() else {
            return false;
        };
        let composed = Composed {
            steps: &steps,
            precision: self.precision,
        };
        composed.ln_chernoff(direction, epsilon, 2.0 / epsilon).0 < ln_delta
    }

    /// An epsilon that is enough by Chernoff's inequality alone, up to a twentieth; infinite where none
    /// below one is.
    fn within(&self, direction: Direction, ln_delta: f64) -> f64 {
        let mut epsilon = LEAST;
        while epsilon < 1.0 {
            if self.is_within(direction, epsilon, ln_delta) {
                return epsilon;
            }
            epsilon *= 1.05;
        }
        f64::INFINITY
    }

    /// The sharp answer by the number of large losses, if there is one.
    fn by_largest(&self, direction: Direction, target: Target) -> Option<([f64; 3], Composition)> {
        if direction != Direction::Remove {
            return None;
        }
        let composition = |largest: Largest| Composition::Largest(largest);
        let sharp = |largest: &Largest| {
            let (found, sharp) = composition(largest.clone()).answer(target)?;
            let epsilon = match target {
                Target::LnDelta(_) => found[2],
                Target::Epsilon(epsilon) => epsilon,
            };
            Some((epsilon, sharp))
        };
        let largest = Largest::new(&self.gaussians()?, self.precision, target, sharp).ok()?;
        let composition = composition(largest);
        let (found, sharp) = composition.answer(target)?;
        sharp.then_some((found, composition))
    }

    /// Delta at `epsilon` for all that was composed: from below, an estimate, and from above.
    ///
    /// # Errors
    /// [`PldError`] where double precision cannot deliver.
    pub fn delta_bracket(&self, epsilon: f64) -> Result<[f64; 3], PldError> {
        let epsilon = epsilon.max(0.0);
        let [lower, estimate, upper] = self.ideal_delta(epsilon)?;
        if self.distance > 0.0 {
            let charged = (1.0 + epsilon.exp()) * self.distance;
            return Ok([
                (lower - charged).max(0.0),
                estimate,
                (upper + charged).min(1.0),
            ]);
        }
        Ok([lower, estimate, upper])
    }

    fn ideal_delta(&self, epsilon: f64) -> Result<[f64; 3], PldError> {
        if self.unprotected {
            return Ok([1.0; 3]);
        }
        if self.pieces.is_empty() {
            let mu = self.distance_apart();
            let delta = if mu > 0.0 {
                gaussian::ln_delta(mu, epsilon).exp()
            } else {
                0.0
            };
            return Ok([delta; 3]);
        }
        let mut worst = [0.0f64; 3];
        if let Some(distance) = self.laplace_alone() {
            let delta = -(0.5 * (epsilon - distance)).min(0.0).exp_m1();
            return Ok([delta * (1.0 - 1e-14), delta, delta * (1.0 + 1e-14)]);
        }
        let steps = Steps::new(&self.pieces, self.precision_apart());
        for direction in self.directions() {
            let bound = steps.bound(*direction);
            let deltas = if let Some(step) = self.alone() {
                let delta = single::ln_delta_of(step, *direction, epsilon).exp();
                [delta * (1.0 - 1e-9), delta, delta * (1.0 + 1e-9)]
            } else if bound.is_some_and(|bound| epsilon >= bound) {
                [0.0; 3]
            } else {
                match (
                    self.ask(*direction, &steps, Target::Epsilon(epsilon)),
                    bound,
                ) {
                    (Err(_), Some(bound)) => {
                        // No loss is above its bound.
                        let most = -(epsilon - bound).exp_m1();
                        [0.0, most, most]
                    }
                    (asked, _) => asked?.0,
                }
            };
            for (worst, delta) in worst.iter_mut().zip(deltas) {
                *worst = worst.max(delta);
            }
        }
        Ok(worst)
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
