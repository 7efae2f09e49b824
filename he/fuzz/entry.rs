//! What the fuzzer and the test suite feed with bytes: every reader of the crate.

use std::sync::OnceLock;

use sphinx_he::rlwe::{
    GaloisKeys, Parameters, ParametersLiteral, PublicKey, RelinearizationKey, SecretKey, Security,
};
use sphinx_he::wire::{Header, Kind};
use sphinx_he::{ckks, exact};

/// Every kind of object.
pub const KINDS: [Kind; 9] = [
    Kind::Secret,
    Kind::Seeded,
    Kind::Selected,
    Kind::SeededSlots,
    Kind::Slots,
    Kind::SelectedBare,
    Kind::Public,
    Kind::Relinearization,
    Kind::GaloisKeys,
];

/// The positions that a bare download is read at.
pub const POSITIONS: [usize; 3] = [0, 2, 9];

/// The set of parameters that bytes are read for: small, with primes of different sizes.
pub fn parameters() -> &'static Parameters {
    static PARAMETERS: OnceLock<Parameters> = OnceLock::new();
    PARAMETERS.get_or_init(|| {
        let literal = ParametersLiteral {
            log_n: 4,
            log_q: vec![47, 30],
            log_p: vec![40],
            error_std_dev: 3.2,
            security: Security::Toy,
        };
        Parameters::new(&literal).expect("a toy set")
    })
}

/// Reads `bytes` as every kind of object; with its first byte taken for a kind, also the rest
/// after a right header of that kind. Nothing may panic, and whatever is accepted must encode to
/// the bytes it was read from.
pub fn read(bytes: &[u8]) {
    read_object(bytes);
    if let Some((&first, rest)) = bytes.split_first() {
        let mut object = Vec::new();
        let header = Header {
            kind: KINDS[usize::from(first) % KINDS.len()],
            digest: parameters().digest(),
        };
        header.write(&mut object);
        object.extend_from_slice(rest);
        read_object(&object);
    }
}

fn read_object(bytes: &[u8]) {
    let p = parameters();
    if let Ok(key) = SecretKey::import_secret(bytes, p) {
        assert_eq!(*key.export_secret(), bytes);
    }
    if let Ok(upload) = exact::SeededCiphertext::from_bytes(bytes, p) {
        assert_eq!(upload.to_bytes(), bytes);
    }
    if let Ok(download) = exact::SelectedCiphertext::from_bytes(bytes, p) {
        assert_eq!(download.to_bytes(), bytes);
    }
    if let Ok(download) = exact::SelectedCiphertext::from_bytes_at(bytes, p, &POSITIONS) {
        assert_eq!(download.to_bytes_bare(), bytes);
    }
    if let Ok(upload) = ckks::SeededCiphertext::from_bytes(bytes, p) {
        assert_eq!(upload.to_bytes(), bytes);
    }
    if let Ok(ciphertext) = ckks::Ciphertext::from_bytes(bytes, p) {
        assert_eq!(ciphertext.to_bytes(), bytes);
    }
    if let Ok(key) = PublicKey::from_bytes(bytes, p) {
        assert_eq!(key.to_bytes(), bytes);
    }
    if let Ok(key) = RelinearizationKey::from_bytes(bytes, p) {
        assert_eq!(key.to_bytes(), bytes);
    }
    if let Ok(keys) = GaloisKeys::from_bytes(bytes, p) {
        assert_eq!(keys.to_bytes(), bytes);
    }
}
