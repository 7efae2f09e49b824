//! The fuzzer's entry point, fed with mutations of valid objects.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sphinx_he::ckks::{Encoder, Encryptor, Level, Scale};
use sphinx_he::exact::{Encoding, Plaintext, SeededCiphertext};
use sphinx_he::rlwe::{GaloisKeys, KeyGenerator, PublicKey, RelinearizationKey, SecretKey};
use sphinx_he::{ckks, wire};

#[path = "../../fuzz/entry.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzzer")]
mod entry;

/// One valid object of each kind.
fn objects(rng: &mut ChaCha20Rng) -> Vec<Vec<u8>> {
    let p = entry::parameters();
    let secret = SecretKey::generate(p, rng);
    let plain = Plaintext::encode(p, 1, &[3, -4, 5], Encoding::scaled(1 << 20)).unwrap();
    let seeded = SeededCiphertext::encrypt(&plain, &secret, rng).unwrap();
    let selected = seeded.clone().expand().select(&entry::POSITIONS).unwrap();
    let scale = Scale::power_of_two(20);
    let slots = Encoder::new(p)
        .encode_real(&[1.5, -2.0], Level(1), scale)
        .unwrap();
    let slots_seeded = ckks::SeededCiphertext::encrypt(&slots, &secret, rng).unwrap();
    let slots_full = Encryptor::with_secret(&secret)
        .encrypt(&slots, rng)
        .unwrap();
    let generator = KeyGenerator::new(&secret).unwrap();
    vec![
        secret.export_secret().to_vec(),
        seeded.to_bytes(),
        selected.to_bytes(),
        slots_seeded.to_bytes(),
        slots_full.to_bytes(),
        selected.to_bytes_bare(),
        generator.public(rng).to_bytes(),
        generator.relinearization(rng).unwrap().to_bytes(),
        generator.rotations(&[1, 2], rng).unwrap().to_bytes(),
    ]
}

/// Flips bits, overwrites, cuts, doubles and appends, one to four times.
fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha20Rng) {
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0xff][rng.random_range(0..4)],
            2 => bytes.truncate(at),
            3 => bytes.extend_from_within(at..),
            _ => bytes.push(rng.random()),
        }
    }
}

#[test]
fn mutated_objects_are_refused_or_read_back_the_same() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let objects = objects(&mut rng);
    for (kind, object) in objects.iter().enumerate() {
        entry::read(object);
        // the header of a right kind before the body of every object
        for first in 0..entry::KINDS.len() as u8 {
            entry::read(&[&[first], &object[wire::Header::BYTES..]].concat());
        }
        for length in 0..object.len() {
            entry::read(&object[..length]);
        }
        for _ in 0..4000 {
            let mut bytes = object.clone();
            mutate(&mut bytes, &mut rng);
            entry::read(&bytes);
            let mut body = [&[kind as u8], &object[wire::Header::BYTES..]].concat();
            mutate(&mut body, &mut rng);
            entry::read(&body);
        }
    }
    for _ in 0..2000 {
        let mut noise = vec![0; rng.random_range(0..200)];
        rng.fill_bytes(&mut noise);
        entry::read(&noise);
    }
}

#[test]
fn the_objects_are_valid() {
    // the laws of the entry point are about something: each object is read by its own reader
    let p = entry::parameters();
    let objects = objects(&mut ChaCha20Rng::seed_from_u64(2));
    for (object, kind) in objects.iter().zip(entry::KINDS) {
        assert!(wire::Reader::open(object, kind, p).is_ok());
    }
    assert!(SecretKey::import_secret(&objects[0], p).is_ok());
    assert!(SeededCiphertext::from_bytes(&objects[1], p).is_ok());
    assert!(ckks::SeededCiphertext::from_bytes(&objects[3], p).is_ok());
    assert!(ckks::Ciphertext::from_bytes(&objects[4], p).is_ok());
    assert!(PublicKey::from_bytes(&objects[6], p).is_ok());
    assert!(RelinearizationKey::from_bytes(&objects[7], p).is_ok());
    assert!(GaloisKeys::from_bytes(&objects[8], p).is_ok());
}
