//! The privacy profile by the number of large losses: for rare large losses among many tiny ones.
//!
//! At low rates and small deltas one step's loss falls more slowly than any exponential: the chance of
//! a loss of epsilon is tiny, but no tilt makes it likely without making a far larger one likelier
//! still. So every output of every step is called high or low, by an independent coin whose bias rises
//! smoothly with the output around a cut, and the profile is taken apart by the number of steps
//! with high outputs. Low outputs have bounded losses, and high ones are so rare that two or three
//! suffice; outputs that are higher still hardly ever happen at all. Each part is inverted along its own line ([`super::contour`]), and what is left is bounded
//! by its probability. The proof is in [`crate::pld`].

use super::contour::{Composed, Contour, Part, Slice, Way};
use super::target::Target;
use super::{Direction, PldError, single};
use crate::flat::Step;
use crate::gaussian::{self, ln_above};
use crate::pld::outcomes::{ln_mixture, unmixed};
use crate::quantity::Delta;
use crate::special::{LogSum, ln_choose, ln_factorial, search};

/// What is only bounded, not computed, may be this much of delta.
const BOUNDED: f64 = 3e-7;

/// The most steps with high outputs that are told apart.
const MOST_HIGH: usize = 10;

/// The most parts.
const MOST_PARTS: usize = 24;

/// The width of the cut, against the scale on which the density of an output and its loss vary.
const WIDTH: f64 = 0.1;

/// How often the cut is moved to the epsilon that was found.
const TRIES: usize = 6;

/// Steps of several kinds by which of them have high outputs.
#[derive(Debug, Clone)]
pub(super) struct Largest {
    /// Logarithm of the number of choices, and the part of the profile for one of them.
    parts: Vec<(f64, Contour)>,
    /// Logarithms of Chernoff's bounds at epsilon zero, with their tilts.
    negligible: Vec<(f64, f64)>,
    /// Logarithm of the probability of everything else.
    ln_rest: f64,
    /// The epsilon that this was made for.
    middle: f64,
    /// How fast `ln delta` falls there.
    pub(super) tilt: f64,
}

/// Nothing below this loss is resolved.
pub(super) const LEAST: f64 = 3e-5;

/// Losses beyond this are so far apart that a single tilt is good.
const LARGEST: f64 = 100.0;

/// One kind of step, with its cuts and the logarithm of the probability of a high output.
#[derive(Debug, Clone, Copy)]
struct Kind {
    step: Step,
    count: u64,
    /// Outputs beyond are high.
    cut: f64,
    /// Outputs beyond hardly happen.
    far: f64,
    width: f64,
    ln_high: f64,
    ln_far: f64,
}

impl Kind {
    /// Outputs are high where the loss of a removed record is above `loss`, and too far where even
    /// in all the steps together they have a probability of about `e^ln_far`; `tilt` is the largest that
    /// the low ones should bear.
    fn new(
        (step, count): (Step, u64),
        (loss, tilt): (f64, f64),
        ln_far: f64,
    ) -> Result<Self, PldError> {
        let z = step.noise_multiplier;
        let cut = z.mul_add(z * unmixed(step.rate, loss), 0.5);
        let mut this = Self {
            step,
            count,
            cut,
            far: 0.0,
            width: WIDTH * z.min(z * z),
            ln_high: 0.0,
            ln_far: 0.0,
        };
        for _ in 0..60 {
            if this.overshoot(loss, tilt) < 4.0 {
                break;
            }
            this.width *= 0.7;
        }
        let one = ln_far - (count as f64).ln();
        // The mixture reaches as far as its second part.
        let beyond = |x: f64| {
            let (base, other) = (ln_above(x / z), ln_above((x - 1.0) / z));
            Ok::<_, PldError>(base.max(step.rate.ln() + other) - one)
        };
        let reach = z * (2.0 - 2.0 * one).max(2.0).sqrt() + 2.0;
        let found = search(beyond, 0.5 * reach, z, (0.0, reach), 0.01 * z)?;
        let far = found.map_or(reach, |(_, high)| high) + 4.0 * this.width;
        this.far = far.max(cut + 8.0 * this.width);
        this.ln_high = this.ln_mass(cut)?;
        this.ln_far = this.ln_mass(this.far)?;
        Ok(this)
    }

    /// How much the tilt favours an output beyond the cut over one at it, at most.
    fn overshoot(&self, loss: f64, tilt: f64) -> f64 {
        let square = self.step.noise_multiplier.powi(2);
        let last = 2.0 * tilt * self.width * self.width / square + 8.0 * self.width;
        let mut worst = 0.0f64;
        let mut off = 0.25 * self.width;
        while off < 2.0 * last {
            let there = ln_mixture(self.step.rate, (self.cut + off - 0.5) / square);
            let u = off / self.width;
            worst = worst.max(tilt * (there - loss) - 0.5 * u * u);
            off *= 1.25;
        }
        worst
    }

    /// The logarithm of the probability of outputs from here on.
    fn ln_mass(&self, from: f64) -> Result<f64, PldError> {
        let part = Part { from, ..self.low() };
        let to = f64::INFINITY;
        let high = Composed {
            steps: &[(self.slice(Part { to, ..part }), 1)],
            precision: 0.0,
        };
        high.ln_mass(Direction::Remove)
    }

    const fn slice(&self, part: Part) -> Slice {
        Slice {
            step: self.step,
            part,
        }
    }

    const fn low(&self) -> Part {
        Part {
            from: f64::NEG_INFINITY,
            to: self.cut,
            width: self.width,
        }
    }

    const fn high(&self) -> Part {
        Part {
            from: self.cut,
            to: self.far,
            width: self.width,
        }
    }
}

impl Largest {
    /// Takes the run apart for a target when a record is removed; epsilon is first guessed, then the
    /// cut follows what is found.
    ///
    /// # Errors
    /// [`PldError`] where too many steps with high outputs would count, or a part cannot be inverted.
    pub(super) fn new(
        steps: &[(Step, u64)],
        precision: f64,
        target: Target,
        sharp: impl Fn(&Self) -> Option<(f64, bool)>,
    ) -> Result<Self, PldError> {
        let mut epsilon = match target {
            Target::Epsilon(epsilon) => epsilon,
            Target::LnDelta(ln) => guess(steps, precision, ln)?,
        };
        epsilon = epsilon.max(LEAST);
        if epsilon > LARGEST {
            return Err(PldError::TooWide);
        }
        let mut result = Err(PldError::Precision);
        for _ in 0..TRIES {
            let ln_delta = match target {
                Target::LnDelta(ln) => ln,
                Target::Epsilon(_) => at_least(steps, epsilon),
            };
            match Self::at(steps, precision, epsilon, ln_delta) {
                Ok(this) => {
                    let found = sharp(&this);

                    result = Ok(this);
                    match found {
                        Some((_, true)) => break,
                        Some((next, false)) if (next / epsilon - 1.0).abs() > 0.02 => {
                            epsilon = next.max(LEAST);
                        }
                        _ => epsilon *= 2.0,
                    }
                }
                Err(error) => {
                    result = result.or(Err(error));
                    epsilon *= 1.4;
                }
            }
        }
        result
    }

    /// With the cut at a loss of `epsilon`.
    fn at(
        steps: &[(Step, u64)],
        precision: f64,
        epsilon: f64,
        ln_delta: f64,
    ) -> Result<Self, PldError> {
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(PldError::Precision);
        }
        let bounded = BOUNDED.ln() + ln_delta;
        let tilt = 2.0 * (15.0 - ln_delta) / epsilon;
        let kinds = steps
            .iter()
            .map(|kind| Kind::new(*kind, (epsilon, tilt), bounded - 3.0));
        let kinds: Vec<Kind> = kinds.collect::<Result<_, _>>()?;
        let (mut expected, mut rest) = (LogSum::new(), LogSum::new());
        for kind in &kinds {
            let count = (kind.count as f64).ln();
            expected.add(count + kind.ln_high);
            rest.add(count + kind.ln_far);
        }
        let ln_expected = expected.ln();
        // Of n or more high outputs: at most expected^n / n!.
        let more = |n: usize| n as f64 * ln_expected - ln_factorial(n as u64);
        let total: u64 = kinds.iter().map(|kind| kind.count).sum();
        let enough = |most: &usize| *most as u64 >= total || more(most + 1) < bounded;
        let most = (0..=MOST_HIGH).find(enough).ok_or(PldError::TooWide)?;
        if (most as u64) < total {
            rest.add(more(most + 1));
        }
        let mut this = Self {
            parts: Vec::new(),
            negligible: Vec::new(),
            ln_rest: 0.0,
            middle: epsilon,
            tilt: 0.0,
        };
        let mut chosen = vec![0; kinds.len()];
        this.fill(
            &kinds,
            precision,
            bounded,
            (most, 0, &mut chosen),
            &mut rest,
        )?;
        this.ln_rest = rest.ln();
        let step = 1e-3 * epsilon;
        let (near, far) = (
            this.ln_deltas(epsilon)[1],
            this.ln_deltas(epsilon + step)[1],
        );
        this.tilt = ((near - far) / step).max(0.0);
        Ok(this)
    }

    /// Adds the parts for all choices of up to `left` high outputs among the kinds from `first` on.
    fn fill(
        &mut self,
        kinds: &[Kind],
        precision: f64,
        bounded: f64,
        (left, first, chosen): (usize, usize, &mut Vec<u64>),
        rest: &mut LogSum,
    ) -> Result<(), PldError> {
        if first == kinds.len() {
            return self.part(kinds, precision, bounded, chosen, rest);
        }
        for high in 0..=left {
            if high as u64 > kinds[first].count {
                break;
            }
            chosen[first] = high as u64;
            let next = (left - high, first + 1, &mut *chosen);
            self.fill(kinds, precision, bounded, next, rest)?;
        }
        chosen[first] = 0;
        Ok(())
    }

    /// Adds the part in which so many steps of each kind have high outputs.
    fn part(
        &mut self,
        kinds: &[Kind],
        precision: f64,
        bounded: f64,
        chosen: &[u64],
        rest: &mut LogSum,
    ) -> Result<(), PldError> {
        let (mut slices, mut ln_choices, mut ln_mass) = (Vec::new(), 0.0, 0.0);
        for (kind, high) in kinds.iter().zip(chosen) {
            for (part, count) in [(kind.low(), kind.count - high), (kind.high(), *high)] {
                if count > 0 {
                    slices.push((kind.slice(part), count));
                }
            }
            ln_choices += ln_choose(kind.count, *high);
            ln_mass += *high as f64 * kind.ln_high;
        }
        let bounded = bounded - 2.0;
        if ln_choices + ln_mass < bounded {
            rest.add(ln_choices + ln_mass);
            return Ok(());
        }
        let composed = Composed {
            steps: &slices,
            precision,
        };
        let epsilon = self.middle;
        if chosen.iter().all(|high| *high == 0) {
            // Low outputs alone often do not reach epsilon; a little below it neither.
            let (_, tilt) = composed.ln_chernoff(Direction::Remove, epsilon, 2.0 / epsilon);
            let here = composed.ln_chernoff(Direction::Remove, 0.9 * epsilon, tilt);
            if here.0 < bounded {
                self.negligible
                    .push((here.1.mul_add(0.9 * epsilon, here.0), here.1));
                return Ok(());
            }
        }
        let steep = 10.0 / epsilon;
        if self.parts.len() == MOST_PARTS {
            return Err(PldError::TooWide);
        }
        let contour = Contour::new(
            composed,
            Direction::Remove,
            Target::Epsilon(epsilon),
            Way::part(steep),
        );
        let contour = contour?;
        self.parts.push((ln_choices, contour));
        Ok(())
    }

    /// `ln delta(epsilon)` from below, in between and from above.
    fn ln_deltas(&self, epsilon: f64) -> [f64; 3] {
        let mut sums = [LogSum::new(); 3];
        for (ln_choices, contour) in &self.parts {
            let here = contour.ln_deltas(epsilon);
            for (sum, ln) in sums.iter_mut().zip(here) {
                sum.add(ln_choices + ln);
            }
        }
        sums[2].add(self.ln_rest);
        for (ln, tilt) in &self.negligible {
            sums[2].add(ln - tilt * epsilon);
        }
        // Nothing at all is minus infinity.
        sums.map(|sum| {
            Some(sum.ln())
                .filter(|ln| !ln.is_nan())
                .unwrap_or(f64::NEG_INFINITY)
        })
    }

    /// `(lower, estimate, upper)` for delta at `epsilon`; none if they are too far apart.
    pub(super) fn deltas(&self, epsilon: f64) -> Option<[f64; 3]> {
        let ln = self.ln_deltas(epsilon);
        // An epsilon that is off by its own error moves delta by more the faster it falls.
        let most = 0.3 + 5e-5 * (1.0 + epsilon) * (1.0 + self.tilt);
        (ln[2] - ln[0] <= most).then(|| ln.map(|x| x.exp().min(1.0)))
    }

    /// `(lower, estimate, upper)` for epsilon at a logarithm of delta.
    pub(super) fn epsilons(&self, ln_delta: f64) -> Option<[f64; 3]> {
        let mut result = [0.0; 3];
        let zero = self.ln_deltas(0.0);
        let ends = (0.0, 8.0 * self.middle);
        for (i, result) in result.iter_mut().enumerate() {
            if zero[2] <= ln_delta {
                break;
            }
            let off = |epsilon: f64| Ok::<_, PldError>(self.ln_deltas(epsilon)[i] - ln_delta);
            let stride = 0.02 * self.middle;
            let found = search(off, self.middle, stride, ends, 1e-9 * (1e-3 + self.middle));
            let (low, high) = found.ok().flatten()?;
            *result = if i == 0 { low } else { high };
        }
        let [low, middle, high] = result;
        Some([low.min(high), middle.clamp(low.min(high), high), high])
    }
}

/// Epsilon, if one large loss were all that counts, or if all the small ones were a Gaussian.
fn guess(steps: &[(Step, u64)], precision: f64, ln_delta: f64) -> Result<f64, PldError> {
    let one = |(step, count): &(Step, u64)| {
        let ln_delta = ln_delta - (*count as f64).ln();
        single::epsilon_of(*step, Direction::Remove, ln_delta)
    };
    let alone = steps.iter().map(one).fold(LEAST, f64::max);
    let low = |kind: &(Step, u64)| {
        let kind = Kind::new(*kind, (alone, 0.0), ln_delta)?;
        Ok((kind.slice(kind.low()), kind.count))
    };
    let low: Vec<_> = steps.iter().map(low).collect::<Result<_, PldError>>()?;
    let low = Composed {
        steps: &low,
        precision,
    };
    let deviation = low.cumulants(Direction::Remove, 0.0)?.variance.sqrt();
    let delta = Delta::new(ln_delta.exp()).map_err(|_| PldError::Precision)?;
    Ok(alone.max(gaussian::epsilon(deviation, delta)))
}

/// A bound on `ln delta(epsilon)` from below: of one step alone.
fn at_least(steps: &[(Step, u64)], epsilon: f64) -> f64 {
    let one = |(step, _): &(Step, u64)| single::ln_delta_of(*step, Direction::Remove, epsilon);
    steps.iter().map(one).fold(f64::NEG_INFINITY, f64::max)
}
