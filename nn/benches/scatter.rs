//! The scattering transform per image, in batches of 128.
//!
//! `cargo bench -p sphinx-nn --bench scatter`; set `RAYON_NUM_THREADS=1` for one core.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sphinx_nn::scatter::{ScatterSettings, Scattering};
use sphinx_nn::{ImageShape, Tensor};
use std::hint::black_box;

fn scatter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scatter");
    for (name, channels, side) in [("28x28", 1, 28), ("32x32x3", 3, 32)] {
        let input = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let Ok(scattering) = Scattering::new(input, ScatterSettings::default()) else {
            return;
        };
        for rows in [128, 1] {
            let values = (0..rows * channels * side * side).map(|i| (i * 31 % 256) as f32 / 255.0);
            let Ok(x) = Tensor::from_vec(rows, channels * side * side, values.collect()) else {
                return;
            };
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_function(format!("{name}, batch {rows}"), |b| {
                b.iter(|| scattering.transform(black_box(&x)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, scatter);
criterion_main!(benches);
