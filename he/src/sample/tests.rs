use super::*;

fn stream(seed: u8) -> Stream {
    Stream::new("test", &[1; 32], &[seed; 32])
}

/// Pearson's statistic for counts against probabilities.
fn chi_square(counts: &[f64], probabilities: &[f64]) -> f64 {
    let total: f64 = counts.iter().sum();
    counts
        .iter()
        .zip(probabilities)
        .map(|(c, p)| (c - total * p).powi(2) / (total * p))
        .sum()
}

/// Cells -b..=b and the two tails, with their exact probabilities by direct summation.
fn gaussian_cells(std_dev: f64, border: i64) -> Vec<f64> {
    let weight = |x: i64| (-(x as f64).powi(2) / (2.0 * std_dev * std_dev)).exp();
    let total: f64 = (-2000..=2000).map(weight).sum();
    let mut cells: Vec<f64> = (-border..=border).map(|x| weight(x) / total).collect();
    let tail: f64 = (border + 1..=2000).map(weight).sum::<f64>() / total;
    cells.extend([tail, tail]);
    cells
}

fn gaussian_counts(draws: &[i64], border: i64) -> Vec<f64> {
    let mut counts = vec![0.0; 2 * border as usize + 3];
    for &x in draws {
        let cell = match x {
            _ if x < -border => 2 * border + 2,
            _ if x > border => 2 * border + 1,
            _ => x + border,
        };
        counts[cell as usize] += 1.0;
    }
    counts
}

#[test]
fn errors_are_discrete_gaussian() {
    for (std_dev, border, seed) in [(3.2, 11, 1), (0.7, 2, 2), (20.0, 60, 3)] {
        let mut draws = vec![0; 1 << 19];
        ErrorSampler::new(std_dev).fill(&mut stream(seed), &mut draws);
        let cells = gaussian_cells(std_dev, border);
        let statistic = chi_square(&gaussian_counts(&draws, border), &cells);
        let freedom = cells.len() as f64 - 1.0;
        // five standard deviations of the statistic
        assert!(
            statistic < freedom + 5.0 * (2.0 * freedom).sqrt(),
            "{std_dev}: {statistic}"
        );
    }
}

#[test]
fn the_test_catches_subtly_wrong_samplers() {
    let border = 11;
    let cells = gaussian_cells(3.2, border);
    let limit = cells.len() as f64 - 1.0 + 5.0 * (2.0 * cells.len() as f64).sqrt();
    let statistic = |draws: &[i64]| chi_square(&gaussian_counts(draws, border), &cells);
    let mut draws = vec![0; 1 << 22];
    ErrorSampler::new(3.2).fill(&mut stream(1), &mut draws);
    assert!(statistic(&draws) < limit);
    // two per cent too wide
    ErrorSampler::new(3.264).fill(&mut stream(1), &mut draws);
    assert!(statistic(&draws) > limit);
    // rounding a continuous Gaussian: variance sigma^2 + 1/12, not the discrete Gaussian
    ErrorSampler::new((3.2f64.powi(2) + 1.0 / 12.0).sqrt()).fill(&mut stream(1), &mut draws);
    assert!(statistic(&draws) > limit);
    // the sign applied so that zero is drawn half as often
    ErrorSampler::new(3.2).fill(&mut stream(1), &mut draws);
    for (i, x) in draws.iter_mut().enumerate() {
        *x += i64::from(*x == 0 && i % 2 == 0);
    }
    assert!(statistic(&draws) > limit);
}

#[test]
fn tails_are_those_of_the_distribution() {
    let sampler = ErrorSampler::new(3.2);
    let weight = |x: i64| (-(x as f64).powi(2) / (2.0 * 3.2 * 3.2)).exp();
    let total: f64 = (-200..=200).map(weight).sum();
    let exact = |k: i64| 2.0 * (k..=200).map(weight).sum::<f64>() / total;
    let kept = |k: i64| {
        sampler
            .tails
            .get(k as usize - 1)
            .map_or(0.0, |&t| t as f64 / 2f64.powi(63))
    };
    let mut divergence = 0.0;
    for k in 1..=sampler.largest() as i64 {
        let slack = 2f64.powi(-63) + exact(k) * 2f64.powi(-45);
        assert!((kept(k) - exact(k)).abs() < slack, "{k}");
        let (p, q) = (exact(k) - exact(k + 1), kept(k) - kept(k + 1));
        divergence += (p - q).powi(2) / p;
    }
    assert!(divergence < 2f64.powi(-58), "{divergence:e}");
    assert!(sampler.tails.is_sorted_by(|a, b| a > b));
    assert!(sampler.largest() >= 28 && sampler.largest() <= 32);
    // extreme words reach both ends of the table
    let mut out = [0; 3];
    sampler.invert(&[0, 1, u64::MAX], &mut out);
    assert_eq!(
        out,
        [sampler.largest() as i64, -(sampler.largest() as i64), 0]
    );
}

#[test]
fn secrets_are_uniform_ternary() {
    let mut draws = vec![0i8; 1 << 19];
    ternary(&mut stream(4), &mut draws);
    let count = |x: i8| draws.iter().filter(|&&y| y == x).count() as f64;
    let third = [1.0 / 3.0; 3];
    assert!(chi_square(&[count(-1), count(0), count(1)], &third) < 20.0);
    assert_eq!(count(-1) + count(0) + count(1), draws.len() as f64);
    // pairs are independent
    let mut pairs = [0.0; 9];
    for pair in draws.as_chunks::<2>().0 {
        pairs[(3 * (pair[0] + 1) + pair[1] + 1) as usize] += 1.0;
    }
    assert!(chi_square(&pairs, &[1.0 / 9.0; 9]) < 8.0 + 5.0 * 4.0);
}

#[test]
fn masks_are_uniform_residues() {
    // worst case for rejection: a modulus just above a power of two
    for value in [(1u64 << 20) + 7, (1 << 21) - 9, 97] {
        let q = Modulus::new(value).unwrap();
        let mut row = vec![0; 1 << 18];
        uniform_row(&mut stream(5), 3, &q, &mut row);
        assert!(row.iter().all(|&x| x < value));
        let bins = 97usize;
        let mut counts = vec![0.0; bins];
        let mut widths = vec![0.0; bins];
        (0..value).for_each(|x| widths[(x * bins as u64 / value) as usize] += 1.0 / value as f64);
        row.iter()
            .for_each(|&x| counts[(x * bins as u64 / value) as usize] += 1.0);
        let statistic = chi_square(&counts, &widths);
        assert!(
            statistic < 96.0 + 5.0 * (2.0 * 96.0f64).sqrt(),
            "{value}: {statistic}"
        );
    }
}

#[test]
fn reduction_instead_of_rejection_is_caught() {
    // 21-bit words modulo q = 1.5 * 2^20: the lower third is hit twice as often as the rest
    let q = Modulus::new(3 * (1 << 19) + 1).unwrap();
    let third = |row: &[u64]| {
        let low = row.iter().filter(|&&x| x < q.value() / 3).count() as f64;
        let p = (q.value() / 3) as f64 / q.value() as f64;
        chi_square(&[low, row.len() as f64 - low], &[p, 1.0 - p])
    };
    let mut row = vec![0; 1 << 12];
    uniform_row(&mut stream(6), 0, &q, &mut row);
    assert!(third(&row) < 16.0);
    let mut words = [0; CHUNK];
    let mut source = stream(6);
    source.words(&mut words);
    let folded: Vec<u64> = words.iter().map(|word| q.reduce(word >> 43)).collect();
    assert!(third(&folded) > 16.0);
}

#[test]
fn streams_are_separated_and_repeatable() {
    let q = Modulus::new((1 << 47) - 115).unwrap();
    let draw = |label: &str, digest: u8, seed: u8, index: u64| {
        let mut row = vec![0; 100];
        let mut stream = Stream::new(label, &[digest; 32], &[seed; 32]);
        uniform_row(&mut stream, index, &q, &mut row);
        row
    };
    let first = draw("a", 0, 0, 0);
    assert_eq!(first, draw("a", 0, 0, 0));
    for other in [
        draw("b", 0, 0, 0),
        draw("a", 1, 0, 0),
        draw("a", 0, 1, 0),
        draw("a", 0, 0, 1),
    ] {
        assert!(first.iter().zip(&other).all(|(x, y)| x != y));
    }
}

#[test]
fn streams_are_aes_in_counter_mode() {
    // from OpenSSL's aes-256-ecb and an independent implementation of the samplers
    let mut stream = Stream::new("test", &[1; 32], &[9; 32]);
    stream.select(7);
    let mut words = [0; CHUNK];
    stream.words(&mut words);
    stream.words(&mut words);
    assert_eq!(
        words[..4],
        [
            0x8648_f978_e8f2_34f8,
            0x09e7_52fa_3b99_1b9d,
            0x295c_d978_c2ff_2a1e,
            0x4e30_baf1_bedc_e55c
        ]
    );
    let mut row = [0; 255];
    uniform_row(&mut stream, 3, &Modulus::new(97).unwrap(), &mut row);
    let first = [25, 60, 87, 72, 79, 83, 59, 27, 5, 41, 80, 73];
    assert_eq!(
        (&row[..12], &row[250..254]),
        (&first[..], &[51, 8, 10, 72][..])
    );
    let q = Modulus::new((1 << 47) - 115).unwrap();
    uniform_row(&mut stream, 2, &q, &mut row);
    assert_eq!(
        row[..3],
        [0x44c3_1e36_47b9, 0x4e9d_671e_aecf, 0x6bab_0bc4_8b00]
    );
    stream.select(0);
    let mut secret = [0; 16];
    ternary(&mut stream, &mut secret);
    assert_eq!(
        secret,
        [1, -1, -1, 0, 0, 0, 0, -1, -1, 0, 1, -1, -1, 1, -1, 0]
    );
    stream.select(0);
    let mut errors = [0; 24];
    ErrorSampler::new(3.2).fill(&mut stream, &mut errors);
    let expected = [
        -1, -5, 6, -3, 2, 2, 2, -4, -4, -3, 0, 4, 3, 1, -3, -2, 0, -3, 1, 0, 2, 4, -1, -5,
    ];
    assert_eq!(errors, expected);
}
