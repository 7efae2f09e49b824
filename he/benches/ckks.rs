//! Times of every slot operation at the parameter sets of [`sphinx_he::ckks::sets`].
//!
//! `cargo bench -p sphinx-he --bench ckks -- '^A1/'`. One group per set; the names of the
//! operations are the ids. One thread; all operations at the highest level, into memory that is
//! there already (`relinearize` and `rescale` take an unrelinearised product of the top level;
//! `rotate_hoisted` is one rotation of many, `hoist` what they share). Before anything is timed, a
//! chain of all operations is run and its largest error printed and checked.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that fails has no result to report"
)]

use std::hint::black_box;

use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::ckks::{
    Ciphertext, Complex64, Decryptor, Encoder, Encryptor, Evaluator, Plaintext, sets, sets::Set,
};
use sphinx_he::rlwe::{
    EncryptionMemory, GaloisKeys, KeyGenerator, Parameters, PublicKey, RelinearizationKey,
    SecretKey, Workspace,
};

struct Fixture {
    set: Set,
    parameters: Parameters,
    secret: SecretKey,
    public: PublicKey,
    relinearization: RelinearizationKey,
    galois: GaloisKeys,
    encoder: Encoder,
    evaluator: Evaluator,
    values: [Vec<Complex64>; 2],
    plain: [Plaintext; 2],
    rng: ChaCha20Rng,
}

impl Fixture {
    fn new(set: Set) -> Self {
        let parameters = Parameters::new(&set.literal()).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let secret = SecretKey::generate(&parameters, &mut rng);
        let generator = KeyGenerator::new(&secret).unwrap();
        let encoder = Encoder::new(&parameters);
        let value =
            |i: usize, k: usize| Complex64::cis((i * (k + 3)) as f64) * ((i % 17) as f64 / 16.0);
        let values = [0, 1].map(|k| {
            (0..encoder.slots())
                .map(|i| value(i, k))
                .collect::<Vec<_>>()
        });
        let plain = [0, 1].map(|k| encoder.encode(&values[k], set.top(), set.scale()).unwrap());
        Self {
            public: generator.public(&mut rng),
            relinearization: generator.relinearization(&mut rng).unwrap(),
            galois: generator.rotations(&[1], &mut rng).unwrap(),
            evaluator: Evaluator::new(&parameters),
            encoder,
            values,
            plain,
            secret,
            parameters,
            rng,
            set,
        }
    }

    /// Encrypt, multiply, relinearise, rescale, rotate, decrypt: the largest error of a slot.
    fn chain(&mut self, merged: bool) -> f64 {
        let mut workspace = Workspace::new(&self.parameters);
        let encryptor = Encryptor::with_public(&self.public);
        let a = encryptor.encrypt(&self.plain[0], &mut self.rng).unwrap();
        let b = Encryptor::with_secret(&self.secret)
            .encrypt(&self.plain[1], &mut self.rng)
            .unwrap();
        let (e, key) = (&self.evaluator, &self.relinearization);
        let product = if merged {
            e.mul_relin_rescale(&a, &b, key, &mut workspace).unwrap()
        } else {
            let product = e
                .relinearize(&e.mul(&a, &b).unwrap(), key, &mut workspace)
                .unwrap();
            e.rescale(product).unwrap()
        };
        let key = self.galois.rotation("bench", 1).unwrap();
        let turned = e.apply_galois(&product, key, &mut workspace).unwrap();
        let plain = Decryptor::new(&self.secret).decrypt(&turned).unwrap();
        let slots = self.encoder.decode(&plain).unwrap();
        let [x, y] = &self.values;
        let want = |j: usize| x[(j + 1) % x.len()] * y[(j + 1) % x.len()];
        let gap = |(j, z): (usize, &Complex64)| (z - want(j)).norm();
        slots.iter().enumerate().map(gap).fold(0.0, f64::max)
    }
}

fn ends(group: &mut BenchmarkGroup<'_, WallTime>, f: &mut Fixture) {
    let (slots, top, scale) = (f.encoder.slots(), f.set.top(), f.set.scale());
    let mut scratch = f.encoder.scratch();
    let mut plain = f.plain[0].clone();
    group.bench_function("encode", |b| {
        b.iter(|| {
            let values = black_box(&f.values[0]);
            f.encoder
                .encode_into(&mut plain, values, slots, top, scale, &mut scratch)
        });
    });
    let mut out = f.values[0].clone();
    group.bench_function("decode", |b| {
        b.iter(|| {
            f.encoder
                .decode_into(&mut out, black_box(&f.plain[0]), &mut scratch)
        });
    });
    let mut memory = EncryptionMemory::new(&f.parameters);
    let mut out = f.evaluator.empty(top, 1);
    for (name, encryptor) in [
        ("encrypt_sk", Encryptor::with_secret(&f.secret)),
        ("encrypt_pk", Encryptor::with_public(&f.public)),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                encryptor.encrypt_into(&mut out, black_box(&f.plain[0]), &mut f.rng, &mut memory)
            });
        });
    }
    let decryptor = Decryptor::new(&f.secret);
    group.bench_function("decrypt", |b| {
        b.iter(|| decryptor.decrypt_into(&mut plain, black_box(&out)));
    });
}

fn arithmetic(group: &mut BenchmarkGroup<'_, WallTime>, f: &mut Fixture, x: &[Ciphertext; 2]) {
    let e = &f.evaluator;
    let mut workspace = Workspace::new(&f.parameters);
    let mut out = e.empty(f.set.top(), 1);
    let [a, b] = x;
    group.bench_function("add", |t| t.iter(|| e.add_into(&mut out, black_box(a), b)));
    group.bench_function("mul_plain", |t| {
        t.iter(|| e.mul_plain_into(&mut out, black_box(a), &f.plain[1]));
    });
    let mut product = e.mul(a, b).unwrap();
    group.bench_function("mul", |t| {
        t.iter(|| e.mul_into(&mut product, black_box(a), b))
    });
    let key = &f.relinearization;
    group.bench_function("relinearize", |t| {
        t.iter(|| e.relinearize_into(&mut out, black_box(&product), key, &mut workspace));
    });
    let linear = e.relinearize(&product, key, &mut workspace).unwrap();
    let mut lower = e.rescale(linear.clone()).unwrap();
    group.bench_function("rescale", |t| {
        t.iter(|| e.rescale_into(&mut lower, black_box(&linear), &mut workspace));
    });
    group.bench_function("mul_relin_rescale", |t| {
        t.iter(|| e.mul_relin_rescale_into(&mut lower, black_box(a), b, key, &mut workspace));
    });
}

fn rotations(group: &mut BenchmarkGroup<'_, WallTime>, f: &mut Fixture, a: &Ciphertext) {
    let e = &f.evaluator;
    let mut workspace = Workspace::new(&f.parameters);
    let mut out = e.empty(f.set.top(), 1);
    let key = f.galois.rotation("bench", 1).unwrap();
    group.bench_function("rotate", |t| {
        t.iter(|| e.apply_galois_into(&mut out, black_box(a), key, &mut workspace));
    });
    let mut hoisted = e.hoist(a, key, &mut workspace).unwrap();
    group.bench_function("rotate_hoisted", |t| {
        t.iter(|| e.apply_galois_hoisted_into(&mut out, black_box(&hoisted), key, &mut workspace));
    });
    group.bench_function("hoist", |t| {
        t.iter(|| e.hoist_again(black_box(&mut hoisted), key, &mut workspace));
    });
}

fn operations(criterion: &mut Criterion) {
    for set in sets::ALL {
        let name = std::env::args().skip(1).find(|a| !a.starts_with('-'));
        // a set that the filter names no operation of need not be built
        let wanted = name.is_none_or(|filter| {
            let filter = filter.trim_start_matches('^');
            filter
                .split('/')
                .next()
                .is_none_or(|group| group == set.name || !filter.contains('/'))
        });
        if !wanted {
            continue;
        }
        let mut f = Fixture::new(set);
        for merged in [false, true] {
            let (error, limit) = (f.chain(merged), (20.0 - f64::from(set.log_scale)).exp2());
            println!("{}: largest error {error:.2e} (merged: {merged})", set.name);
            assert!(error < limit);
        }
        println!(
            "{}: relinearisation key {} bytes, workspace {}",
            set.name,
            f.relinearization.switching().memory(),
            Workspace::new(&f.parameters).memory()
        );
        let mut group = criterion.benchmark_group(set.name);
        ends(&mut group, &mut f);
        let encryptor = Encryptor::with_secret(&f.secret);
        let x = [0, 1].map(|k| encryptor.encrypt(&f.plain[k], &mut f.rng).unwrap());
        arithmetic(&mut group, &mut f, &x);
        rotations(&mut group, &mut f, &x[0]);
        group.finish();
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
