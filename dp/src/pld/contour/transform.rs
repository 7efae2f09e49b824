//! The characteristic function at many equally spaced frequencies: directly, or by one Fourier
//! transform.

use std::cell::RefCell;
use std::f64::consts::{PI, TAU};

use rustfft::FftPlanner;
use rustfft::num_complex::Complex64;

use super::nodes::Nodes;

/// Values of the characteristic function, and a bound on the error that the method adds.
pub(super) struct Values {
    pub(super) values: Vec<(f64, f64)>,
    pub(super) error: f64,
}

/// Frequencies times nodes up to which the sums are done directly.
const DIRECT: usize = 2_000_000;

/// `E[e^(i k dt loss)]` under the tilted measure for `k` in `0..count`.
pub(super) fn characteristic(nodes: &Nodes, dt: f64, count: usize) -> Values {
    if nodes.loss.len() * count <= DIRECT {
        Values {
            values: direct(nodes, dt, count),
            error: 0.0,
        }
    } else {
        gridded(nodes, dt, count)
    }
}

/// Sums that run side by side.
const LANES: usize = 8;

/// Rotations before a fresh sine and cosine.
const FRESH: usize = 64;

fn direct(nodes: &Nodes, dt: f64, count: usize) -> Vec<(f64, f64)> {
    let used = nodes.loss.len();
    let n = used.next_multiple_of(LANES);
    let (mut turn_cos, mut turn_sin) = (vec![0.0; n], vec![0.0; n]);
    for (i, loss) in nodes.loss.iter().enumerate() {
        (turn_sin[i], turn_cos[i]) = (dt * loss).sin_cos();
    }
    let (mut re, mut im) = (vec![0.0; n], vec![0.0; n]);
    let mut result = Vec::with_capacity(count);
    for k in 0..count {
        if k % FRESH == 0 {
            let t = k as f64 * dt;
            for (i, (mass, loss)) in nodes.mass.iter().zip(&nodes.loss).enumerate() {
                let (sin, cos) = (t * loss).sin_cos();
                (re[i], im[i]) = (mass * cos, mass * sin);
            }
        }
        let (mut sum_re, mut sum_im) = ([0.0; LANES], [0.0; LANES]);
        let values = re.as_chunks_mut::<LANES>().0.iter_mut();
        let values = values.zip(im.as_chunks_mut::<LANES>().0);
        let turns = turn_cos.as_chunks::<LANES>().0.iter();
        let turns = turns.zip(turn_sin.as_chunks::<LANES>().0);
        for ((re, im), (cos, sin)) in values.zip(turns) {
            for lane in 0..LANES {
                let (x, y) = (re[lane], im[lane]);
                sum_re[lane] += x;
                sum_im[lane] += y;
                re[lane] = x * cos[lane] - y * sin[lane];
                im[lane] = x * sin[lane] + y * cos[lane];
            }
        }
        result.push((sum_re.iter().sum(), sum_im.iter().sum()));
    }
    result
}

/// Grid cells per frequency, on both signs together twice what is needed.
const OVERSAMPLED: usize = 4;

/// Cells to either side over which a node is spread.
const HALF: i64 = 15;

/// The variance of the spreading Gaussian, in cells.
const VARIANCE: f64 = 3.1;

/// Aliases are below `2 e^(-pi^2 variance)`, what is cut from the Gaussian is below
/// `e^(pi^2 variance / 8 - half^2 / (2 variance))` after division; the rest is rounding.
const GRIDDED: f64 = 3e-13;

thread_local! {
    static PLANNER: RefCell<FftPlanner<f64>> = RefCell::new(FftPlanner::new());
}

/// Every node is spread over the cells around it by a Gaussian, the cells are transformed, and the
/// Gaussian's own transform is divided out (Greengard, Lee 2004, *Accelerating the Nonuniform Fast
/// Fourier Transform*, SIAM Review 46, section 2).
fn gridded(nodes: &Nodes, dt: f64, count: usize) -> Values {
    let n = (OVERSAMPLED * count).next_power_of_two();
    let cell = TAU / (dt * n as f64);
    let falls: Vec<f64> = (-HALF..=HALF)
        .map(|j| (-0.5 * (j * j) as f64 / VARIANCE).exp())
        .collect();
    let mut cells = vec![Complex64::new(0.0, 0.0); n];
    for (mass, loss) in nodes.mass.iter().zip(&nodes.loss) {
        let at = loss / cell;
        let nearest = at.round();
        let off = at - nearest;
        // exp(-(j - off)^2 / 2v) = exp(-off^2 / 2v) exp(off / v)^j exp(-j^2 / 2v)
        let step = (off / VARIANCE).exp();
        let mut weight = mass * (-0.5 * off * off / VARIANCE).exp() * step.powi(-HALF as i32);
        let first = (nearest as i64 - HALF).rem_euclid(n as i64) as usize;
        for (j, fall) in falls.iter().enumerate() {
            cells[(first + j) & (n - 1)].re += weight * fall;
            weight *= step;
        }
    }
    PLANNER.with_borrow_mut(|planner| planner.plan_fft_inverse(n).process(&mut cells));
    let scale = (TAU * VARIANCE).sqrt().recip();
    let values = cells.into_iter().take(count).enumerate();
    let values = values.map(|(k, value)| {
        let turn = 2.0 * PI * k as f64 / n as f64;
        let divided = scale * (0.5 * VARIANCE * turn * turn).exp();
        (value.re * divided, value.im * divided)
    });
    Values {
        values: values.collect(),
        error: GRIDDED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree() {
        let loss: Vec<f64> = (0..500)
            .map(|i| (f64::from(i) * 0.37).sin() * 3.0)
            .collect();
        let mass = vec![0.002; 500];
        let nodes = Nodes {
            slope: vec![1.0; 500],
            steepness: vec![0.0; 500],
            bend: vec![0.0; 500],
            loss,
            mass,
            spacing: 1.0,
            ln_moment: 0.0,
            magnitude: 0.0,
        };
        let (slow, fast) = (direct(&nodes, 0.7, 300), gridded(&nodes, 0.7, 300));
        for (k, (a, b)) in slow.iter().zip(&fast.values).enumerate() {
            let error = (a.0 - b.0).hypot(a.1 - b.1);
            assert!(error < GRIDDED, "{k}: {error:e}");
        }
    }
}
