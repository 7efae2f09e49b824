//! Largest resident memory of the sets of [`sphinx_he::ckks::sets`], as the system counts it.
//!
//! `cargo bench -p sphinx-he --bench memory`, or with `-- NAME` for one set. Each set runs in a
//! process of its own, as the peak of a process never falls; Linux only (`VmHWM` of
//! `/proc/self/status`). Prints mebibytes after the parameters and the secret, after the public,
//! the relinearisation and one rotation key, and after a chain of all operations; the memory that
//! encryption works in is given back before that of key switching is made. `peer_memory.py` runs the
//! same chain in other libraries.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that fails has no result to report"
)]

use std::process::Command;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::ckks::{Complex64, Decryptor, Encoder, Encryptor, Evaluator, sets, sets::Set};
use sphinx_he::rlwe::{EncryptionMemory, KeyGenerator, Parameters, SecretKey, Workspace};

/// The peak of this process, in MiB; none where the system does not tell.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

fn measure(set: Set) -> Option<[f64; 4]> {
    let start = peak()?;
    let parameters = Parameters::new(&set.literal()).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let made = peak()?;
    let generator = KeyGenerator::new(&secret).unwrap();
    let public = generator.public(&mut rng);
    let relinearization = generator.relinearization(&mut rng).unwrap();
    let galois = generator.rotations(&[1], &mut rng).unwrap();
    let keys = peak()?;

    let (e, encoder) = (Evaluator::new(&parameters), Encoder::new(&parameters));
    let values = vec![Complex64::new(0.5, -0.25); encoder.slots()];
    let plain = encoder.encode(&values, set.top(), set.scale()).unwrap();
    let [mut a, mut b, mut out] = [(); 3].map(|()| e.empty(set.top(), 1));
    let encryptor = Encryptor::with_public(&public);
    let mut memory = EncryptionMemory::new(&parameters);
    for out in [&mut a, &mut b] {
        encryptor
            .encrypt_into(out, &plain, &mut rng, &mut memory)
            .unwrap();
    }
    drop(memory);
    let mut workspace = Workspace::new(&parameters);
    let (key, rotation) = (&relinearization, galois.rotation("bench", 1).unwrap());
    let product = e.mul(&a, &b).unwrap();
    e.relinearize_into(&mut out, &product, key, &mut workspace)
        .unwrap();
    e.apply_galois_into(&mut a, &out, rotation, &mut workspace)
        .unwrap();
    let lower = e.rescale(a).unwrap();
    let plain = Decryptor::new(&secret).decrypt(&lower).unwrap();
    let got = encoder.decode(&plain).unwrap();
    let want = Complex64::new(0.1875, -0.25);
    assert!(got.iter().all(|z| (z - want).norm() < 1e-4));
    Some([start, made, keys, peak()?])
}

fn main() {
    let name = std::env::args().skip(1).find(|name| !name.starts_with('-'));
    let Some(name) = name else {
        let program = std::env::current_exe().unwrap();
        for set in sets::ALL {
            assert!(
                Command::new(&program)
                    .arg(set.name)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        return;
    };
    let set = sets::ALL.into_iter().find(|set| set.name == name).unwrap();
    match measure(set) {
        Some([start, made, keys, end]) => println!(
            "{name}: {start:.1} MiB at start, {made:.1} with parameters and secret, {keys:.1} with keys, {end:.1} after the chain"
        ),
        None => println!("{name}: the system does not tell"),
    }
}
