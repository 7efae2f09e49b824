//! Speed of the three samplers, in draws a second on one core.
//!
//! Run with `cargo bench -p sphinx-dp --bench noise`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use num_bigint::BigUint;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_dp::{DiscreteGaussian, LadderGaussian, RangeError, RationalGaussian};

/// Draws per measured call.
const DRAWS: usize = 1 << 14;

fn samplers(c: &mut Criterion) -> Result<(), RangeError> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut out = vec![0i64; DRAWS];
    let mut group = c.benchmark_group("noise");
    group.throughput(Throughput::Elements(DRAWS as u64));
    for log in [7u32, 20, 36] {
        let std_dev = f64::from(log).exp2();
        let ladder = LadderGaussian::new(std_dev)?;
        group.bench_function(format!("constant time, std_dev 2^{log}"), |b| {
            b.iter(|| ladder.fill(&mut out, &mut rng));
        });
        let portable = ladder.clone().portable();
        group.bench_function(format!("constant time, no AVX, std_dev 2^{log}"), |b| {
            b.iter(|| portable.fill(&mut out, &mut rng));
        });
        let table = DiscreteGaussian::new(std_dev)?;
        group.bench_function(format!("exact table, std_dev 2^{log}"), |b| {
            b.iter(|| out.fill_with(|| table.sample_vartime(&mut rng)));
        });
        let variance = BigUint::from(3u32) << (2 * log);
        let rational = RationalGaussian::new(variance, 3u32.into())?;
        group.bench_function(format!("exact rational, std_dev 2^{log}"), |b| {
            b.iter(|| out.fill_with(|| rational.sample_vartime(&mut rng)));
        });
    }
    group.finish();
    c.bench_function("make a ladder for 2^20", |b| {
        b.iter(|| LadderGaussian::new(1_048_576.0));
    });
    Ok(())
}

fn all(c: &mut Criterion) {
    let done = samplers(c);
    assert!(done.is_ok(), "benchmark parameters are in range");
}

criterion_group!(benches, all);
criterion_main!(benches);
