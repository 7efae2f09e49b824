//! Times of secret-dependent operations on two classes of input, compared by Welch's t.
//!
//! The method is that of Reparaz, Balasch and Verbauwhede (*Dude, is my code constant time?*, DATE
//! 2017, ePrint 2016/1123): two classes of input are measured in random order, the slowest samples
//! dropped at a threshold common to both, and `|t|` above 4.5 taken for a leak. The classes are as
//! far apart as they get: the seeds whose draws are the smallest and the largest of many.
//!
//! **Deviation**, as the machine is shared: the classes come in pairs, in random order within each,
//! so that what disturbs one disturbs the other; every run works on a fresh copy, so that neither
//! class has the better place in memory; a sample is the fastest of three runs. A leak shows in every
//! round, a disturbance in some: code passes once one round of nine is below the threshold, and a
//! planted leak must be above it in five of nine. Short by default; `SPHINX_SLOW=1` takes more
//! samples.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sphinx_he::ckks::{Ciphertext as Slots, Decryptor, Encoder, Encryptor, Level, Scale};
use sphinx_he::exact::{Encoding, Plaintext, SeededCiphertext, SelectedCiphertext};
use sphinx_he::rlwe::{Parameters, ParametersLiteral, SecretKey, Security};
use sphinx_he::sample::{ErrorSampler, Stream, ternary};

/// The threshold of the method.
const LEAK: f64 = 4.5;
/// Rounds at most.
const ROUNDS: usize = 9;
/// Rounds in which a planted leak must be seen.
const MAJORITY: usize = ROUNDS / 2 + 1;
/// Runs of which the fastest is a sample.
const REPEATS: usize = 3;

fn slow() -> bool {
    std::env::var_os("SPHINX_SLOW").is_some_and(|value| value == "1")
}

/// Welch's statistic for two samples of unequal variances.
fn welch(a: &[f64], b: &[f64]) -> f64 {
    let moments = |x: &[f64]| {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    };
    let ((mean_a, error_a), (mean_b, error_b)) = (moments(a), moments(b));
    (mean_a - mean_b) / (error_a + error_b).sqrt().max(f64::MIN_POSITIVE)
}

/// `t` of one round of `samples` pairs of runs on inputs of the two classes.
fn round<T: Clone>(
    classes: &[Vec<T>; 2],
    samples: usize,
    rng: &mut ChaCha20Rng,
    run: &dyn Fn(&T),
) -> f64 {
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for i in 0..samples + samples / 10 {
        let word = rng.next_u64();
        for turn in 0..2 {
            let class = (word & 1) as usize ^ turn;
            let inputs = &classes[class];
            let input = black_box(inputs[(word >> 1) as usize % inputs.len()].clone());
            let once = |_| {
                let start = Instant::now();
                run(&input);
                start.elapsed().as_nanos() as f64
            };
            let time = (0..REPEATS).map(once).fold(f64::INFINITY, f64::min);
            if i >= samples / 10 {
                times[class].push(time);
            }
        }
    }
    let mut all = times.concat();
    all.sort_by(f64::total_cmp);
    let cut = all[all.len() * 8 / 10];
    let [a, b] = times.map(|x| x.into_iter().filter(|&t| t <= cut).collect::<Vec<_>>());
    welch(&a, &b).abs()
}

/// `|t|` of rounds with fresh draws, until `enough` of them; one measurement at a time.
fn rounds<T: Clone>(
    classes: &[Vec<T>; 2],
    samples: usize,
    run: &dyn Fn(&T),
    enough: impl Fn(&[f64]) -> bool,
) -> Vec<f64> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut t = Vec::new();
    while t.len() < ROUNDS && !enough(&t) {
        t.push(round(classes, samples, &mut rng, run));
    }
    t
}

/// Fails where every round tells the classes apart.
fn assert_even<T: Clone>(name: &str, classes: &[Vec<T>; 2], samples: usize, run: &dyn Fn(&T)) {
    let even = |t: &[f64]| t.iter().any(|&t| t < LEAK);
    let t = rounds(classes, samples, run, even);
    assert!(even(&t), "{name}: the classes differ, |t| = {t:.1?}");
}

/// Fails unless most rounds tell the classes apart.
fn assert_seen<T: Clone>(name: &str, classes: &[Vec<T>; 2], samples: usize, run: &dyn Fn(&T)) {
    let seen = |t: &[f64]| t.iter().filter(|&&t| t > LEAK).count() >= MAJORITY;
    let t = rounds(classes, samples, run, seen);
    assert!(seen(&t), "{name}: the leaky twin passed, |t| = {t:.1?}");
}

fn stream(seed: u64) -> Stream {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Stream::new("leakage", &[0; 32], &bytes)
}

/// The seeds of the smallest and the largest sum of what `draw` makes of them.
fn extreme_seeds(draw: impl Fn(u64) -> i64) -> [Vec<u64>; 2] {
    let mut seeds: Vec<u64> = (0..4000).collect();
    seeds.sort_by_key(|&seed| draw(seed));
    [seeds[..8].to_vec(), seeds[seeds.len() - 8..].to_vec()]
}

fn draw_errors(sampler: &ErrorSampler, seed: u64) -> [i64; 64] {
    let mut out = [0; 64];
    sampler.fill(&mut stream(seed), &mut out);
    out
}

fn draw_ternary(seed: u64) -> [i8; 64] {
    let mut out = [0; 64];
    ternary(&mut stream(seed), &mut out);
    out
}

/// Work that follows the values: `cost` steps for each unit.
fn walk(cost: u64, magnitudes: impl Iterator<Item = u64>) {
    for magnitude in magnitudes {
        for k in 0..cost * magnitude {
            black_box(k);
        }
    }
}

#[test]
fn the_statistic_is_welchs() {
    // a worked example: means 20.6 and 24.6, squared errors 0.26 and 0.64
    let a = [19.5, 19.5, 20.0, 21.5, 22.5];
    let b = [22.5, 23.5, 25.0, 25.0, 27.0];
    let (mean_a, mean_b) = (20.6, 24.6);
    let error = |x: &[f64], mean: f64| x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20.0;
    let expected = (mean_a - mean_b) / (error(&a, mean_a) + error(&b, mean_b)).sqrt();
    assert!((welch(&a, &b) - expected).abs() < 1e-12);
    assert!((welch(&a, &b) + 4.114_756).abs() < 1e-6);
    assert_eq!(welch(&a, &a), 0.0);
}

#[test]
fn samplers_of_secrets_keep_their_time() {
    let samples = if slow() { 40_000 } else { 2500 };
    let sampler = ErrorSampler::new(3.2);
    let size = |seed| -> i64 { draw_errors(&sampler, seed).iter().map(|x| x.abs()).sum() };
    let classes = extreme_seeds(size);
    assert_even("errors", &classes, samples, &|&seed| {
        black_box(draw_errors(&sampler, seed));
    });
    assert_seen("errors", &classes, samples, &|&seed| {
        let draws = black_box(draw_errors(&sampler, seed));
        walk(32, draws.iter().map(|x| x.unsigned_abs()));
    });
    let classes = extreme_seeds(|seed| draw_ternary(seed).iter().map(|&x| i64::from(x)).sum());
    assert_even("ternary", &classes, samples, &|&seed| {
        black_box(draw_ternary(seed));
    });
    assert_seen("ternary", &classes, samples, &|&seed| {
        let draws = black_box(draw_ternary(seed));
        walk(32, draws.iter().map(|&x| u64::from(x > 0)));
    });
}

/// Downloads and slot ciphertexts of messages of two classes: zeros, and large values.
struct Decryptions {
    secret: SecretKey,
    downloads: [Vec<SelectedCiphertext>; 2],
    slots: [Vec<Slots>; 2],
}

fn decryptions() -> Decryptions {
    let parameters = Parameters::new(&ParametersLiteral {
        log_n: 11,
        log_q: vec![50],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Classical128,
    })
    .unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let positions: Vec<usize> = (0..64).collect();
    let (scale, encoder) = (Scale::power_of_two(30), Encoder::new(&parameters));
    let download = |value: i64, rng: &mut ChaCha20Rng| {
        let plain = Plaintext::encode(&parameters, 0, &[value; 2048], Encoding::scaled(1 << 30));
        let upload = SeededCiphertext::encrypt(&plain.unwrap(), &secret, rng).unwrap();
        upload.expand().select(&positions).unwrap()
    };
    let slot = |value: f64, rng: &mut ChaCha20Rng| {
        let plain = encoder.encode_real(&[value; 1024], Level(0), scale);
        let encryptor = Encryptor::with_secret(&secret);
        encryptor.encrypt(&plain.unwrap(), rng).unwrap()
    };
    let downloads = [0, -30_000].map(|v| (0..8).map(|_| download(v, &mut rng)).collect());
    let slots = [0.0, -900.0].map(|v| (0..8).map(|_| slot(v, &mut rng)).collect());
    Decryptions {
        secret,
        downloads,
        slots,
    }
}

#[test]
fn decryption_keeps_its_time() {
    let samples = if slow() { 20_000 } else { 600 };
    let inputs = decryptions();
    let decrypt = |download: &SelectedCiphertext| download.decrypt(&inputs.secret).unwrap();
    for (class, value) in inputs.downloads.iter().zip([0, -30_000]) {
        assert_eq!(decrypt(&class[0]).keep_local(), [value; 64]);
    }
    assert_even(
        "exact decryption",
        &inputs.downloads,
        samples,
        &|download| {
            black_box(decrypt(download));
        },
    );
    assert_seen(
        "exact decryption",
        &inputs.downloads,
        samples,
        &|download| {
            let values = black_box(decrypt(download)).keep_local();
            walk(256, values.iter().map(|&x| u64::from(x != 0)));
        },
    );
    let decryptor = Decryptor::new(&inputs.secret);
    let encoder = Encoder::new(inputs.secret.parameters());
    assert_even("slot decryption", &inputs.slots, samples, &|slots| {
        black_box(decryptor.decrypt(slots).unwrap());
    });
    assert_seen("slot decryption", &inputs.slots, samples, &|slots| {
        let plain = black_box(decryptor.decrypt(slots).unwrap());
        let values = encoder.decode_real(&plain).unwrap();
        walk(256, values[..64].iter().map(|x| u64::from(x.abs() > 1.0)));
    });
}
