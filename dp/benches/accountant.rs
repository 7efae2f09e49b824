//! Times of the accountant, the calibration, the capacity and the samplers.
//!
//! Run with `cargo bench -p sphinx-dp`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_dp::{
    Accountant, AccountantKind, Adjacency, Budget, Calibrator, Delta, DiscreteGaussian, DpEvent,
    Epsilon, NoiseMultiplier, PldAccountant, PoissonSampler, RangeError, RdpAccountant,
    SamplingRate, calibrate, capacity, rdp,
};

fn accounting(c: &mut Criterion) -> Result<(), RangeError> {
    let rate = SamplingRate::from_mean(500.0, 60_000)?;
    let (delta, z) = (Delta::new(1e-5)?, NoiseMultiplier::new(1.0)?);
    let event = DpEvent::poisson_gaussian(rate, z);
    c.bench_function("rdp at order 8", |b| {
        b.iter(|| rdp::poisson_gaussian(black_box(rate.get()), 1.0, 8.0));
    });
    c.bench_function("rdp at order 8.5", |b| {
        b.iter(|| rdp::poisson_gaussian(black_box(rate.get()), 1.0, 8.5));
    });
    c.bench_function("epsilon from nothing", |b| {
        b.iter(|| {
            let mut accountant = RdpAccountant::new(Adjacency::AddRemove);
            accountant
                .compose(black_box(&event), 3000)
                .map(|()| accountant.epsilon(delta))
        });
    });
    let mut accountant = RdpAccountant::new(Adjacency::AddRemove);
    if accountant.compose(&event, 3000).is_ok() {
        c.bench_function("epsilon again", |b| {
            b.iter(|| accountant.epsilon(black_box(delta)))
        });
    }
    c.bench_function("privacy loss, epsilon from nothing", |b| {
        b.iter(|| {
            let mut accountant = PldAccountant::new(Adjacency::AddRemove);
            accountant
                .compose(black_box(&event), 3000)
                .map(|()| accountant.bracket(delta))
        });
    });
    let mut composed = PldAccountant::new(Adjacency::AddRemove);
    if composed.compose(&event, 3000).is_ok() {
        c.bench_function("privacy loss, epsilon again", |b| {
            b.iter(|| composed.bracket(black_box(delta)))
        });
    }
    let budget = Budget {
        epsilon: Epsilon::new(2.0)?,
        delta,
    };
    for accountant in AccountantKind::ALL {
        let calibrator = Calibrator {
            accountant,
            budget,
            adjacency: Adjacency::AddRemove,
        };
        c.bench_function(&format!("calibrate by {accountant}"), |b| {
            b.iter(|| calibrator.noise_multiplier(black_box(rate), 3000));
        });
    }
    c.bench_function("calibrate, replace one", |b| {
        b.iter(|| {
            calibrate::noise_multiplier(black_box(budget), rate, 3000, Adjacency::ReplaceOne)
        });
    });
    c.bench_function("capacity", |b| {
        b.iter(|| capacity::capacity(black_box(60_000), rate, 1000, 2f64.powi(-40)));
    });
    Ok(())
}

fn sampling(c: &mut Criterion) -> Result<(), RangeError> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut group = c.benchmark_group("discrete Gaussian");
    group.throughput(Throughput::Elements(1));
    for std_dev in [100.0, 262_144.0, 1e9] {
        let gaussian = DiscreteGaussian::new(std_dev)?;
        group.bench_function(format!("table, std_dev {std_dev}"), |b| {
            b.iter(|| gaussian.sample_vartime(&mut rng));
        });
        group.bench_function(format!("slow twin, std_dev {std_dev}"), |b| {
            b.iter(|| gaussian.sample_reference_vartime(&mut rng));
        });
    }
    group.finish();
    let sampler = PoissonSampler::new(SamplingRate::from_mean(500.0, 60_000)?, 688);
    c.bench_function("poisson batch of 60000", |b| {
        b.iter(|| sampler.draw(60_000, &mut rng))
    });
    Ok(())
}

fn all(c: &mut Criterion) {
    let done = accounting(c).and_then(|()| sampling(c));
    assert!(done.is_ok(), "benchmark parameters are in range");
}

criterion_group!(benches, all);
criterion_main!(benches);
