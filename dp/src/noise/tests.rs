//! The sampler against the exact distribution, against its slow twin, and against a planted
//! wrong one.

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};

use super::*;

/// Chi-square over bins of at least 20 expected draws: `(statistic, degrees of freedom)`.
///
/// The bins are ranges of `width` integers around zero; everything outside is one bin.
fn chi_square(draws: &[i64], std_dev: f64, width: i64) -> (f64, f64) {
    let reach = (10.0 * std_dev).ceil() as i64 + 1;
    let rho = |x: i64| (-((x * x) as f64) / (2.0 * std_dev * std_dev)).exp();
    let mass: f64 = (-reach..=reach).map(rho).sum();
    let bins = (6.0 * std_dev / width as f64).ceil() as i64 + 1;
    let cell = |x: i64| (x + bins * width).div_euclid(width);
    let size = (2 * bins) as usize;
    let mut expected = vec![0.0; size];
    let mut seen = vec![0.0; size];
    let mut outside = (0.0, 0.0);
    let n = draws.len() as f64;
    for x in -reach..=reach {
        match usize::try_from(cell(x)).ok().filter(|&i| i < size) {
            Some(i) => expected[i] += n * rho(x) / mass,
            None => outside.0 += n * rho(x) / mass,
        }
    }
    for &x in draws {
        match usize::try_from(cell(x)).ok().filter(|&i| i < size) {
            Some(i) => seen[i] += 1.0,
            None => outside.1 += 1.0,
        }
    }
    let mut statistic = 0.0;
    let mut freedom = -1.0;
    for (e, s) in expected.into_iter().zip(seen) {
        if e >= 20.0 {
            statistic += (s - e) * (s - e) / e;
            freedom += 1.0;
        } else {
            outside = (outside.0 + e, outside.1 + s);
        }
    }
    let (e, s) = outside;
    // Impossible values must not be seen; a thin rest joins the sum with its own bin.
    assert!(s <= 12.0 + 3.0 * e, "{s} draws where {e} were expected");
    if e >= 20.0 {
        statistic += (s - e) * (s - e) / e;
        freedom += 1.0;
    }
    (statistic, freedom)
}

/// How many standard deviations the statistic lies from its mean.
fn surprise(draws: &[i64], std_dev: f64, width: i64) -> f64 {
    let (statistic, freedom) = chi_square(draws, std_dev, width);
    if freedom < 0.5 {
        return 0.0;
    }
    // Wilson-Hilferty: the cube root of chi-square over its mean is nearly normal.
    let spread = 2.0 / (9.0 * freedom);
    ((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

fn draws(n: usize, seed: u64, mut draw: impl FnMut(&mut ChaCha20Rng) -> i64) -> Vec<i64> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (0..n).map(|_| draw(&mut rng)).collect()
}

const SIGMAS: [(f64, i64); 8] = [
    (0.3, 1),
    (0.75, 1),
    (1.0, 1),
    (2.5, 1),
    (63.7, 1),
    (300.0, 7),
    (5_000.25, 100),
    (262_144.0, 4096),
];

#[test]
fn table_sampler_against_the_exact_distribution() {
    for (i, (std_dev, width)) in SIGMAS.into_iter().enumerate() {
        let gaussian = DiscreteGaussian::new(std_dev).unwrap();
        let sample = draws(400_000, i as u64, |rng| gaussian.sample_vartime(rng));
        let surprise = surprise(&sample, std_dev, width);
        println!("table, std_dev {std_dev}: {surprise:.2}");
        assert!(surprise.abs() < 4.5, "std_dev {std_dev}: {surprise}");
    }
}

#[test]
fn slow_twin_against_the_exact_distribution() {
    for (i, (std_dev, width)) in SIGMAS.into_iter().enumerate() {
        let gaussian = DiscreteGaussian::new(std_dev).unwrap();
        let sample = draws(10_000, 50 + i as u64, |rng| {
            gaussian.sample_reference_vartime(rng)
        });
        let surprise = surprise(&sample, std_dev, 8 * width);
        assert!(surprise.abs() < 4.5, "std_dev {std_dev}: {surprise}");
    }
}

/// Rounding a continuous Gaussian is not a discrete Gaussian: its variance is larger by 1/12.
fn rounded_continuous<R: CryptoRng>(std_dev: f64, rng: &mut R) -> i64 {
    IdealisedGaussian::new(std_dev).unwrap().sample(rng).round() as i64
}

#[test]
fn planted_wrong_samplers_are_caught() {
    let rounded = draws(400_000, 7, |rng| rounded_continuous(1.0, rng));
    assert!(surprise(&rounded, 1.0, 1) > 20.0);

    // The classic slip with the sign of zero, here: zero half as likely as it should be.
    let gaussian = DiscreteGaussian::new(12.0).unwrap();
    let halved = draws(400_000, 8, |rng| {
        loop {
            let x = gaussian.sample_vartime(rng);
            if x != 0 || rng.next_u32() & 1 == 0 {
                return x;
            }
        }
    });
    assert!(surprise(&halved, 12.0, 1) > 20.0);

    // Two per cent too little noise.
    let wide = DiscreteGaussian::new(294.0).unwrap();
    let narrow = draws(400_000, 9, |rng| wide.sample_vartime(rng));
    assert!(surprise(&narrow, 300.0, 30) > 8.0);
}

#[test]
fn moments_at_large_scale() {
    let std_dev = 262_144.5;
    let gaussian = DiscreteGaussian::new(std_dev).unwrap();
    let n = 1_000_000;
    let sample = draws(n, 11, |rng| gaussian.sample_vartime(rng));
    let scaled = sample.iter().map(|&x| x as f64 / std_dev);
    let [mut mean, mut square, mut fourth] = [0.0; 3];
    for x in scaled {
        mean += x;
        square += x * x;
        fourth += x.powi(4);
    }
    let n = n as f64;
    assert!((mean / n).abs() < 5.0 / n.sqrt());
    assert!((square / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
    assert!((fourth / n - 3.0).abs() < 5.0 * (96.0 / n).sqrt());
    // All low bits are in use: no grid, no holes.
    let odd = sample.iter().filter(|&&x| x & 1 == 1).count() as f64;
    assert!((odd / n - 0.5).abs() < 2.5 / n.sqrt());
}

#[test]
fn ranges_are_refused() {
    for bad in [f64::NAN, 0.0, -1.0, 1e-4, 1e13, f64::INFINITY] {
        assert!(DiscreteGaussian::new(bad).is_err());
    }
    for good in [1e-3, 1.0, 1_099_511_627_776.0] {
        assert!(DiscreteGaussian::new(good).is_ok());
    }
}

#[test]
fn tiny_parameters_give_zeros() {
    let gaussian = DiscreteGaussian::new(1e-3).unwrap();
    assert!(
        draws(1000, 3, |rng| gaussian.sample_vartime(rng))
            .iter()
            .all(|&x| x == 0)
    );
}

#[test]
fn prepared_noise_remembers_where_it_came_from() {
    let gaussian = DiscreteGaussian::new(100.0).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let noise = PreparedNoise::draw_vartime(&gaussian, 5, &mut rng);
    assert_eq!(
        (noise.len(), noise.kind(), noise.std_dev()),
        (5, NoiseKind::Exact, 100.0)
    );
    assert_eq!(noise.marked_as_test().kind(), NoiseKind::SeededTest);
    let seeded = PreparedNoise::draw_seeded_vartime(&gaussian, 4, [7; 32]);
    assert_eq!(seeded.kind(), NoiseKind::SeededTest);
    let (mut a, mut b) = (vec![0; 4], vec![i64::MAX; 4]);
    seeded.add_to(&mut a);
    PreparedNoise::draw_seeded_vartime(&gaussian, 4, [7; 32]).add_to(&mut b);
    assert!(a.iter().any(|&x| x != 0));
    assert!(
        b.iter()
            .zip(&a)
            .all(|(b, a)| *b == i64::MAX.saturating_add(*a))
    );
    assert_eq!(
        PreparedNoise::none(3).marked_as_test().kind(),
        NoiseKind::None
    );
}
