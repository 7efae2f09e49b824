//! What is secret is gone once it is dropped, and neither printed nor serialised before.
//!
//! The first is looked for in the memory of this process itself: `/proc/self/mem` is searched for a
//! piece of the secret, which the test keeps masked, while the owner lives (it must be found, so that
//! the search can see) and after it was dropped (it must not). A planted copy that nobody erases must
//! still be found then. Linux only.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sphinx_he::ckks::{
    self, Complex64, Decryptor, Encoder, EncoderScratch, Encryptor, Level, Scale,
};
use sphinx_he::exact::{self, Decrypted, Encoding, SeededCiphertext};
use sphinx_he::ntt::NttTable;
use sphinx_he::rlwe::{EncryptionMemory, Parameters, ParametersLiteral, SecretKey, Security};
use sphinx_he::sample::{SEED_BYTES, Stream};
use sphinx_he::zq::Modulus;
use zeroize::{ZeroizeOnDrop, Zeroizing};

const DEGREE: usize = 2048;
/// Words of a piece.
const WORDS: usize = 8;
const MASK: u64 = 0x5bd1_e995_9e37_79b9;

/// A piece of a secret, masked, so that it is not itself what is searched for.
struct Piece(Vec<u64>);

impl Piece {
    /// From three quarters of the way on, where no allocator writes its notes.
    fn of(words: &[u64]) -> Self {
        let from = words.len() / 4 * 3;
        let piece = &words[from..from + WORDS];
        assert!(piece.iter().any(|&x| x != piece[0]), "a piece says nothing");
        Self(piece.iter().map(|x| x ^ MASK).collect())
    }

    fn of_signed(words: &[i64]) -> Self {
        let words: Zeroizing<Vec<u64>> = Zeroizing::new(words.iter().map(|x| *x as u64).collect());
        Self::of(&words)
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let words = bytes.as_chunks().0.iter().map(|x| u64::from_le_bytes(*x));
        let words: Zeroizing<Vec<u64>> = Zeroizing::new(words.collect());
        Self::of(&words)
    }

    fn begins(&self, words: &[[u8; 8]]) -> bool {
        let mut pairs = self.0.iter().zip(words);
        words.len() >= WORDS && pairs.all(|(x, y)| *x ^ MASK == u64::from_le_bytes(*y))
    }
}

/// One search at a time, as a window holds what another would find.
static ALONE: Mutex<()> = Mutex::new(());

/// The memory of this process; allocates nothing after it was made.
struct Memory {
    _alone: MutexGuard<'static, ()>,
    maps: String,
    window: Vec<u8>,
    words: File,
}

impl Memory {
    fn new() -> Self {
        Self {
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
            maps: String::with_capacity(1 << 20),
            window: vec![0; 1 << 16],
            words: File::open("/proc/self/mem").unwrap(),
        }
    }

    /// How often the piece stands in memory that can be written, the window left out.
    fn count(&mut self, piece: &Piece) -> usize {
        self.maps.clear();
        let mut file = File::open("/proc/self/maps").unwrap();
        file.read_to_string(&mut self.maps).unwrap();
        let own = self.window.as_ptr() as u64;
        let own = own..own + self.window.len() as u64;
        let mut found = 0;
        for line in self.maps.lines().filter(|line| line.contains(" rw")) {
            let (range, _) = line.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            let [mut at, to] = [from, to].map(|x| u64::from_str_radix(x, 16).unwrap());
            while at < to {
                let wanted = self.window.len().min((to - at) as usize);
                // a region that another thread has given back meanwhile
                let Ok(got) = self.words.read_at(&mut self.window[..wanted], at) else {
                    break;
                };
                let words = self.window[..got].as_chunks::<8>().0;
                let starts = (0..words.len()).filter(|&i| piece.begins(&words[i..]));
                let outside = |&i: &usize| !own.contains(&(at + 8 * i as u64));
                found += starts.filter(outside).count();
                // windows overlap by a piece, but for the last one
                let step = if at + got as u64 == to {
                    got
                } else {
                    got - 8 * (WORDS - 1)
                };
                if got < 8 * WORDS {
                    break;
                }
                at += step as u64;
            }
        }
        self.window.fill(0);
        found
    }
}

/// The pieces are in memory until the owner is dropped, and nowhere after.
fn assert_erased<T>(name: &str, owner: T, pieces: &[(&str, Piece)]) {
    let mut memory = Memory::new();
    for (what, piece) in pieces {
        assert!(memory.count(piece) > 0, "{name}: {what} was not seen");
    }
    drop(owner);
    for (what, piece) in pieces {
        assert_eq!(memory.count(piece), 0, "{name}: {what} was left behind");
    }
}

fn parameters() -> Parameters {
    Parameters::new(&ParametersLiteral {
        log_n: 11,
        log_q: vec![50],
        log_p: vec![],
        error_std_dev: 3.2,
        security: Security::Classical128,
    })
    .unwrap()
}

fn key(seed: u64) -> SecretKey {
    SecretKey::generate(&parameters(), &mut ChaCha20Rng::seed_from_u64(seed))
}

/// The coefficients out of the exported form: two bits each, after a header.
fn coefficients(exported: &[u8]) -> Zeroizing<Vec<i8>> {
    let packed = &exported[exported.len() - DEGREE / 4..];
    let digits = |byte: &u8| [0, 2, 4, 6].map(|shift| ((byte >> shift) & 3) as i8 - 1);
    let mut out = Zeroizing::new(Vec::with_capacity(DEGREE));
    packed.iter().for_each(|byte| out.extend(digits(byte)));
    out
}

/// The only modulus and its transform.
fn transform() -> (Modulus, NttTable) {
    let q = parameters().moduli()[0];
    (q, NttTable::new(q, 11).unwrap())
}

#[test]
fn secret_keys_are_erased() {
    let key = key(1);
    let exported = key.export_secret();
    let bytes = Piece::of_bytes(&exported);
    let small = coefficients(&exported);
    let (q, table) = transform();
    let mut s = Zeroizing::new(Vec::with_capacity(DEGREE));
    s.extend(
        small
            .iter()
            .map(|&x| q.reduce(q.value() - 1 + (x + 1) as u64)),
    );
    let wide = Zeroizing::new(small.iter().map(|&x| i64::from(x)).collect::<Vec<_>>());
    let widened = Piece::of_signed(&wide);
    drop(wide);
    let mut square = s.clone();
    table.forward(&mut s);
    table.forward(&mut square);
    square.iter_mut().for_each(|x| *x = q.mul(*x, *x));
    let bare = Zeroizing::new(small.iter().map(|&x| x as u8).collect::<Vec<_>>());
    let pieces = [
        ("the coefficients", Piece::of_bytes(&bare)),
        ("s", Piece::of(&s)),
        ("its square", Piece::of(&square)),
    ];
    drop((small, bare, s, square));
    // a temporary of the key's making, gone before the key is
    assert_eq!(Memory::new().count(&widened), 0, "widened coefficients");
    assert_erased("exported bytes", exported, &[("they", bytes)]);
    assert_erased("a secret key", key, &pieces);
}

#[test]
fn the_search_sees_a_copy_that_nobody_erases() {
    let exported = key(2).export_secret();
    let copy = exported.to_vec();
    let piece = Piece::of_bytes(&exported);
    drop(exported);
    let mut memory = Memory::new();
    assert_eq!(memory.count(&piece), 1);
    drop(std::hint::black_box(copy));
    assert_eq!(memory.count(&piece), 1, "the planted copy was not seen");
}

#[test]
fn plaintexts_are_erased() {
    let (p, secret) = (parameters(), key(3));
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let value = |i: usize| 7_919 * (i as i64 + 11) % 30_011;
    let values = Zeroizing::new((0..DEGREE).map(value).collect::<Vec<_>>());
    let scale = 3 << 20;
    let plain = exact::Plaintext::encode(&p, 0, &values, Encoding::scaled(scale)).unwrap();
    let upload = SeededCiphertext::encrypt(&plain, &secret, &mut rng).unwrap();
    let scaled: Vec<i64> = (0..DEGREE).map(|i| value(i) * scale as i64).collect();
    let piece = Piece::of_signed(&Zeroizing::new(scaled));
    assert_erased("an encoded message", plain, &[("it", piece)]);
    let positions: Vec<usize> = (0..DEGREE).collect();
    let download = upload.expand().select(&positions).unwrap();
    let piece = Piece::of_signed(&values);
    drop(values);
    let decrypted = download.decrypt(&secret).unwrap();
    assert_erased("decrypted values", decrypted, &[("they", piece)]);
}

#[test]
fn slots_and_the_memory_behind_them_are_erased() {
    let (p, secret) = (parameters(), key(5));
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let encoder = Encoder::new(&p);
    let (mut scratch, scale) = (encoder.scratch(), Scale::power_of_two(30));
    let value = |i: usize| Complex64::new((i % 97) as f64 / 97.0, (i % 89) as f64 / 89.0);
    let values: Vec<Complex64> = (0..encoder.slots()).map(value).collect();
    let mut plain = ckks::Plaintext::zero(&p, Level(0)).unwrap();
    encoder
        .encode_into(
            &mut plain,
            &values,
            values.len(),
            Level(0),
            scale,
            &mut scratch,
        )
        .unwrap();
    let (q, table) = transform();
    let centred = |plain: &ckks::Plaintext| {
        let mut row = Zeroizing::new(plain.polynomial().row(0).to_vec());
        table.inverse(&mut row);
        Zeroizing::new(row.iter().map(|&x| q.centre(x)).collect::<Vec<i64>>())
    };
    let piece = Piece::of_signed(&centred(&plain));
    assert_erased(
        "memory of encoding",
        scratch,
        &[("the coefficients", piece)],
    );
    let piece = Piece::of(plain.polynomial().row(0));
    assert_erased("encoded slots", plain, &[("they", piece)]);

    // the error of an encryption of zero is what decryption finds
    let zero = ckks::Plaintext::zero(&p, Level(0)).unwrap();
    let mut memory = EncryptionMemory::new(&p);
    let mut out = Encryptor::with_secret(&secret)
        .encrypt(&zero, &mut rng)
        .unwrap();
    Encryptor::with_secret(&secret)
        .encrypt_into(&mut out, &zero, &mut rng, &mut memory)
        .unwrap();
    let found = Decryptor::new(&secret).decrypt(&out).unwrap();
    let piece = Piece::of_signed(&centred(&found));
    drop(found);
    assert_erased("memory of encryption", memory, &[("the errors", piece)]);
}

#[test]
fn owners_of_secrets_promise_to_erase_them() {
    fn promise<T: ZeroizeOnDrop>() {}
    promise::<SecretKey>();
    promise::<EncryptionMemory>();
    promise::<EncoderScratch>();
    promise::<exact::Plaintext>();
    promise::<ckks::Plaintext>();
    promise::<Decrypted<i64>>();
    // the round keys of the generator
    promise::<aes::Aes256>();
}

#[test]
fn secrets_are_not_serialised() {
    /// Has two ways to be called where `T: Serialize`, which does not compile.
    trait Once<Way> {
        fn once() {}
    }
    struct Serialised;
    impl<T: ?Sized> Once<()> for T {}
    impl<T: ?Sized + serde::Serialize> Once<Serialised> for T {}
    <SecretKey as Once<_>>::once();
    <EncryptionMemory as Once<_>>::once();
    <EncoderScratch as Once<_>>::once();
    <exact::Plaintext as Once<_>>::once();
    <ckks::Plaintext as Once<_>>::once();
    <Decrypted<i64> as Once<_>>::once();
    <Stream as Once<_>>::once();
}

#[test]
fn what_is_printed_of_secrets_does_not_depend_on_them() {
    let p = parameters();
    assert_eq!(format!("{:?}", key(7)), format!("{:?}", key(8)));
    let stream = |seed: u8| Stream::new("printed", &[0; 32], &[seed; SEED_BYTES]);
    assert_eq!(format!("{:?}", stream(1)), format!("{:?}", stream(2)));
    let encoder = Encoder::new(&p);
    let slots = |value: f64| {
        let values = vec![value; encoder.slots()];
        encoder
            .encode_real(&values, Level(0), Scale::power_of_two(30))
            .unwrap()
    };
    assert_eq!(format!("{:?}", slots(0.25)), format!("{:?}", slots(-7.0)));
    let secret = key(9);
    let exact = |value: i64| {
        let mut rng = ChaCha20Rng::seed_from_u64(10);
        let plain = exact::Plaintext::encode(&p, 0, &[value; 64], Encoding::scaled(1 << 30));
        let plain = plain.unwrap();
        let upload = SeededCiphertext::encrypt(&plain, &secret, &mut rng).unwrap();
        let download = upload.expand().select(&[0, 1]).unwrap();
        let decrypted = download.decrypt(&secret).unwrap();
        format!("{plain:?} {decrypted:?}")
    };
    assert_eq!(exact(5), exact(-30_000));
}
