//! Keys as canonical bytes: the first half of each digit packed to its primes, and a seed.
//!
//! A key's second half is expanded from its seed when the key is read, so a key travels in half its
//! size, less what packing saves. After the header come, for a switching key: the level, the number
//! of groups and their sizes, one byte each; the seed; and for each digit of the level the rows of
//! the primes of the level, then those of the special primes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gadget::Gadget;
use super::keys::{expand_public, wide_tables};
use super::switching::{KeyDigit, Wide, expand_digit};
use super::{GaloisKey, GaloisKeys, Parameters, PublicKey, RelinearizationKey, SwitchingKey};
use crate::error::DecodeError;
use crate::sample::SEED_BYTES;
use crate::wire::{Header, Kind, Reader, pack, packed_len, rows_len};

/// Bytes of the rows of the special primes.
fn special_len(parameters: &Parameters) -> usize {
    let moduli = parameters.special_moduli().iter();
    moduli
        .map(|q| packed_len(parameters.degree(), q.bits()))
        .sum()
}

fn write_wide(out: &mut Vec<u8>, parameters: &Parameters, level: usize, wide: &Wide) {
    let moduli = parameters.moduli()[..=level]
        .iter()
        .chain(parameters.special_moduli());
    for (q, row) in moduli.zip(wide.rows()) {
        pack(out, row, q.bits());
    }
}

fn read_wide(
    reader: &mut Reader<'_>,
    parameters: &Parameters,
    level: usize,
    wide: &mut Wide,
) -> Result<(), DecodeError> {
    let moduli = parameters.moduli()[..=level]
        .iter()
        .chain(parameters.special_moduli());
    for (i, (q, row)) in moduli.zip(wide.rows_mut()).enumerate() {
        reader.row(q, i, row)?;
    }
    Ok(())
}

fn header(parameters: &Parameters, kind: Kind, room: usize) -> Vec<u8> {
    // room for the word by which packing overshoots
    let mut out = Vec::with_capacity(Header::BYTES + room + 8);
    let digest = parameters.digest();
    Header { kind, digest }.write(&mut out);
    out
}

impl SwitchingKey {
    /// Bytes of a key's body.
    fn body_len(parameters: &Parameters, level: usize, groups: usize, digits: usize) -> usize {
        let rows = rows_len(parameters, level, parameters.degree()) + special_len(parameters);
        2 + groups + SEED_BYTES + digits * rows
    }

    fn len(&self) -> usize {
        Self::body_len(
            &self.parameters,
            self.level,
            self.gadget.len(),
            self.digits.len(),
        )
    }

    fn write(&self, out: &mut Vec<u8>) {
        let groups = self.gadget.groups();
        out.extend_from_slice(&[self.level as u8, groups.len() as u8]);
        out.extend(groups.iter().map(|&size| size as u8));
        out.extend_from_slice(&self.seed);
        for digit in &self.digits {
            write_wide(out, &self.parameters, self.level, &digit.b);
        }
    }

    /// The next key of the reader. `last` is the gadget of the key before, to be shared.
    fn read(
        reader: &mut Reader<'_>,
        parameters: &Parameters,
        last: Option<&Arc<Gadget>>,
    ) -> Result<Self, DecodeError> {
        let down = parameters.switching().map_err(|_| DecodeError::BadDigits)?;
        let level = reader.level(parameters)?;
        let count = usize::from(reader.byte()?);
        let groups: Vec<usize> = reader
            .take(count)?
            .iter()
            .map(|&size| size.into())
            .collect();
        let gadget = match last.filter(|gadget| gadget.groups() == groups) {
            Some(gadget) => gadget.clone(),
            None => Arc::new(Gadget::new(parameters, &groups).map_err(|_| DecodeError::BadDigits)?),
        };
        let digits = gadget.at(level).count();
        let body = Self::body_len(parameters, level, count, digits) - 2 - count;
        reader.expect_room(body)?;
        let seed = reader.array()?;
        let digit = |d: usize| {
            let mut b = Wide::zero(down, level);
            read_wide(reader, parameters, level, &mut b)?;
            let a = expand_digit(parameters, down, level, &seed, d);
            Ok(KeyDigit::new(d, b, a))
        };
        let digits = (0..digits).map(digit).collect::<Result<_, _>>()?;
        Ok(Self {
            parameters: parameters.clone(),
            level,
            gadget,
            seed,
            digits,
        })
    }
}

impl RelinearizationKey {
    /// Header and key.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = header(&self.key.parameters, Kind::Relinearization, self.key.len());
        self.key.write(&mut out);
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; anything else is refused.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8], parameters: &Parameters) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(bytes, Kind::Relinearization, parameters)?;
        let key = SwitchingKey::read(&mut reader, parameters, None)?;
        reader.expect_end()?;
        Ok(Self { key })
    }
}

impl GaloisKeys {
    /// Header, the number of keys, and for each its exponent and the key, exponents rising.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let room = self.keys.values().map(|k| 4 + k.key.len()).sum::<usize>();
        let mut out = header(&self.parameters, Kind::GaloisKeys, 4 + room);
        out.extend_from_slice(&(self.keys.len() as u32).to_le_bytes());
        for (&exponent, key) in &self.keys {
            out.extend_from_slice(&(exponent as u32).to_le_bytes());
            key.key.write(&mut out);
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; anything else is refused.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8], parameters: &Parameters) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(bytes, Kind::GaloisKeys, parameters)?;
        let count = u32::from_le_bytes(reader.array()?) as usize;
        let degree = parameters.degree();
        if count > degree {
            let limit = degree;
            return Err(DecodeError::BadCount { got: count, limit });
        }
        let (mut keys, mut last, mut gadget) = (BTreeMap::new(), 0, None);
        for _ in 0..count {
            let exponent = u64::from(u32::from_le_bytes(reader.array()?));
            if exponent <= last || exponent.is_multiple_of(2) || exponent >= 2 * degree as u64 {
                return Err(DecodeError::BadExponent { got: exponent });
            }
            last = exponent;
            let key = SwitchingKey::read(&mut reader, parameters, gadget.as_ref())?;
            gadget = Some(key.gadget.clone());
            let key = GaloisKey::new(key, exponent)
                .map_err(|_| DecodeError::BadExponent { got: exponent })?;
            keys.insert(exponent, key);
        }
        reader.expect_end()?;
        let parameters = parameters.clone();
        Ok(Self { parameters, keys })
    }
}

impl PublicKey {
    /// Exact length of [`Self::to_bytes`].
    #[must_use]
    pub fn wire_size(parameters: &Parameters) -> usize {
        let rows = rows_len(parameters, parameters.max_level(), parameters.degree());
        Header::BYTES + SEED_BYTES + rows + special_len(parameters)
    }

    /// Header, seed, and the rows of the first half, those of the special primes last.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = header(
            &self.parameters,
            Kind::Public,
            Self::wire_size(&self.parameters),
        );
        out.extend_from_slice(&self.seed);
        write_wide(
            &mut out,
            &self.parameters,
            self.parameters.max_level(),
            &self.b,
        );
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; anything else is refused.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8], parameters: &Parameters) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(bytes, Kind::Public, parameters)?;
        reader.expect_total(Self::wire_size(parameters))?;
        let seed = reader.array()?;
        let primes = parameters.moduli().len();
        let special = wide_tables(parameters).count() - primes;
        let mut b = Wide::with_rows(parameters.degree(), primes, special);
        read_wide(&mut reader, parameters, parameters.max_level(), &mut b)?;
        let a = expand_public(parameters, &seed);
        Ok(Self {
            parameters: parameters.clone(),
            seed,
            b,
            a,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rlwe::{KeyGenerator, ParametersLiteral, SecretKey, Security};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn parameters() -> Parameters {
        Parameters::new(&ParametersLiteral {
            log_n: 4,
            log_q: vec![40, 30, 30],
            log_p: vec![33, 33],
            error_std_dev: 3.2,
            security: Security::Toy,
        })
        .unwrap()
    }

    /// Whatever decodes, encodes to the same bytes; every truncation is refused.
    fn hostile<T>(
        bytes: &[u8],
        read: impl Fn(&[u8]) -> Result<T, DecodeError>,
        write: impl Fn(&T) -> Vec<u8>,
    ) {
        assert_eq!(write(&read(bytes).unwrap()), bytes);
        for length in 0..bytes.len() {
            assert!(matches!(
                read(&bytes[..length]),
                Err(DecodeError::Truncated { .. })
            ));
        }
        assert!(matches!(
            read(&[bytes, &[0]].concat()),
            Err(DecodeError::TrailingBytes { .. })
        ));
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(object) = read(&flipped) {
                assert_eq!(write(&object), flipped, "bit {bit}");
                assert!(bit / 8 >= Header::BYTES);
            }
        }
    }

    #[test]
    fn keys_are_canonical_and_survive_the_wire() {
        let parameters = parameters();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let secret = SecretKey::generate(&parameters, &mut rng);
        let generator = KeyGenerator::new(&secret).unwrap();
        let key = generator.relinearization(&mut rng).unwrap();
        let read = |bytes: &[u8]| RelinearizationKey::from_bytes(bytes, &parameters);
        let back = read(&key.to_bytes()).unwrap();
        assert!(back.key.digits == key.key.digits);
        hostile(&key.to_bytes(), read, RelinearizationKey::to_bytes);
        let low = generator.clone().at_level(1).unwrap();
        let mut keys = generator.rotations(&[1], &mut rng).unwrap();
        keys.keys
            .extend(low.rotations(&[2, 3], &mut rng).unwrap().keys);
        let read = |bytes: &[u8]| GaloisKeys::from_bytes(bytes, &parameters);
        let back = read(&keys.to_bytes()).unwrap();
        assert!(
            keys.keys
                .iter()
                .zip(&back.keys)
                .all(|(a, b)| a.0 == b.0 && a.1.key.digits == b.1.key.digits)
        );
        hostile(&keys.to_bytes(), read, GaloisKeys::to_bytes);
        let key = generator.public(&mut rng);
        let read = |bytes: &[u8]| PublicKey::from_bytes(bytes, &parameters);
        let back = read(&key.to_bytes()).unwrap();
        assert!(back.a == key.a && back.b == key.b);
        assert_eq!(key.to_bytes().len(), PublicKey::wire_size(&parameters));
        hostile(&key.to_bytes(), read, PublicKey::to_bytes);
    }

    #[test]
    fn a_long_key_is_refused_before_it_is_allocated() {
        let parameters = parameters();
        let mut bytes = header(&parameters, Kind::Relinearization, 0);
        bytes.extend_from_slice(&[2, 2, 1, 1]);
        let read = |bytes: &[u8]| RelinearizationKey::from_bytes(bytes, &parameters).map(|_| ());
        assert_eq!(read(&bytes), Err(DecodeError::BadDigits)); // 1 + 1 primes of 3
        bytes.truncate(Header::BYTES);
        bytes.extend_from_slice(&[2, 1, 3]);
        let needed = Header::BYTES + SwitchingKey::body_len(&parameters, 2, 1, 1);
        let got = bytes.len();
        assert_eq!(read(&bytes), Err(DecodeError::Truncated { needed, got }));
    }
}
