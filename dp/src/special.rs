//! The special functions and searches that the accountants need, written out.
//!
//! Inside the crate only. Each function states its accuracy; each is checked against values from
//! tables or against a slow twin.

/// ln(n!) by Stirling's series, from a product below 16; relative error below 1e-15 or so.
pub(crate) fn ln_factorial(n: u64) -> f64 {
    if n < 2 {
        return 0.0;
    }
    if n < 16 {
        return (2..=n).map(|k| k as f64).product::<f64>().ln();
    }
    let x = n as f64;
    0.5f64.mul_add((std::f64::consts::TAU * x).ln(), x.mul_add(x.ln(), -x)) + stirling_error(n)
}

/// `ln(n!) - ln(sqrt(2 pi n) (n/e)^n)`, the remainder of Stirling's formula.
pub(crate) fn stirling_error(n: u64) -> f64 {
    if n < 16 {
        let x = n as f64;
        if n == 0 {
            return 0.0;
        }
        let stirling = 0.5f64.mul_add((std::f64::consts::TAU * x).ln(), x.mul_add(x.ln(), -x));
        return ln_factorial(n) - stirling;
    }
    let inverse = 1.0 / n as f64;
    let square = inverse * inverse;
    // The coefficients B_2k / (2k (2k - 1)).
    let series = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
    ];
    inverse
        * series
            .iter()
            .rev()
            .fold(0.0, |sum, c| f64::mul_add(sum, square, *c))
}

/// ln of the binomial coefficient (n over k), for k <= n.
pub(crate) fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// ln(e^x - 1) for x > 0.
pub(crate) fn ln_expm1(x: f64) -> f64 {
    if x < 30.0 {
        x.exp_m1().ln()
    } else {
        x + (-(-x).exp()).ln_1p()
    }
}

/// ln(1 + e^x).
pub(crate) fn softplus(x: f64) -> f64 {
    if x > 0.0 {
        x + (-x).exp().ln_1p()
    } else {
        x.exp().ln_1p()
    }
}

/// ln of a sum of exponentials, fed one term at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogSum {
    largest: f64,
    scaled: f64,
}

impl LogSum {
    pub(crate) const fn new() -> Self {
        Self {
            largest: f64::NEG_INFINITY,
            scaled: 0.0,
        }
    }

    pub(crate) fn add(&mut self, x: f64) {
        if x <= self.largest {
            self.scaled += (x - self.largest).exp();
        } else if x > f64::NEG_INFINITY {
            self.scaled = self.scaled.mul_add((self.largest - x).exp(), 1.0);
            self.largest = x;
        } else if x.is_nan() {
            self.scaled = f64::NAN;
        }
    }

    pub(crate) fn ln(&self) -> f64 {
        self.largest + self.scaled.ln()
    }
}

/// The minimum of a unimodal function between two arguments, given its values there and at an argument
/// in between (or at one of the two): `(argument, value)`.
///
/// Brent's method (*Algorithms for Minimization without Derivatives*, 1973, chapter 5): parabolic
/// steps guarded by golden sections. The value returned is one that was evaluated, so it is never
/// below the true minimum.
pub(crate) fn minimize(
    mut f: impl FnMut(f64) -> f64,
    low: (f64, f64),
    start: (f64, f64),
    high: (f64, f64),
    tolerance: f64,
) -> (f64, f64) {
    const GOLDEN: f64 = 0.381_966_011_250_105;
    let (mut a, mut b) = (low.0, high.0);
    let ((mut x, mut fx), (mut w, mut fw), (mut v, mut fv)) = if low.1 < high.1 {
        (start, low, high)
    } else {
        (start, high, low)
    };
    let (mut step, mut before_last): (f64, f64) = (b - a, b - a);
    for _ in 0..150 {
        let middle = 0.5 * (a + b);
        if (x - middle).abs() <= 2.0f64.mul_add(tolerance, -0.5 * (b - a)) {
            break;
        }
        let r = (x - w) * (fx - fv);
        let q = (x - v) * (fx - fw);
        let p = (x - v).mul_add(q, -((x - w) * r));
        let denominator = 2.0 * (q - r);
        let jump = -p / denominator;
        let inside = jump.is_finite() && x + jump > a && x + jump < b;
        if before_last.abs() > tolerance && inside && jump.abs() < 0.5 * before_last.abs() {
            before_last = step;
            step = jump;
        } else {
            before_last = if x < middle { b - x } else { a - x };
            step = GOLDEN * before_last;
        }
        let u = if step.abs() >= tolerance {
            x + step
        } else {
            x + tolerance.copysign(step)
        };
        let fu = f(u);
        if fu <= fx {
            if u < x {
                b = x
            } else {
                a = x
            }
            (v, fv, w, fw, x, fx) = (w, fw, x, fx, u, fu);
        } else {
            if u < x {
                a = u
            } else {
                b = u
            }
            if fu <= fw || w == x {
                (v, fv, w, fw) = (w, fw, u, fu);
            } else if fu <= fv || v == x || v == w {
                (v, fv) = (u, fu);
            }
        }
    }
    (x, fx)
}

/// Brackets the argument between `ends` at which the falling function `f` reaches zero: two
/// arguments at most `closed` apart, `f` above zero at the first and not above at the second. None
/// if `f` is above zero up to the upper end; the lower end twice if it is nowhere above zero.
///
/// A bracket is grown from `guess` by strides, then narrowed by chords (the Illinois rule) that keep
/// off both ends.
pub(crate) fn search<E>(
    mut f: impl FnMut(f64) -> Result<f64, E>,
    guess: f64,
    mut stride: f64,
    ends: (f64, f64),
    closed: f64,
) -> Result<Option<(f64, f64)>, E> {
    let first = f(guess)?;
    let (mut low, mut high) = ((guess, first), (guess, first));
    let start = stride;
    while high.1 > 0.0 {
        if high.0 >= ends.1 {
            return Ok(None);
        }
        low = high;
        high.0 = (high.0 + stride).min(ends.1);
        high.1 = f(high.0)?;
        stride *= 2.5;
    }
    stride = start;
    while low.1 <= 0.0 {
        if low.0 <= ends.0 {
            return Ok(Some((low.0, low.0)));
        }
        high = low;
        low.0 = (low.0 - stride).max(ends.0);
        low.1 = f(low.0)?;
        stride *= 2.5;
    }
    let mut last_side = 0;
    for _ in 0..200 {
        if high.0 - low.0 <= closed {
            break;
        }
        let chord = high.0 - high.1 * (high.0 - low.0) / (high.1 - low.1);
        let middle = if chord.is_finite() {
            chord
        } else {
            0.5 * (low.0 + high.0)
        };
        let x = middle.clamp(low.0 + 0.45 * closed, high.0 - 0.45 * closed);
        let y = f(x)?;
        if y <= 0.0 {
            high = (x, y);
            if last_side == 1 {
                low.1 *= 0.5;
            }
            last_side = 1;
        } else {
            low = (x, y);
            if last_side == -1 {
                high.1 *= 0.5;
            }
            last_side = -1;
        }
    }
    Ok(Some((low.0, high.0)))
}

/// Positive nodes and weights of the eight-point Gauss-Legendre rule on (-1, 1).
const LEGENDRE: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_361_96),
    (0.525_532_409_916_329, 0.313_706_645_877_887_27),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// Calls `f(node, weight)` for the eight-point Gauss-Legendre rule on one interval.
pub(crate) fn legendre_nodes(low: f64, high: f64, mut f: impl FnMut(f64, f64)) {
    let (middle, half) = (0.5 * (low + high), 0.5 * (high - low));
    for (node, weight) in LEGENDRE {
        f(half.mul_add(-node, middle), weight * half);
        f(half.mul_add(node, middle), weight * half);
    }
}

/// The integral of `f` by the eight-point Gauss-Legendre rule on `panels` equal panels.
pub(crate) fn legendre(low: f64, high: f64, panels: u32, f: impl Fn(f64) -> f64) -> f64 {
    let width = (high - low) / f64::from(panels);
    let mut sum = 0.0;
    for panel in 0..panels {
        let start = width.mul_add(f64::from(panel), low);
        legendre_nodes(start, start + width, |x, weight| {
            sum = weight.mul_add(f(x), sum);
        });
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factorials_against_a_product() {
        let mut sum = 0.0f64;
        for n in 1u64..2000 {
            sum += (n as f64).ln();
            let error = (ln_factorial(n) - sum).abs();
            assert!(error <= 1e-12 * sum.max(1.0), "n = {n}: {error}");
        }
        // ln(52!) and ln(10^6!) from Abramowitz-Stegun style tables.
        assert!((ln_factorial(52) - 156.360_836_303_078_8).abs() < 1e-11);
        assert!((ln_factorial(1_000_000) - 12_815_518.384_658_17).abs() < 1e-7);
        assert!((ln_choose(50, 25) - 126_410_606_437_752f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn log_sum_is_a_sum() {
        let mut sum = LogSum::new();
        assert_eq!(sum.ln(), f64::NEG_INFINITY);
        for x in [-3.0, f64::NEG_INFINITY, 2.0, 2.5, -800.0] {
            sum.add(x);
        }
        let plain = (-3.0f64).exp() + 2.0f64.exp() + 2.5f64.exp();
        assert!((sum.ln() - plain.ln()).abs() < 1e-15);
        assert!((ln_expm1(1e-9) - 1e-9f64.ln()).abs() < 1e-8);
        assert!((ln_expm1(40.0) - 40.0).abs() < 1e-15);
        assert!((softplus(-40.0) - (-40.0f64).exp()).abs() < 1e-30);
    }

    #[test]
    fn minimum_of_a_skewed_bowl() {
        let f = |x: f64| x.exp() - 3.0 * x;
        let at = |x: f64| (x, f(x));
        let (x, y) = minimize(f, at(-4.0), at(2.0), at(9.0), 1e-8);
        assert!((x - 3.0f64.ln()).abs() < 1e-7);
        assert!((y - (3.0 - 3.0 * 3.0f64.ln())).abs() < 1e-14);
        let (edge, _) = minimize(|x| x, (1.0, 1.0), (1.0, 1.0), (2.0, 2.0), 1e-8);
        assert!(edge - 1.0 < 1e-7);
    }
}
