use super::*;
use proptest::prelude::*;

/// First outputs of SplitMix64 from seed 1234567, as published with the xoshiro generators.
#[test]
fn the_generator_is_splitmix64() {
    let mut generator = SplitMix64(1_234_567);
    let found: Vec<u64> = (0..5).map(|_| generator.next()).collect();
    let published = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];
    assert_eq!(found, published);
}

/// Worked by hand from the definition of type 7; the third line differs from types 1 to 6.
#[test]
fn quantiles_are_of_type_seven() {
    let samples = [4.0, 1.0, 3.0, 2.0];
    assert_eq!(quantile(&samples, 0.0).unwrap(), 1.0);
    assert_eq!(quantile(&samples, 1.0).unwrap(), 4.0);
    assert_eq!(quantile(&samples, 0.25).unwrap(), 1.75);
    assert_eq!(quantile(&samples, 0.5).unwrap(), 2.5);
    assert_eq!(median(&[7.0]).unwrap(), 7.0);
    assert_eq!(median(&[5.0, 1.0, 9.0]).unwrap(), 5.0);
}

fn choose(n: u32, k: u32) -> f64 {
    (0..k)
        .map(|i| f64::from(n - i) / f64::from(i + 1))
        .product()
}

/// Efron (1979): for odd n = 2m - 1 the bootstrap median exceeds the k-th order statistic with
/// probability `sum_{j<m} C(n, j) (k/n)^j (1 - k/n)^(n-j)`.
fn exact_median_above(n: u32, k: u32) -> f64 {
    let p = f64::from(k) / f64::from(n);
    (0..n.div_ceil(2))
        .map(|j| choose(n, j) * p.powi(j as i32) * (1.0 - p).powi((n - j) as i32))
        .sum()
}

#[test]
fn the_bootstrap_median_follows_the_exact_law() {
    let samples: Vec<f64> = (1..=13).map(f64::from).collect();
    for (confidence, seed) in [(0.5, 1), (0.8, 2), (0.9, 3), (0.95, 4)] {
        let found = bootstrap(&samples, median, confidence, 20_000, seed).unwrap();
        let tail = (1.0 - confidence) / 2.0;
        let exact = |p: f64| {
            let at = (1..=13)
                .find(|k| 1.0 - exact_median_above(13, *k) >= p)
                .unwrap_or(13);
            f64::from(at)
        };
        assert_eq!(
            (found.low, found.high),
            (exact(tail), exact(1.0 - tail)),
            "{confidence}"
        );
    }
}

#[test]
fn the_bootstrap_is_a_function_of_its_seed() {
    let samples: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
    let mean = |s: &[f64]| Ok(s.iter().sum::<f64>() / s.len() as f64);
    let one = bootstrap(&samples, mean, 0.95, 500, 1).unwrap();
    assert_eq!(one, bootstrap(&samples, mean, 0.95, 500, 1).unwrap());
    assert_ne!(one, bootstrap(&samples, mean, 0.95, 500, 2).unwrap());
    assert!(one.low < one.high);
}

#[test]
fn what_has_no_value_is_an_error() {
    assert_eq!(
        median(&[]),
        Err(StatsError::Empty {
            operation: "median"
        })
    );
    let nan = quantile(&[1.0, f64::NAN], 0.5);
    assert_eq!(
        nan,
        Err(StatsError::NotFinite {
            operation: "quantile",
            index: 1
        })
    );
    for p in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(
            quantile(&[1.0], p),
            Err(StatsError::Probability { .. })
        ));
        assert!(bootstrap(&[1.0], median, p, 10, 1).is_err());
    }
    assert_eq!(
        bootstrap(&[1.0], median, 0.9, 0, 1),
        Err(StatsError::NoResamples)
    );
}

fn series() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(-1e12..1e12, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    /// Quantiles lie between the extremes, rise with p, and forget the order of the samples.
    #[test]
    fn quantiles_rise_and_ignore_order(samples in series(), p in 0.0..=1.0, q in 0.0..=1.0) {
        let (p, q): (f64, f64) = if p <= q { (p, q) } else { (q, p) };
        let (low, high) = (quantile(&samples, p).unwrap(), quantile(&samples, q).unwrap());
        let all = range(&samples).unwrap();
        let slack = 1e-9 * (all.low.abs() + all.high.abs());
        prop_assert!(low <= high + slack && all.low - slack <= low && high <= all.high + slack);
        let reversed: Vec<f64> = samples.iter().rev().copied().collect();
        prop_assert_eq!(low, quantile(&reversed, p).unwrap());
    }

    /// The bootstrap interval stays inside the range of the samples and ignores their order.
    #[test]
    fn bootstrap_stays_inside_the_samples(samples in series(), seed in any::<u64>()) {
        let interval = bootstrap(&samples, |s| quantile(s, 0.0), 0.9, 50, seed).unwrap();
        let all = range(&samples).unwrap();
        prop_assert!(all.low <= interval.low && interval.high <= all.high);
        let reversed: Vec<f64> = samples.iter().rev().copied().collect();
        let again = bootstrap(&reversed, |s| quantile(s, 0.0), 0.9, 50, seed).unwrap();
        prop_assert_eq!(interval, again);
    }
}
