//! Canonical bytes.
//!
//! Sits above parameters and below the ciphertexts, which write themselves with it. Every object
//! begins with the same 22 bytes: the magic `SPHE`, a format version, the kind, and the first 16
//! bytes of the parameter digest. Residues follow packed to the bit length of their prime, least
//! significant bit first, each row on a byte border, unused bits zero. There is exactly one
//! encoding of every object: what decodes, encodes to the same bytes. A reader checks magic,
//! version, kind, digest, every field and the exact length before it allocates, and every residue
//! as it reads it.
//!
//! ```
//! use sphinx_he::wire::{pack, packed_len, unpack};
//! let mut bytes = Vec::new();
//! pack(&mut bytes, &[1, 6, 3], 3);
//! assert_eq!(bytes, [0b1111_0001, 0b0]);
//! assert_eq!(bytes.len(), packed_len(3, 3));
//! let mut values = [0; 3];
//! unpack(&bytes, 3, &mut values)?;
//! assert_eq!(values, [1, 6, 3]);
//! # Ok::<(), sphinx_he::DecodeError>(())
//! ```

use crate::error::DecodeError;
use crate::ring::{Eval, Poly};
use crate::rlwe::Parameters;
use crate::zq::Modulus;

/// The first bytes of every object.
pub const MAGIC: [u8; 4] = *b"SPHE";
/// The format that this build writes and reads.
pub const FORMAT_VERSION: u8 = 3;
/// Bytes of the parameter digest that an object carries.
pub const DIGEST_BYTES: usize = 16;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An exported secret.
    Secret = 1,
    /// A seeded upload of [`crate::exact`].
    Seeded = 2,
    /// A download of [`crate::exact`].
    Selected = 3,
    /// A seeded ciphertext of [`crate::ckks`].
    SeededSlots = 4,
    /// A ciphertext of [`crate::ckks`].
    Slots = 5,
    /// A download of [`crate::exact`] whose positions the receiver knows.
    SelectedBare = 6,
    /// A public key.
    Public = 7,
    /// A relinearisation key.
    Relinearization = 8,
    /// Keys of rotations.
    GaloisKeys = 9,
}

/// The common beginning of every object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// The parameters' digest.
    pub digest: [u8; 32],
}

impl Header {
    /// Its length in bytes.
    pub const BYTES: usize = MAGIC.len() + 2 + DIGEST_BYTES;

    /// Appends the header.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FORMAT_VERSION, self.kind as u8]);
        out.extend_from_slice(&self.digest[..DIGEST_BYTES]);
    }
}

/// Reads an object field by field; never past the end.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Checks the header.
    ///
    /// # Errors
    /// [`DecodeError`]: truncated, another magic, version, kind or parameter set.
    pub fn open(bytes: &'a [u8], kind: Kind, parameters: &Parameters) -> Result<Self, DecodeError> {
        let mut reader = Self { bytes, position: 0 };
        let magic = reader.array::<4>()?;
        if magic != MAGIC {
            return Err(DecodeError::BadMagic { got: magic });
        }
        let [version, found] = reader.array::<2>()?;
        if version != FORMAT_VERSION {
            return Err(DecodeError::UnsupportedVersion {
                got: version,
                expected: FORMAT_VERSION,
            });
        }
        if found != kind as u8 {
            return Err(DecodeError::WrongKind {
                expected: kind as u8,
                got: found,
            });
        }
        if reader.array::<DIGEST_BYTES>()? != parameters.digest()[..DIGEST_BYTES] {
            return Err(DecodeError::ForeignParameters);
        }
        Ok(reader)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let needed = self.position.saturating_add(count);
        let got = self.bytes.len();
        let taken = self.bytes.get(self.position..needed);
        self.position = needed.min(got);
        taken.ok_or(DecodeError::Truncated { needed, got })
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next byte as a level of these parameters.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::NoSuchLevel`].
    pub fn level(&mut self, parameters: &Parameters) -> Result<usize, DecodeError> {
        let (got, max) = (usize::from(self.byte()?), parameters.max_level());
        if got > max {
            Err(DecodeError::NoSuchLevel { got, max })
        } else {
            Ok(got)
        }
    }

    /// Checks that the whole object has `expected` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::TrailingBytes`].
    pub fn expect_total(&self, expected: usize) -> Result<(), DecodeError> {
        let got = self.bytes.len();
        match got.cmp(&expected) {
            std::cmp::Ordering::Less => Err(DecodeError::Truncated {
                needed: expected,
                got,
            }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(DecodeError::TrailingBytes {
                expected,
                extra: got - expected,
            }),
        }
    }

    /// Checks that `count` bytes are left, before room for them is made.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn expect_room(&self, count: usize) -> Result<(), DecodeError> {
        let (needed, got) = (self.position.saturating_add(count), self.bytes.len());
        if needed > got {
            Err(DecodeError::Truncated { needed, got })
        } else {
            Ok(())
        }
    }

    /// Checks that all bytes were read.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`].
    pub fn expect_end(&self) -> Result<(), DecodeError> {
        self.expect_total(self.position)
    }

    /// The next row of `out.len()` residues of `q`; `row` is its index for the error.
    ///
    /// # Errors
    /// [`DecodeError::ResidueTooLarge`], [`DecodeError::NonZeroPadding`],
    /// [`DecodeError::Truncated`].
    pub fn row(&mut self, q: &Modulus, row: usize, out: &mut [u64]) -> Result<(), DecodeError> {
        self.truncated_row(q, 0, row, out)
    }

    /// The next row of residues of `q` without their `cut` lowest bits; `cut` is below the length
    /// of `q`.
    ///
    /// # Errors
    /// As [`Self::row`].
    pub fn truncated_row(
        &mut self,
        q: &Modulus,
        cut: u32,
        row: usize,
        out: &mut [u64],
    ) -> Result<(), DecodeError> {
        let (bits, largest) = (q.bits() - cut, (q.value() - 1) >> cut);
        unpack(self.take(packed_len(out.len(), bits))?, bits, out)?;
        // A search that stops early does not become vector code; the usual answer needs none.
        let highest = out.iter().fold(0, |highest, &x| highest.max(x));
        if highest <= largest {
            return Ok(());
        }
        let index = out.iter().position(|&x| x > largest).unwrap_or(0);
        Err(DecodeError::ResidueTooLarge {
            row,
            index,
            got: out[index],
            modulus: largest + 1,
        })
    }

    /// A polynomial in evaluation form, row after row.
    ///
    /// # Errors
    /// As [`Self::row`].
    pub(crate) fn poly(
        &mut self,
        parameters: &Parameters,
        level: usize,
    ) -> Result<Poly<Eval>, DecodeError> {
        let mut poly = Poly::zero_unchecked(parameters.ring(), level);
        for (i, q) in parameters.moduli()[..=level].iter().enumerate() {
            self.row(q, i, poly.row_mut(i))?;
        }
        Ok(poly)
    }
}

/// Appends a polynomial, row after row.
pub(crate) fn write_poly(out: &mut Vec<u8>, poly: &Poly<Eval>) {
    for (q, row) in poly.rows() {
        pack(out, row, q.bits());
    }
}

/// Bytes of rows of `count` residues at `level`.
#[must_use]
pub fn rows_len(parameters: &Parameters, level: usize, count: usize) -> usize {
    parameters.moduli()[..=level]
        .iter()
        .map(|q| packed_len(count, q.bits()))
        .sum()
}

/// Bytes of `count` values of `bits` bits.
#[must_use]
pub const fn packed_len(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Appends the values, `bits <= 60` bits each, least significant bit first, padded with zeros to
/// a byte. Values must fit; higher bits are cut off.
pub fn pack(out: &mut Vec<u8>, values: &[u64], bits: u32) {
    out.reserve(packed_len(values.len(), bits) + 8);
    let mask = u64::MAX >> (64 - bits);
    let (mut word, mut filled) = (0u64, 0u32);
    for &value in values {
        let value = value & mask;
        word |= value << filled;
        filled += bits;
        if filled >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= 64;
            // the part of the value that did not fit; nothing where it fitted exactly
            word = value.checked_shr(bits - filled).unwrap_or(0);
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// Reads `out.len()` values of `bits <= 60` bits from exactly [`packed_len`] bytes.
///
/// # Errors
/// [`DecodeError::Truncated`] or [`DecodeError::TrailingBytes`] for another length,
/// [`DecodeError::NonZeroPadding`].
pub fn unpack(bytes: &[u8], bits: u32, out: &mut [u64]) -> Result<(), DecodeError> {
    let (needed, got) = (packed_len(out.len(), bits), bytes.len());
    if got < needed {
        return Err(DecodeError::Truncated { needed, got });
    }
    if got > needed {
        return Err(DecodeError::TrailingBytes {
            expected: needed,
            extra: got - needed,
        });
    }
    let mask = u64::MAX >> (64 - bits);
    let mut start = 0;
    // Values of up to 57 bits lie within the eight bytes where they begin.
    if bits <= 57 {
        let whole = out
            .len()
            .min((8 * bytes.len()).saturating_sub(64) / bits as usize);
        for (value, bit) in out[..whole].iter_mut().zip((0..).step_by(bits as usize)) {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[bit / 8..bit / 8 + 8]);
            *value = (u64::from_le_bytes(word) >> (bit % 8)) & mask;
        }
        start = whole;
    }
    let first = start * bits as usize;
    unpack_rest(
        &bytes[first / 8..],
        (first % 8) as u32,
        bits,
        &mut out[start..],
    )
}

/// Reads values from the bit `skip` of the first byte on, a word at a time; nothing but zeros may
/// follow them.
fn unpack_rest(bytes: &[u8], skip: u32, bits: u32, out: &mut [u64]) -> Result<(), DecodeError> {
    let mask = u64::MAX >> (64 - bits);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut words = words
        .iter()
        .chain(std::iter::once(&last))
        .map(|&word| u64::from_le_bytes(word));
    let mut buffer = u128::from(words.next().unwrap_or(0) >> skip);
    let mut filled = 64 - skip;
    for value in out.iter_mut() {
        if filled < bits {
            buffer |= u128::from(words.next().unwrap_or(0)) << filled;
            filled += 64;
        }
        *value = buffer as u64 & mask;
        buffer >>= bits;
        filled -= bits;
    }
    let clean = buffer == 0 && words.all(|word| word == 0);
    if clean {
        Ok(())
    } else {
        Err(DecodeError::NonZeroPadding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit.
    fn pack_slowly(values: &[u64], bits: u32) -> Vec<u8> {
        let mut out = vec![0; packed_len(values.len(), bits)];
        let all = values
            .iter()
            .flat_map(|v| (0..bits).map(move |b| (v >> b) & 1));
        for (i, bit) in all.enumerate() {
            out[i / 8] |= (bit as u8) << (i % 8);
        }
        out
    }

    proptest! {
        #[test]
        fn packing_agrees_with_its_slow_twin(bits in 1u32..=60, values in prop::collection::vec(any::<u64>(), 0..70)) {
            let values: Vec<u64> = values.iter().map(|v| v & (u64::MAX >> (64 - bits))).collect();
            let mut bytes = Vec::new();
            pack(&mut bytes, &values, bits);
            prop_assert_eq!(&bytes, &pack_slowly(&values, bits));
            let mut back = vec![0; values.len()];
            unpack(&bytes, bits, &mut back).unwrap();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn padding_must_be_zero(bits in 1u32..=60, count in 1usize..20) {
            let used = count * bits as usize;
            let mut bytes = vec![0; packed_len(count, bits)];
            prop_assume!(!used.is_multiple_of(8));
            *bytes.last_mut().unwrap() = 0x80;
            let result = unpack(&bytes, bits, &mut vec![0; count]);
            prop_assert_eq!(result, Err(DecodeError::NonZeroPadding));
        }
    }

    #[test]
    fn lengths_are_exact() {
        assert!(matches!(
            unpack(&[0; 3], 30, &mut [0]),
            Err(DecodeError::Truncated { .. })
        ));
        assert!(matches!(
            unpack(&[0; 5], 30, &mut [0]),
            Err(DecodeError::TrailingBytes { .. })
        ));
        assert!(unpack(&[], 30, &mut []).is_ok());
    }
}
