//! `exp`, `tanh` and the logistic function in plain IEEE arithmetic: the same bits on every platform.
//!
//! `f32::tanh` and `f32::exp` come from the platform's C library and differ in the last bit
//! between systems. Activations and softmax feed integer grids, and two clients must put the
//! same number on the grid. These use additions, multiplications and one division in `f64`, all
//! correctly rounded by IEEE 754, and no table, so that the compiler can vectorise them.
//!
//! Method: `exp(x) = 2^k exp(r)`, `k = round(x / ln 2)`, `|r| <= ln(2) / 2`, with the Taylor
//! polynomial of degree 11 for `exp(r)`; its remainder is below `0.3466^12 / 12! = 6.3e-15`,
//! far under half a unit of `f32` (6e-8).
//!
//! ```
//! use sphinx_nn::elementary::{exp, tanh};
//! assert_eq!(exp(0.0), 1.0);
//! assert_eq!(tanh(-20.0), -1.0);
//! assert!((f64::from(tanh(0.5)) - 0.5_f64.tanh()).abs() < 1e-7);
//! ```

/// `1 / n!` for n = 11 down to 0.
const INVERSE_FACTORIALS: [f64; 12] = [
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// Adding and subtracting 1.5 * 2^52 rounds to the nearest integer without a library call.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// `exp(x)` in `f64` for `|x| <= 700`; relative error below 1e-14.
#[inline(always)]
fn exp_f64(x: f64) -> f64 {
    let shifted = x * std::f64::consts::LOG2_E + ROUNDER;
    let k = shifted - ROUNDER;
    let r = x - k * std::f64::consts::LN_2;
    let mut sum = INVERSE_FACTORIALS[0];
    for c in &INVERSE_FACTORIALS[1..] {
        sum = sum * r + c;
    }
    // The low bits of `shifted` hold k as an integer; moved up they become the exponent of 2^k.
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    sum * power
}

/// `exp(x)`, within one unit in the last place; saturates at `x = -87` and `x = 88`.
///
/// NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_f64(f64::from(x.clamp(-87.0, 88.0))) as f32
}

/// `tanh(x)`, within one unit in the last place.
///
/// NaN stays NaN.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let x = f64::from(x.clamp(-16.0, 16.0));
    let a = x.abs();
    let e = exp_f64(2.0 * a);
    let by_exp = (e - 1.0) / (e + 1.0);
    // Near zero the difference e - 1 loses digits; there tanh(x) = x - x^3/3 + O(x^5).
    let by_series = a - a * a * a / 3.0;
    (if a < 1e-3 { by_series } else { by_exp }).copysign(x) as f32
}

/// The logistic function `1 / (1 + exp(-x))`, within one unit in the last place where it is at
/// least 2^-126; below that it is 0 or a subnormal number.
///
/// NaN stays NaN.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp_f64(-f64::from(x.clamp(-110.0, 110.0)));
    (1.0 / (1.0 + e)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of the expected value.
    fn ulps(got: f32, want: f64) -> f64 {
        let unit = f64::from(f32::from_bits((want.abs() as f32).to_bits() + 1))
            - f64::from(want.abs() as f32);
        (f64::from(got) - want).abs() / unit
    }

    #[test]
    fn tanh_is_within_one_ulp_of_the_c_library_in_double() {
        let mut worst = 0.0_f64;
        for bits in (0_u32..0x4200_0000).step_by(9_973) {
            let x = f32::from_bits(bits);
            worst = worst.max(ulps(tanh(x), f64::from(x).tanh()));
            assert_eq!(tanh(-x), -tanh(x), "tanh is odd at {x}");
        }
        assert!(worst < 0.51, "{worst} ulps");
    }

    #[test]
    fn exp_is_within_one_ulp_of_the_c_library_in_double() {
        let mut worst = 0.0_f64;
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            worst = worst.max(ulps(exp(x), f64::from(x).exp()));
        }
        assert!(worst < 0.51, "{worst} ulps");
    }

    #[test]
    fn sigmoid_is_within_one_ulp_of_the_c_library_in_double() {
        let mut worst = 0.0_f64;
        for i in -87_000..110_000 {
            let x = i as f32 / 1000.0;
            worst = worst.max(ulps(sigmoid(x), 1.0 / (1.0 + (-f64::from(x)).exp())));
        }
        assert!(worst < 0.51, "{worst} ulps");
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn extremes_saturate_and_nan_stays() {
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(f32::NAN).is_nan() && exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1.7e-38 && exp(1e9).is_finite());
        assert_eq!(tanh(0.0).to_bits(), 0);
    }
}
