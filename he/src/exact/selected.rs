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
    /// Positions travel too, `log2 N` bits each, so that a download decrypts by itself; where both
    /// sides know the layout, [`Self::to_bytes_bare`] leaves them out.
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

    /// Exact length of [`Self::to_bytes_bare`].
    ///
    /// # Panics
    /// If `level` is above the parameters' highest.
    #[must_use]
    pub fn wire_size_bare(
        parameters: &Parameters,
        level: usize,
        degree: usize,
        count: usize,
    ) -> usize {
        Self::wire_size(parameters, level, degree, count) - packed_len(count, parameters.log_n())
    }

    /// Header, level, degree, encoding, count, positions, rows of `c0`, `c1` and `c2`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.write(Kind::Selected)
    }

    /// As [`Self::to_bytes`] without the positions, for a receiver that knows them.
    #[must_use]
    pub fn to_bytes_bare(&self) -> Vec<u8> {
        self.write(Kind::SelectedBare)
    }

    fn write(&self, kind: Kind) -> Vec<u8> {
        let (level, count) = (self.level(), self.len());
        let size = Self::wire_size(&self.parameters, level, self.degree(), count);
        // room for the word by which packing overshoots
        let mut out = Vec::with_capacity(size + 8);
        Header {
            kind,
            digest: self.parameters.digest(),
        }
        .write(&mut out);
        out.extend_from_slice(&[level as u8, self.degree() as u8]);
        self.encoding.write(&mut out);
        out.extend_from_slice(&(count as u32).to_le_bytes());
        if kind == Kind::Selected {
            let positions: Vec<u64> = self.positions.iter().map(|&k| u64::from(k)).collect();
            pack(&mut out, &positions, self.parameters.log_n());
        }
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
        Self::read(bytes, parameters, None)
    }

    /// Reads what [`Self::to_bytes_bare`] wrote for these positions, in their order.
    ///
    /// # Errors
    /// [`DecodeError`]; [`DecodeError::BadCount`] for another number of coefficients,
    /// [`DecodeError::PositionOutOfRange`] and [`DecodeError::DuplicatePosition`] for positions
    /// that no selection can have.
    pub fn from_bytes_at(
        bytes: &[u8],
        parameters: &Parameters,
        positions: &[usize],
    ) -> Result<Self, DecodeError> {
        Self::read(bytes, parameters, Some(positions))
    }

    fn read(
        bytes: &[u8],
        parameters: &Parameters,
        known: Option<&[usize]>,
    ) -> Result<Self, DecodeError> {
        let kind = if known.is_some() {
            Kind::SelectedBare
        } else {
            Kind::Selected
        };
        let mut reader = Reader::open(bytes, kind, parameters)?;
        let level = reader.level(parameters)?;
        let degree = usize::from(reader.byte()?);
        if !matches!(degree, 1 | 2) {
            return Err(DecodeError::BadDegree { got: degree });
        }
        let encoding = Encoding::read(&mut reader)?;
        let count = u32::from_le_bytes(reader.array()?) as usize;
        let limit = known.map_or(parameters.degree(), <[usize]>::len);
        if count > limit || (known.is_some() && count != limit) {
            return Err(DecodeError::BadCount { got: count, limit });
        }
        let size = match kind {
            Kind::Selected => Self::wire_size(parameters, level, degree, count),
            _ => Self::wire_size_bare(parameters, level, degree, count),
        };
        reader.expect_total(size)?;
        let positions = match known {
            Some(known) => known.to_vec(),
            None => read_positions(&mut reader, parameters, count)?,
        };
        let positions = check_positions(&positions, parameters.degree())?;
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
) -> Result<Vec<usize>, DecodeError> {
    let bits = parameters.log_n();
    let mut positions = vec![0; count];
    unpack(reader.take(packed_len(count, bits))?, bits, &mut positions)?;
    Ok(positions
        .into_iter()
        .map(|position| position as usize)
        .collect())
}

/// Positions are below `degree` and distinct.
fn check_positions(positions: &[usize], degree: usize) -> Result<Vec<u32>, DecodeError> {
    let mut seen = vec![false; degree];
    let mut checked = Vec::with_capacity(positions.len());
    for &position in positions {
        let Some(seen) = seen.get_mut(position) else {
            return Err(DecodeError::PositionOutOfRange { position, degree });
        };
        if std::mem::replace(seen, true) {
            return Err(DecodeError::DuplicatePosition { position });
        }
        checked.push(position as u32);
    }
    Ok(checked)
}
