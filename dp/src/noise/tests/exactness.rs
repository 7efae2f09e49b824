//! Probabilities against the outside tables; the exact decisions behind the fast ones.

use super::*;

/// The rows of an outside table, or nothing where it is not at hand.
fn reference(name: &str) -> Vec<Vec<String>> {
    let root = std::env::var_os("SPHINX_REFERENCE").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference"),
        std::path::PathBuf::from,
    );
    let path = root.join("dp").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("SKIPPED: no {}; set SPHINX_REFERENCE", path.display());
        return Vec::new();
    };
    let rows = text.lines().skip(1);
    rows.map(|row| row.split(',').map(str::to_owned).collect())
        .collect()
}

/// The judge's own probabilities, and the ladder's, against forty-digit values from outside.
#[test]
fn the_pmf_is_the_published_one() {
    for row in reference("discrete_gaussian_pmf.csv") {
        let [std_dev, x, pmf, tail] = [0, 1, 2, 3].map(|i| row[i].parse::<f64>().unwrap());
        let reach = (40.0 * std_dev) as i64 + 2;
        let mass: f64 = (-reach..=reach).map(|y| weight(y as f64, std_dev)).sum();
        let p = weight(x, std_dev) / mass;
        assert!((p / pmf - 1.0).abs() < 1e-13, "std_dev {std_dev}, x {x}");
        let from: f64 = (x as i64..=reach)
            .rev()
            .map(|y| weight(y as f64, std_dev))
            .sum();
        assert!((from / mass / tail - 1.0).abs() < 1e-12, "tail at {x}");
        if std_dev > 50.0 {
            continue;
        }
        // One rung: the table itself is the distribution.
        let ladder = LadderGaussian::new(std_dev).unwrap();
        if ladder.multipliers().len() == 1
            && let Some(drawn) = ladder.probability(x as usize)
        {
            let folded = if x == 0.0 { pmf } else { 2.0 * pmf };
            let slack = 1e-13 * folded + 1e-30;
            assert!((drawn - folded).abs() < slack, "std_dev {std_dev}, x {x}");
        }
    }
}

#[test]
fn the_moments_are_the_published_ones() {
    for row in reference("discrete_gaussian_moments.csv") {
        let [std_dev, _, variance, fourth] = [0, 1, 2, 3].map(|i| row[i].parse::<f64>().unwrap());
        let (second, own_fourth) = moments(std_dev);
        assert!((second / variance - 1.0).abs() < 1e-9, "std_dev {std_dev}");
        assert!(
            (own_fourth / fourth - 1.0).abs() < 1e-9,
            "std_dev {std_dev}"
        );
    }
}

#[test]
fn ranges_are_refused() {
    for bad in [f64::NAN, 0.0, -1.0, 1e-4, 1e13, f64::INFINITY] {
        assert!(DiscreteGaussian::new(bad).is_err());
        assert!(LadderGaussian::new(bad).is_err());
    }
    for good in [1e-3, 1.0, 1_099_511_627_776.0] {
        assert!(DiscreteGaussian::new(good).is_ok());
        assert!(LadderGaussian::new(good).is_ok());
    }
    let one = BigUint::from(1u32);
    let zero = BigUint::ZERO;
    for (n, d) in [
        (zero.clone(), one.clone()),
        (one.clone(), zero),
        ((&one << 80u32) + 1u32, one.clone()),
        (one.clone(), &one << 4096u32),
    ] {
        assert!(RationalGaussian::new(n, d).is_err());
    }
    assert!(RationalGaussian::new(&one << 80u32, one.clone()).is_ok());
    assert!(RationalGaussian::new(one.clone(), &one << 4095u32).is_ok());
}

#[test]
fn tiny_parameters_give_zeros() {
    let table = DiscreteGaussian::new(1e-3).unwrap();
    let narrow = RationalGaussian::new(1u32.into(), BigUint::from(1u32) << 4000u32).unwrap();
    let zeros = draws(1000, 3, |rng| {
        table.sample_vartime(rng) | narrow.sample_vartime(rng)
    });
    assert!(zeros.iter().all(|&x| x == 0));
    let mut out = vec![1; 3000];
    let ladder = LadderGaussian::new(1e-3).unwrap();
    ladder.fill(&mut out, &mut ChaCha20Rng::seed_from_u64(3));
    assert!(out.iter().all(|&x| x == 0));
}
