//! Times of the kernels and of the steps of a protocol, at the parameters that are shipped.
//!
//! `cargo bench -p sphinx-he`. The kernels are timed on every back end of the machine, whose name
//! begins the id; the rest on the one that `SPHINX_BACKEND` names, or the best. Every benchmark
//! checks its result once before it is timed.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has no result to report"
)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::ckks::{Encoder, Level, Scale};
use sphinx_he::exact::{
    Ciphertext, Encoding, IntegerPoly, Plaintext, SeededCiphertext, Truncation,
};
use sphinx_he::ntt::NttTable;
use sphinx_he::rlwe::{Parameters, ParametersLiteral, SecretKey, Security};
use sphinx_he::sample::{ErrorSampler, Stream, uniform_row};
use sphinx_he::simd::{Backend, Kernels};
use sphinx_he::zq::{Modulus, prime::transform_primes};

fn parameters(log_n: u32, log_q: &[u32]) -> Parameters {
    let literal = ParametersLiteral {
        log_n,
        log_q: log_q.to_vec(),
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Classical128,
    };
    Parameters::new(&literal).unwrap()
}

/// The back ends that this machine has.
fn back_ends() -> impl Iterator<Item = Kernels> {
    Backend::ALL.iter().filter_map(|b| b.kernels().ok())
}

fn transforms(c: &mut Criterion) {
    for (log_n, bits) in [
        (11, 47),
        (12, 47),
        (13, 46),
        (13, 47),
        (13, 50),
        (13, 60),
        (14, 47),
    ] {
        let q = Modulus::new(transform_primes(bits, log_n, 1, &[]).unwrap()[0]).unwrap();
        let table = NttTable::new(q, log_n).unwrap();
        let mut row: Vec<u64> = (0..1 << log_n).map(|i| q.reduce(i * i)).collect();
        let start = row.clone();
        for kernels in back_ends() {
            table.forward_with(kernels, &mut row);
            table.inverse_with(kernels, &mut row);
            assert_eq!(row, start);
            let (backend, n) = (kernels.backend(), 1 << log_n);
            c.bench_function(&format!("{backend}/ntt forward/{bits} bits/{n}"), |b| {
                b.iter(|| table.forward_with(kernels, black_box(&mut row)));
            });
            c.bench_function(&format!("{backend}/ntt inverse/{bits} bits/{n}"), |b| {
                b.iter(|| table.inverse_with(kernels, black_box(&mut row)));
            });
            row.clone_from(&start);
        }
    }
}

fn row_kernels(c: &mut Criterion) {
    let q = Modulus::new(transform_primes(47, 12, 2, &[]).unwrap()[0]).unwrap();
    let to = Modulus::new(transform_primes(42, 12, 1, &[]).unwrap()[0]).unwrap();
    let row = |step: u64| -> Vec<u64> {
        (0..4096u64)
            .map(|i| q.reduce((i + 1).wrapping_mul(step)))
            .collect()
    };
    let (a, b) = (row(0x9e37_79b9_7f4a_7c15), row(0x5851_f42d_4c95_7f2d));
    let terms: Vec<(&[u64], &[u64])> = vec![(&a, &b); 16];
    let w = q.shoup(a[7]);
    let mut checked = a.clone();
    sphinx_he::simd::dot_add_assign(&q, &mut checked, &terms);
    for kernels in back_ends() {
        let mut x = a.clone();
        kernels.dot_add_assign(&q, &mut x, &terms);
        assert_eq!(x, checked);
        let mut time = |name: &str, f: &dyn Fn(&mut [u64])| {
            let id = format!("{}/{name}/4096", kernels.backend());
            c.bench_function(&id, |bencher| bencher.iter(|| f(black_box(&mut x))));
        };
        time("add", &|x| kernels.add_assign(&q, x, &b));
        time("sub", &|x| kernels.sub_assign(&q, x, &b));
        time("neg", &|x| kernels.neg_assign(&q, x));
        if kernels.backend() == Backend::Avx2 {
            continue; // the rest is the scalar code
        }
        time("mul", &|x| kernels.mul_assign(&q, x, &b));
        time("mul_add", &|x| kernels.mul_add_assign(&q, x, &a, &b));
        time("dot of 16", &|x| kernels.dot_add_assign(&q, x, &terms));
        time("scale", &|x| kernels.scale_assign(&q, x, w));
        time("sub_scale", &|x| kernels.sub_scale_assign(&q, x, &b, w));
        time("centred_to", &|x| kernels.centred_to(&q, &to, x, &a));
    }
}

fn samplers(c: &mut Criterion) {
    let mut stream = Stream::new("bench", &[0; 32], &[0; 32]);
    let q = Modulus::new(transform_primes(47, 12, 1, &[]).unwrap()[0]).unwrap();
    let mut row = vec![0; 4096];
    c.bench_function("sample/uniform row/4096", |b| {
        b.iter(|| uniform_row(&mut stream, 0, &q, black_box(&mut row)));
    });
    let sampler = ErrorSampler::new(3.2);
    let mut errors = vec![0; 4096];
    c.bench_function("sample/errors/4096", |b| {
        b.iter(|| sampler.fill(&mut stream, black_box(&mut errors)));
    });
}

fn exact(c: &mut Criterion) {
    let p = parameters(12, &[47, 42]);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let secret = SecretKey::generate(&p, &mut rng);
    let values: Vec<i64> = (0..4096).map(|i| (i * 37) % 255 - 127).collect();
    let (dx, dd) = (Encoding::scaled(1 << 28), Encoding::scaled(1 << 30));
    let encode = |e| Plaintext::encode(&p, 1, &values, e).unwrap();
    let x = SeededCiphertext::encrypt(&encode(dx), &secret, &mut rng).unwrap();
    let d = SeededCiphertext::encrypt(&encode(dd), &secret, &mut rng)
        .unwrap()
        .expand();
    let bytes = x.to_bytes();
    c.bench_function("exact/encode/4096 x 2", |b| {
        b.iter(|| black_box(encode(dx)))
    });
    let plaintext = encode(dx);
    c.bench_function("exact/encrypt seeded/4096 x 2", |b| {
        b.iter(|| SeededCiphertext::encrypt(black_box(&plaintext), &secret, &mut rng).unwrap());
    });
    c.bench_function("exact/to bytes/4096 x 2", |b| {
        b.iter(|| black_box(&x).to_bytes())
    });
    c.bench_function("exact/from bytes/4096 x 2", |b| {
        b.iter(|| SeededCiphertext::from_bytes(black_box(&bytes), &p).unwrap());
    });
    c.bench_function("exact/expand/4096 x 2", |b| {
        b.iter_batched(
            || x.clone(),
            SeededCiphertext::expand,
            BatchSize::SmallInput,
        );
    });
    let x = x.expand();
    let mut sum = Ciphertext::zero(&p, 1, 2, x.mul(&d).unwrap().encoding());
    c.bench_function("exact/add_mul/4096 x 2", |b| {
        b.iter(|| sum.add_mul(&x, &d).unwrap())
    });
    let pairs = vec![(&x, &d); 16];
    c.bench_function("exact/add_dot of 16/4096 x 2", |b| {
        b.iter(|| sum.add_dot(&pairs).unwrap())
    });
    let w = IntegerPoly::new(&p, 1, &values, 1).unwrap();
    let mut plain = Ciphertext::zero(&p, 1, 1, dx);
    c.bench_function("exact/add_mul_plain/4096 x 2", |b| {
        b.iter(|| plain.add_mul_plain(&x, &w).unwrap());
    });
    c.bench_function("exact/integer polynomial/4096 x 2", |b| {
        b.iter(|| IntegerPoly::new(&p, 1, black_box(&values), 1).unwrap());
    });
    downloads(c, &secret, &x.mul(&d).unwrap());
}

fn downloads(c: &mut Criterion, secret: &SecretKey, product: &Ciphertext) {
    let all: Vec<usize> = (0..4096).collect();
    c.bench_function("exact/drop prime/4096 x 2, degree 2", |b| {
        b.iter_batched(
            || product.clone(),
            |c| c.drop_prime().unwrap(),
            BatchSize::SmallInput,
        );
    });
    let dropped = product.clone().drop_prime().unwrap();
    c.bench_function("exact/select all/4096 x 1, degree 2", |b| {
        b.iter_batched(
            || dropped.clone(),
            |c| c.select(&all).unwrap(),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("exact/drop prime and select all/4096 x 2, degree 2", |b| {
        b.iter_batched(
            || product.clone(),
            |c| c.drop_and_select(&all, Truncation::NONE).unwrap(),
            BatchSize::SmallInput,
        );
    });
    for (name, positions) in [("32", &all[..32]), ("4096", &all)] {
        let selected = dropped.clone().select(positions).unwrap();
        c.bench_function(&format!("exact/decrypt {name}/4096 x 1, degree 2"), |b| {
            b.iter(|| black_box(&selected).decrypt(secret).unwrap());
        });
    }
}

fn slots(c: &mut Criterion) {
    let p = parameters(12, &[47, 42]);
    let encoder = Encoder::new(&p);
    let values: Vec<f64> = (0..2048).map(f64::from).collect();
    let scale = Scale::power_of_two(30);
    let plaintext = encoder.encode_real(&values, Level(1), scale).unwrap();
    let back = encoder.decode_real(&plaintext).unwrap();
    assert!(back.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-4));
    c.bench_function("ckks/encode/4096 x 2", |b| {
        b.iter(|| {
            encoder
                .encode_real(black_box(&values), Level(1), scale)
                .unwrap()
        });
    });
    c.bench_function("ckks/decode/4096 x 2", |b| {
        b.iter(|| encoder.decode_real(black_box(&plaintext)).unwrap());
    });
}

criterion_group!(benches, transforms, row_kernels, samplers, exact, slots);
criterion_main!(benches);
