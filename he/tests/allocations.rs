//! Operations that promise to allocate nothing are run under an allocator that counts.
#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

use allocation_counter::measure;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx_he::ckks::{Complex64, Decryptor, Encoder, Encryptor, Evaluator, sets};
use sphinx_he::ntt::NttTable;
use sphinx_he::ring::Aligned;
use sphinx_he::rlwe::{EncryptionMemory, KeyGenerator, Parameters, SecretKey, Workspace};
use sphinx_he::simd::{Backend, Kernels};
use sphinx_he::zq::{Modulus, prime::transform_primes};

/// Runs twice, so that what is made at the first use is there, and counts the second time.
fn silent(name: &str, mut run: impl FnMut()) {
    run();
    let counted = measure(run);
    assert_eq!(counted.count_total, 0, "{name}: {counted:?}");
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(vec![0u64; 32])));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 256));
}

fn kernels(kernels: Kernels, bits: u32) {
    let log_n = 8;
    let q = Modulus::new(transform_primes(bits, log_n, 1, &[]).unwrap()[0]).unwrap();
    let table = NttTable::new(q, log_n).unwrap();
    let n = table.degree();
    let [mut a, mut b, c] = [1u64, 2, 3].map(|k| {
        let mut row = Aligned::zeros(n);
        row.iter_mut().zip(k..).for_each(|(x, i)| *x = i);
        row
    });
    let name = |kernel: &str| format!("{kernel}, {bits} bits, {}", kernels.backend());
    silent(&name("transforms"), || {
        table.forward_with(kernels, &mut a);
        table.inverse_with(kernels, &mut a);
        table.forward_lazy_with(kernels, &mut b);
        b.copy_from_slice(&c);
    });
    silent(&name("sums"), || {
        kernels.add_assign(&q, &mut a, &c);
        kernels.sub_assign(&q, &mut a, &c);
        kernels.neg_assign(&q, &mut a);
    });
    silent(&name("products"), || {
        kernels.mul_assign(&q, &mut a, &c);
        kernels.mul(&q, &mut a, &b, &c);
        kernels.mul_add_assign(&q, &mut a, &b, &c);
        kernels.mul_sub_assign(&q, &mut a, &b, &c);
        kernels.dot_add_assign(&q, &mut a, &[(&b, &c), (&c, &b)]);
        kernels.scale_assign(&q, &mut a, q.shoup(3));
        kernels.sub_scale_assign(&q, &mut a, &b, q.shoup(5));
        kernels.centred_to(&q, &q, &mut a, &b);
    });
}

#[test]
fn kernels_allocate_nothing() {
    for back_end in Backend::ALL.iter().filter_map(|b| b.kernels().ok()) {
        for bits in [30, 46, 50, 60] {
            kernels(back_end, bits);
        }
    }
}

#[test]
fn operations_into_memory_that_is_there_allocate_nothing() {
    let set = sets::A3;
    let parameters = Parameters::new(&set.literal()).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&secret).unwrap();
    let public = generator.public(&mut rng);
    let relinearization = generator.relinearization(&mut rng).unwrap();
    let galois = generator.rotations(&[1], &mut rng).unwrap();
    let rotation = galois.rotation("test", 1).unwrap();
    let (e, encoder) = (Evaluator::new(&parameters), Encoder::new(&parameters));
    let mut workspace = Workspace::new(&parameters);
    let mut scratch = encoder.scratch();
    let (top, scale, slots) = (set.top(), set.scale(), encoder.slots());
    let mut values = vec![Complex64::new(0.5, -0.25); slots];
    let mut plain = encoder.encode(&values, top, scale).unwrap();
    silent("encode", || {
        let done = encoder.encode_into(&mut plain, &values, slots, top, scale, &mut scratch);
        done.unwrap();
    });
    silent("decode", || {
        encoder
            .decode_into(&mut values, &plain, &mut scratch)
            .unwrap();
    });

    let mut memory = EncryptionMemory::new(&parameters);
    let mut a = e.empty(top, 1);
    for encryptor in [
        Encryptor::with_secret(&secret),
        Encryptor::with_public(&public),
    ] {
        silent("encrypt", || {
            encryptor
                .encrypt_into(&mut a, &plain, &mut rng, &mut memory)
                .unwrap();
        });
    }
    let decryptor = Decryptor::new(&secret);
    silent("decrypt", || {
        decryptor.decrypt_into(&mut plain, &a).unwrap()
    });

    let b = a.clone();
    let mut out = e.empty(top, 1);
    silent("add", || e.add_into(&mut out, &a, &b).unwrap());
    silent("add in place", || e.add_assign(&mut out, &b).unwrap());
    silent("mul_plain", || {
        e.mul_plain_into(&mut out, &a, &plain).unwrap()
    });
    let mut product = e.mul(&a, &b).unwrap();
    silent("mul", || e.mul_into(&mut product, &a, &b).unwrap());
    let (key, w) = (&relinearization, &mut workspace);
    silent("relinearize", || {
        e.relinearize_into(&mut out, &product, key, w).unwrap()
    });
    let mut lower = e.rescale(out.clone()).unwrap();
    silent("rescale", || e.rescale_into(&mut lower, &out, w).unwrap());
    silent("merged product", || {
        e.mul_relin_rescale_into(&mut lower, &a, &b, key, w)
            .unwrap();
    });
    silent("rotate", || {
        e.apply_galois_into(&mut out, &a, rotation, w).unwrap()
    });
    let mut hoisted = e.hoist(&a, rotation, w).unwrap();
    silent("hoist", || {
        e.hoist_again(&mut hoisted, rotation, w).unwrap()
    });
    silent("rotate, hoisted", || {
        e.apply_galois_hoisted_into(&mut out, &hoisted, rotation, w)
            .unwrap();
    });
}
