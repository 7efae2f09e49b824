//! The real MNIST, Fashion-MNIST and CIFAR-10, where they are at hand: in the folder that `SPHINX_DATA`
//! names, or in `shared/data` beside the repository. Without them these tests say so and pass.

use sphinx_nn::data::{self, DataError, LoadOptions};
use sphinx_nn::{Clear, ClearConfig, Network, Train, architectures, init, metrics, pass};
use std::path::{Path, PathBuf};

fn folder(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("SPHINX_DATA").map_or(beside, PathBuf::from);
    if dir.join("mnist").is_dir() && dir.join("fashion-mnist").is_dir() {
        return Some(dir);
    }
    eprintln!(
        "SKIPPED {test}: no mnist and fashion-mnist in {}; set SPHINX_DATA",
        dir.display()
    );
    None
}

#[test]
fn mnist_is_the_published_set() {
    let Some(dir) = folder("mnist_is_the_published_set") else {
        return;
    };
    let split = data::load("mnist", Some(&dir), &LoadOptions::default()).unwrap();
    assert_eq!((split.train.len(), split.test.len()), (60_000, 10_000));
    let mut counts = [0; 10];
    split
        .train
        .labels
        .iter()
        .for_each(|label| counts[usize::from(*label)] += 1);
    // Published class counts, mean and standard deviation of the training pixels.
    assert_eq!(
        counts,
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    );
    let pixels = split.train.images.as_slice();
    let n = pixels.len() as f64;
    let mean = pixels.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let square = pixels.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
    assert!((mean - 0.1307).abs() < 5e-5 && ((square - mean * mean).sqrt() - 0.3081).abs() < 5e-5);

    let architecture = architectures::by_name("mlp", split.train.shape, 10).unwrap();
    let network = Network::new(&architecture).unwrap();
    split.train.check_fits(&network).unwrap();
    let config = ClearConfig {
        clip_bound: Some(1.0),
        learning_rate: 1.0,
        momentum: 0.9,
        divisor: 512.0,
        shift: 20,
    };
    let mut engine = Clear::new(&network, init::glorot(&network, 1), config).unwrap();
    for step in 0..100_u32 {
        let rows: Vec<u32> = (0..512).map(|i| step * 512 + i).collect();
        let labels: Vec<_> = rows
            .iter()
            .map(|i| Some(split.train.labels[*i as usize]))
            .collect();
        engine.begin(u64::from(step), 512).unwrap();
        let x = split.train.images.gather(&rows, 512);
        let pass = pass::gradients(&mut engine, &network, &x, &labels).unwrap();
        let sum = engine.collect(pass.pending).unwrap();
        engine.apply(&sum.values, sum.shift).unwrap();
    }
    let logits = pass::infer(&mut engine, &network, &split.test.images).unwrap();
    let accuracy = metrics::accuracy(&logits, &split.test.labels);
    eprintln!("mnist, mlp, 100 clipped steps of 512: {accuracy:.4}");
    assert!(accuracy > 0.90, "{accuracy}");
}

#[test]
fn one_set_in_the_place_of_another_is_noticed() {
    let Some(dir) = folder("one_set_in_the_place_of_another_is_noticed") else {
        return;
    };
    let options = LoadOptions {
        train: Some(10),
        test: Some(10),
        seed: 0,
    };
    let fashion = dir.join("fashion-mnist");
    let split = data::load("fashion-mnist", Some(&fashion), &options).unwrap();
    // The first labels of the published training set: ankle boot, T-shirt, T-shirt, dress.
    assert_eq!(split.train.labels[..4], [9, 0, 0, 3]);
    let error = data::load("mnist", Some(&fashion), &options).unwrap_err();
    assert!(matches!(error, DataError::Swapped { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("found the training images of fashion-mnist"),
        "{text}"
    );
}

/// Each of the eight known files is recognised when it lies under another name.
#[test]
fn files_under_each_others_names_are_noticed() {
    let Some(dir) = folder("files_under_each_others_names_are_noticed") else {
        return;
    };
    let kinds = [
        ("images-idx3-ubyte.gz", "images"),
        ("labels-idx1-ubyte.gz", "labels"),
    ];
    for set in ["mnist", "fashion-mnist"] {
        for (wrong, _) in kinds {
            for (part, other, role, other_role) in [
                ("train", "t10k", "training", "test"),
                ("t10k", "train", "test", "training"),
            ] {
                let mixed = tempfile::tempdir().unwrap();
                for (kind, _) in kinds {
                    for name in ["train", "t10k"] {
                        let from = if (name, kind) == (part, wrong) {
                            other
                        } else {
                            name
                        };
                        let from = dir.join(set).join(format!("{from}-{kind}"));
                        std::fs::copy(from, mixed.path().join(format!("{name}-{kind}"))).unwrap();
                    }
                }
                let error = data::load(set, Some(mixed.path()), &LoadOptions::default());
                let text = error.unwrap_err().to_string();
                let what = kinds.iter().find(|kind| kind.0 == wrong).unwrap().1;
                let want = format!(
                    "expected the {role} {what} of {set}, found the {other_role} {what} of {set}"
                );
                assert!(text.contains(&want), "{text}");
            }
        }
    }
}

/// Unpacks xz, and meets the published mean and standard deviation of the training pixels.
#[test]
fn cifar10_is_the_published_set() {
    let Some(dir) = folder("cifar10_is_the_published_set") else {
        return;
    };
    if !dir.join("cifar10").is_dir() {
        eprintln!(
            "SKIPPED cifar10_is_the_published_set: no cifar10 in {}",
            dir.display()
        );
        return;
    }
    let (split, notes) = data::load_noting("cifar10", Some(&dir), &LoadOptions::default()).unwrap();
    assert_eq!((split.train.len(), split.test.len()), (50_000, 10_000));
    eprintln!("cifar10: unknown content in {:?}", notes.unknown);
    for (part, each) in [(&split.train, 5_000), (&split.test, 1_000)] {
        for class in 0..10 {
            assert_eq!(part.labels.iter().filter(|l| **l == class).count(), each);
        }
    }
    let published = [(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)];
    for (channel, (mean, deviation)) in published.into_iter().enumerate() {
        let (mut sum, mut squares) = (0.0, 0.0);
        for i in 0..split.train.len() {
            for v in &split.train.images.row(i)[channel * 1024..(channel + 1) * 1024] {
                sum += f64::from(*v);
                squares += f64::from(*v) * f64::from(*v);
            }
        }
        let n = 50_000.0 * 1024.0;
        let spread = (squares / n - (sum / n).powi(2)).sqrt();
        assert!((sum / n - mean).abs() < 1e-4 && (spread - deviation).abs() < 1e-4);
    }
}

#[test]
fn cifar10_batches_under_each_others_names_are_noticed() {
    let Some(dir) = folder("cifar10_batches_under_each_others_names_are_noticed") else {
        return;
    };
    let source = dir.join("cifar10/data_batch_2.bin.xz");
    if !source.is_file() {
        eprintln!("SKIPPED: no {}", source.display());
        return;
    }
    let mixed = tempfile::tempdir().unwrap();
    std::fs::copy(source, mixed.path().join("data_batch_1.bin.xz")).unwrap();
    let options = LoadOptions {
        train: Some(10),
        test: Some(0),
        seed: 0,
    };
    let text = data::load("cifar10", Some(mixed.path()), &options)
        .unwrap_err()
        .to_string();
    let want = "expected training batch 1 of cifar10, found training batch 2 of cifar10";
    assert!(text.contains(want), "{text}");
}
