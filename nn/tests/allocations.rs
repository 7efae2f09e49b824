//! What the inner loops promise to allocate: nothing for one image, and for a training step only the
//! vectors that it returns, however many samples and layers there are.
#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

use allocation_counter::{AllocationInfo, measure};
use sphinx_nn::clear::{Clear, ClearConfig};
use sphinx_nn::engine::Train;
use sphinx_nn::network::{ImageShape, Network};
use sphinx_nn::prepared::Predictor;
use sphinx_nn::tensor::Tensor;
use sphinx_nn::{architectures, init, pass};

/// Losses, hits, norms and the sum of a pass; the list it stands in; its integers and their norms; the mean
/// that is applied.
const RETURNED: u64 = 8;

/// On a pool of one thread, so that the counter, which counts its own thread, sees all of the work.
fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    pool.build().unwrap().install(work)
}

fn minionn() -> Network {
    let input = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    Network::new(&architectures::by_name("minionn-mnist", input, 10).unwrap()).unwrap()
}

/// The third of three steps over `rows` rows, beginning to end; the first two fill what is kept.
fn third_step(rows: usize) -> AllocationInfo {
    let network = minionn();
    let config = ClearConfig {
        clip_bound: Some(1.0),
        momentum: 0.9,
        ..ClearConfig::default()
    };
    let mut engine = Clear::new(&network, init::glorot(&network, 1), config).unwrap();
    let pixels = (0..rows * 784).map(|i| (i % 251) as f32 / 251.0).collect();
    let x = Tensor::from_vec(rows, 784, pixels).unwrap();
    let labels: Vec<_> = (0..rows).map(|i| Some((i % 10) as u8)).collect();
    let mut step = |index| {
        engine.begin(index, rows).unwrap();
        let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
        let sum = engine.collect(pass.pending).unwrap();
        engine.apply(&sum.values, sum.shift).unwrap();
    };
    alone(|| {
        step(0);
        step(1);
        measure(|| step(2))
    })
}

#[test]
fn a_step_allocates_what_it_returns_and_nothing_else() {
    let [few, many] = [64, 512].map(third_step);
    assert!(few.count_total <= RETURNED, "{few:?}");
    assert_eq!(few.count_total, many.count_total, "{few:?} {many:?}");
    // 33,536 parameters as f32 twice and as i64; per row two f64, a bool and a u128. The first layer's output
    // of 512 rows alone would be 19 MB.
    assert!(many.bytes_total < 33_536 * 16 + 512 * 40, "{many:?}");
}

#[test]
fn one_image_allocates_nothing() {
    let network = minionn();
    let mut predictor = Predictor::new(&network, &init::glorot(&network, 1)).unwrap();
    let image = vec![0.25; 784];
    alone(|| {
        let first = predictor.logits(&image).unwrap()[0];
        let counted = measure(|| assert_eq!(predictor.logits(&image).unwrap()[0], first));
        assert_eq!(counted.count_total, 0, "{counted:?}");
    });
}

#[test]
fn the_counter_counts_in_the_pool() {
    let counted = alone(|| measure(|| drop(std::hint::black_box(vec![0_u64; 32]))));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 256));
}
