//! One list of laws for every sampler, and planted wrong samplers that the same laws catch.

use num_bigint::BigUint;
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};

use super::*;

mod exactness;
mod prepared;

/// Bin edges and probabilities: bin i holds `edges[i] <= x < edges[i + 1]`; the first and the last
/// are open ended. Each is expected at least 25 times among `n` draws.
fn bins(std_dev: f64, n: usize) -> (Vec<i64>, Vec<f64>) {
    let width = (std_dev / 25.0).ceil();
    let reach = (7.0 * std_dev / width).ceil() as i64 + 1;
    let mass = |from: i64| {
        let from = from as f64 * width;
        if width < 5000.0 {
            let all = (0..width as i64).map(|i| weight(from + i as f64, std_dev));
            return all.sum::<f64>();
        }
        // Simpson's rule from half an integer below; the sum differs by some 1 / (24 s^2).
        let step = width / 20.0;
        let nodes = (0..=20).map(|i| {
            let factor = if i % 20 == 0 {
                1.0
            } else {
                2.0 + 2.0 * f64::from(i % 2)
            };
            factor * weight(from - 0.5 + f64::from(i) * step, std_dev)
        });
        nodes.sum::<f64>() * step / 3.0
    };
    let masses: Vec<f64> = (-reach..reach).map(mass).collect();
    let total: f64 = masses.iter().sum();
    let (mut edges, mut shares) = (vec![i64::MIN], vec![0.0]);
    for (at, mass) in (-reach..reach).zip(masses) {
        if shares[shares.len() - 1] * n as f64 >= 25.0 {
            edges.push(at * width as i64);
            shares.push(0.0);
        }
        *shares.last_mut().unwrap() += mass / total;
    }
    while shares.len() > 1 && shares[shares.len() - 1] * (n as f64) < 25.0 {
        edges.pop();
        let thin = shares.pop().unwrap();
        *shares.last_mut().unwrap() += thin;
    }
    (edges, shares)
}

fn weight(x: f64, std_dev: f64) -> f64 {
    (-x * x / (2.0 * std_dev * std_dev)).exp()
}

/// Mean square and mean fourth power of the discrete Gaussian.
fn moments(std_dev: f64) -> (f64, f64) {
    if std_dev > 3.0 {
        return (std_dev.powi(2), 3.0 * std_dev.powi(4));
    }
    let reach = (12.0 * std_dev).ceil() as i64 + 1;
    let [mut mass, mut second, mut fourth] = [0.0; 3];
    for x in -reach..=reach {
        let (x, w) = (x as f64, weight(x as f64, std_dev));
        mass += w;
        second += w * x.powi(2);
        fourth += w * x.powi(4);
    }
    (second / mass, fourth / mass)
}

/// The largest surprise of several tests, in standard deviations: chi-square, Kolmogorov-Smirnov,
/// mean, variance, parity.
pub(super) fn judge(draws: &[i64], std_dev: f64) -> f64 {
    let n = draws.len() as f64;
    let (edges, shares) = bins(std_dev, draws.len());
    let mut seen = vec![0.0; edges.len()];
    for &x in draws {
        seen[edges.partition_point(|&edge| edge <= x) - 1] += 1.0;
    }
    let mut worst = 0.0f64;
    let (mut statistic, mut gap, mut furthest) = (0.0, 0.0, 0.0f64);
    for (share, seen) in shares.iter().zip(&seen) {
        statistic += (seen - n * share).powi(2) / (n * share);
        gap += seen / n - share;
        furthest = furthest.max(f64::abs(gap));
    }
    let freedom = shares.len() as f64 - 1.0;
    if freedom >= 1.0 {
        // Wilson-Hilferty: the cube root of chi-square over its mean is nearly normal.
        let spread = 2.0 / (9.0 * freedom);
        worst = ((statistic / freedom).cbrt() - (1.0 - spread)).abs() / spread.sqrt();
    }
    // Kolmogorov-Smirnov at the edges: Pr[sqrt(n) D > d] is below 2 exp(-2 d^2), which a normal
    // variable exceeds twice as far out.
    worst = worst.max(2.0 * furthest * n.sqrt());
    let (second, fourth) = moments(std_dev);
    let mean = draws.iter().map(|&x| x as f64).sum::<f64>() / n;
    worst = worst.max((mean / (second / n).sqrt()).abs());
    let square = draws.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / n;
    worst = worst.max(((square - second) / ((fourth - second.powi(2)) / n).sqrt()).abs());
    if std_dev > 3.0 {
        let odd = draws.iter().filter(|&&x| x & 1 == 1).count() as f64;
        worst = worst.max((odd - n / 2.0).abs() / (n / 4.0).sqrt());
    }
    worst
}

fn draws(n: usize, seed: u64, mut draw: impl FnMut(&mut ChaCha20Rng) -> i64) -> Vec<i64> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (0..n).map(|_| draw(&mut rng)).collect()
}

/// Tiny, middling and huge.
const STD_DEVS: [f64; 12] = [
    0.3,
    0.75,
    1.0,
    2.5,
    10.0,
    63.7,
    300.0,
    5_000.25,
    262_144.5,
    1_048_576.0,
    68_719_476_736.0,
    1_099_511_627_776.0,
];

/// Surprises above this are failures: about one in two million for each of the tests.
const LIMIT: f64 = 5.0;

fn rational(std_dev: f64) -> RationalGaussian {
    let (n, d) = table::square(std_dev);
    RationalGaussian::new(n, d).unwrap()
}

#[test]
fn the_table_keeps_the_laws() {
    for (seed, std_dev) in (0..).zip(STD_DEVS) {
        let gaussian = DiscreteGaussian::new(std_dev).unwrap();
        let surprise = judge(
            &draws(400_000, seed, |rng| gaussian.sample_vartime(rng)),
            std_dev,
        );
        assert!(surprise < LIMIT, "std_dev {std_dev}: {surprise}");
    }
}

#[test]
fn the_ladder_keeps_the_laws() {
    for (seed, std_dev) in (100..).zip(STD_DEVS) {
        let gaussian = LadderGaussian::new(std_dev).unwrap();
        let mut sample = vec![0; 400_000];
        gaussian.fill(&mut sample, &mut ChaCha20Rng::seed_from_u64(seed));
        let surprise = judge(&sample, std_dev);
        assert!(surprise < LIMIT, "std_dev {std_dev}: {surprise}");
    }
}

#[test]
fn the_rational_sampler_keeps_the_laws() {
    for (seed, std_dev) in (200..).zip(STD_DEVS) {
        let gaussian = rational(std_dev);
        let surprise = judge(
            &draws(300_000, seed, |rng| gaussian.sample_vartime(rng)),
            std_dev,
        );
        assert!(surprise < LIMIT, "std_dev {std_dev}: {surprise}");
    }
}

#[test]
fn the_slow_twin_keeps_the_laws() {
    for (seed, std_dev) in (300..).zip(STD_DEVS) {
        let gaussian = DiscreteGaussian::new(std_dev).unwrap();
        let sample = draws(6_000, seed, |rng| gaussian.sample_reference_vartime(rng));
        let surprise = judge(&sample, std_dev);
        assert!(surprise < LIMIT, "std_dev {std_dev}: {surprise}");
    }
}

/// A variance that no float has: 7/3, and one of a thousand bits near 50.
#[test]
fn variances_without_a_float() {
    let long = BigUint::from(1u32) << 1000u32;
    for (n, d) in [(7u32.into(), 3u32.into()), (&long * 50u32 + 1u32, long)] {
        let std_dev =
            (num_traits::ToPrimitive::to_f64(&((&n * 1_000_000u32) / &d)).unwrap() / 1e6).sqrt();
        let gaussian = RationalGaussian::new(n, d).unwrap();
        let surprise = judge(
            &draws(200_000, 7, |rng| gaussian.sample_vartime(rng)),
            std_dev,
        );
        assert!(
            surprise < LIMIT,
            "variance {:?}: {surprise}",
            gaussian.variance()
        );
    }
}

/// Rounding a continuous Gaussian is not a discrete Gaussian: its variance is larger by 1/12.
fn rounded_continuous<R: CryptoRng>(std_dev: f64, rng: &mut R) -> i64 {
    IdealisedGaussian::new(std_dev).unwrap().sample(rng).round() as i64
}

/// The same judge as for the right samplers. A surprise of 8 has a probability below 10^-14.
#[test]
fn planted_wrong_samplers_are_caught() {
    let n = 400_000;
    let caught = |what: &str, sample: Vec<i64>, std_dev: f64| {
        let surprise = judge(&sample, std_dev);
        assert!(surprise > 8.0, "{what} at {std_dev}: {surprise}");
    };
    caught(
        "rounded",
        draws(n, 7, |rng| rounded_continuous(1.0, rng)),
        1.0,
    );
    for std_dev in [1.0, 12.0, 300.0, 1_048_576.0] {
        // One per cent too wide, one per cent too narrow.
        for factor in [0.99, 1.01] {
            let wrong = LadderGaussian::new(std_dev * factor).unwrap();
            let mut sample = vec![0; 1_000_000];
            wrong.fill(&mut sample, &mut ChaCha20Rng::seed_from_u64(8));
            caught("off by 1 %", sample, std_dev);
        }
    }
    let gaussian = DiscreteGaussian::new(12.0).unwrap();
    // The classic slip with the sign: both zeros are kept, so zero is twice as likely.
    let doubled = draws(n, 9, |rng| {
        let x = gaussian.sample_vartime(rng);
        let again = gaussian.sample_vartime(rng);
        // A zero proposed with either sign: mix in p(0) / (1 + p(0)) of zeros.
        if again == 0 { 0 } else { x }
    });
    caught("zero twice", doubled, 12.0);
    let halved = draws(n, 10, |rng| {
        loop {
            let x = gaussian.sample_vartime(rng);
            if x != 0 || rng.next_u32() & 1 == 0 {
                return x;
            }
        }
    });
    caught("zero half", halved, 12.0);
    for std_dev in [12.0, 1_048_576.0] {
        let gaussian = DiscreteGaussian::new(std_dev).unwrap();
        let cut = draws(n, 11, |rng| {
            loop {
                let x = gaussian.sample_vartime(rng);
                if (x as f64).abs() < 3.3 * std_dev {
                    return x;
                }
            }
        });
        caught("cut at 3.3", cut, std_dev);
        // Holes: only even numbers, as of a float grid that is too coarse.
        let even = draws(n, 12, |rng| gaussian.sample_vartime(rng) & !1);
        caught("even", even, std_dev);
    }
}
