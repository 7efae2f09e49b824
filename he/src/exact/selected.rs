//! Downloads: chosen coefficients of a result.

use zeroize::Zeroizing;

use super::decode::Decoder;
use super::{Decrypted, Encoding};
use crate::error::{DecodeError, Error};
use crate::ring::{Eval, Poly};
use crate::rlwe::{Parameters, SecretKey, phase_without_c0};
use crate::wire::{Header, Kind, Reader, pack, packed_len, rows_len, unpack, write_poly};

/// Chosen coefficients of `c0` in coefficient form, and `c1` (and `c2`) whole.
#[derive(Clone, Debug)]
pub struct SelectedCiphertext {
    pub(super) parameters: Parameters,
    pub(super) encoding: Encoding,
    /// Distinct, below `N`.
    pub(super) positions: Vec<u32>,
    /// One row of `positions.len()` residues per prime.
    pub(super) c0: Vec<u64>,
    pub(super) c1: Poly<Eval>,
    pub(super) c2: Option<Poly<Eval>>,
}

/// Bytes before the positions: header, level, degree, encoding, count.
const PREFIX: usize = Header::BYTES + 1 + 1 + Encoding::BYTES + 4;

impl SelectedCiphertext {
    /// Number of coefficients.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether it holds no coefficient.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Degree in the secret, 1 or 2.
    #[must_use]
    pub const fn degree(&self) -> usize {
        if self.c2.is_some() { 2 } else { 1 }
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> usize {
        self.c1.level()
    }

    /// How the integers are carried.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The parameters.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The positions, in the order of the decrypted values.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = usize> {
        self.positions.iter().map(|&k| k as usize)
    }

    /// Exact length of [`Self::to_bytes`].
    ///
    /// Positions travel too, `log2 N` bits each, so that a download decrypts by itself.
    ///
    /// # Panics
    /// If `level` is above the parameters' highest.
    #[must_use]
    pub fn wire_size(parameters: &Parameters, level: usize, degree: usize, count: usize) -> usize {
        PREFIX
            + packed_len(count, parameters.log_n())
            + rows_len(parameters, level, count)
            + degree * rows_len(parameters, level, parameters.degree())
    }

    /// Header, level, degree, encoding, count, positions, rows of `c0`, `c1` and `c2`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (level, count) = (self.level(), self.len());
        let size = Self::wire_size(&self.parameters, level, self.degree(), count);
        // room for the word by which packing overshoots
        let mut out = Vec::with_capacity(size + 8);
        Header {
            kind: Kind::Selected,
            digest: self.parameters.digest(),
        }
        .write(&mut out);
        out.extend_from_slice(&[level as u8, self.degree() as u8]);
        self.encoding.write(&mut out);
        out.extend_from_slice(&(count as u32).to_le_bytes());
        let positions: Vec<u64> = self.positions.iter().map(|&k| u64::from(k)).collect();
        pack(&mut out, &positions, self.parameters.log_n());
        for (i, q) in self.parameters.moduli()[..=level].iter().enumerate() {
            pack(&mut out, &self.c0[i * count..(i + 1) * count], q.bits());
        }
        write_poly(&mut out, &self.c1);
        if let Some(c2) = &self.c2 {
            write_poly(&mut out, c2);
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; anything else is refused.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8], parameters: &Parameters) -> Result<Self, DecodeError> {
        let mut reader = Reader::open(bytes, Kind::Selected, parameters)?;
        let level = reader.level(parameters)?;
        let degree = usize::from(reader.byte()?);
        if !matches!(degree, 1 | 2) {
            return Err(DecodeError::BadDegree { got: degree });
        }
        let encoding = Encoding::read(&mut reader)?;
        let count = u32::from_le_bytes(reader.array()?) as usize;
        if count > parameters.degree() {
            return Err(DecodeError::BadCount {
                got: count,
                limit: parameters.degree(),
            });
        }
        reader.expect_total(Self::wire_size(parameters, level, degree, count))?;
        let positions = read_positions(&mut reader, parameters, count)?;
        let mut c0 = vec![0; count * (level + 1)];
        for (i, q) in parameters.moduli()[..=level].iter().enumerate() {
            reader.row(q, i, &mut c0[i * count..(i + 1) * count])?;
        }
        let c1 = reader.poly(parameters, level)?;
        let c2 = (degree == 2)
            .then(|| reader.poly(parameters, level))
            .transpose()?;
        Ok(Self {
            parameters: parameters.clone(),
            encoding,
            positions,
            c0,
            c1,
            c2,
        })
    }

    /// Decrypts: `Scaled` to the nearest integer of the centred phase over the scale (limited to
    /// the range of `i64`), `Modular` to `0..2^log_t`. Values in the order of the positions.
    ///
    /// Cost: one transform per prime, then a few divisions per coefficient; the divisions take a
    /// time that may depend on the values, at the client alone.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn decrypt(&self, secret: &SecretKey) -> Result<Decrypted<i64>, Error> {
        if self.parameters != *secret.parameters() {
            return Err(Error::ForeignParameters { op: "decrypt" });
        }
        let phase = phase_without_c0(secret, &self.c1, self.c2.as_ref())?;
        let moduli = &self.parameters.moduli()[..=self.level()];
        let decoder = Decoder::new(self.parameters.ring().basis(), self.level(), self.encoding);
        let mut residues = Zeroizing::new(vec![0; moduli.len()]);
        let mut values = Vec::with_capacity(self.len());
        for (at, &position) in self.positions.iter().enumerate() {
            for (i, q) in moduli.iter().enumerate() {
                let c0 = self.c0[i * self.len() + at];
                residues[i] = q.add(c0, phase.row(i)[position as usize]);
            }
            values.push(decoder.decode(&residues));
        }
        Ok(Decrypted::new(values))
    }
}

fn read_positions(
    reader: &mut Reader<'_>,
    parameters: &Parameters,
    count: usize,
) -> Result<Vec<u32>, DecodeError> {
    let bits = parameters.log_n();
    let mut positions = vec![0; count];
    unpack(reader.take(packed_len(count, bits))?, bits, &mut positions)?;
    let mut seen = vec![false; parameters.degree()];
    for &position in &positions {
        // log2 N bits cannot name a position outside
        if std::mem::replace(&mut seen[position as usize], true) {
            return Err(DecodeError::DuplicatePosition {
                position: position as usize,
            });
        }
    }
    Ok(positions
        .into_iter()
        .map(|position| position as u32)
        .collect())
}
