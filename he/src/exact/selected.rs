//! Downloads: chosen coefficients of a result.

use zeroize::Zeroizing;

use super::decode::Decoder;
use super::{Decrypted, Encoding};
use crate::error::{DecodeError, Error};
use crate::ring::{Eval, Poly};
use crate::rlwe::{Parameters, SecretKey, phase_without_c0};
use crate::wire::{Header, Kind, Reader, pack, packed_len, unpack};
use crate::zq::Modulus;

/// Chosen coefficients of `c0`, and `c1` (and `c2`) whole, all in coefficient form.
#[derive(Clone, Debug)]
pub struct SelectedCiphertext {
    pub(super) parameters: Parameters,
    pub(super) encoding: Encoding,
    pub(super) level: usize,
    pub(super) truncation: Truncation,
    /// Distinct, below `N`.
    pub(super) positions: Vec<u32>,
    /// One row of `positions.len()` residues per prime, without the bits left out.
    pub(super) c0: Vec<u64>,
    /// `c1` and perhaps `c2`: one row of `N` residues per prime, without the bits left out.
    pub(super) masks: Vec<Vec<u64>>,
}

/// Low bits that a download leaves out: noise to the receiver, who needs only the bits above the
/// error that decoding tolerates. [`budget`](super::budget) says how many may go.
///
/// Only residues of a single prime can be truncated, so anything but [`Truncation::NONE`] needs
/// level 0. `x mod 2^t` is cut off, and `2^(t-1)` put in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Truncation {
    /// Bits cut off the coefficients of `c0`.
    pub c0: u32,
    /// Bits cut off the coefficients of `c1` and `c2`.
    pub masks: u32,
}

impl Truncation {
    /// Everything is sent.
    pub const NONE: Self = Self { c0: 0, masks: 0 };

    /// Whether a ciphertext of these parameters and this level can be cut so.
    pub(super) fn fits(self, parameters: &Parameters, level: usize) -> bool {
        let bits = parameters.moduli()[0].bits();
        self == Self::NONE || (level == 0 && self.c0 < bits && self.masks < bits)
    }
}

/// The residue that stands for all those whose upper bits are `value`.
fn middle(q: &Modulus, value: u64, cut: u32) -> u64 {
    if cut == 0 {
        return value;
    }
    let x = (value << cut) + (1 << (cut - 1));
    if x < q.value() { x } else { x - q.value() }
}

/// Bytes before the positions: header, level, degree, bits left out, encoding, count.
const PREFIX: usize = Header::BYTES + 1 + 1 + 2 + Encoding::BYTES + 4;

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
        self.masks.len()
    }

    /// The level.
    #[must_use]
    pub const fn level(&self) -> usize {
        self.level
    }

    /// The bits that were left out.
    #[must_use]
    pub const fn truncation(&self) -> Truncation {
        self.truncation
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
    pub fn wire_size(
        parameters: &Parameters,
        level: usize,
        degree: usize,
        count: usize,
        truncation: Truncation,
    ) -> usize {
        Self::wire_size_bare(parameters, level, degree, count, truncation)
            + packed_len(count, parameters.log_n())
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
        truncation: Truncation,
    ) -> usize {
        let rows = |count: usize, cut: u32| -> usize {
            let moduli = parameters.moduli()[..=level].iter();
            moduli
                .map(|q| packed_len(count, q.bits().saturating_sub(cut)))
                .sum()
        };
        PREFIX + rows(count, truncation.c0) + degree * rows(parameters.degree(), truncation.masks)
    }

    /// Header, level, degree, bits left out, encoding, count, positions, rows of `c0`, `c1`, `c2`.
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
        let (p, count, cut) = (&self.parameters, self.len(), self.truncation);
        let size = Self::wire_size(p, self.level, self.degree(), count, cut);
        // room for the word by which packing overshoots
        let mut out = Vec::with_capacity(size + 8);
        Header {
            kind,
            digest: p.digest(),
        }
        .write(&mut out);
        out.extend_from_slice(&[self.level as u8, self.degree() as u8]);
        out.extend_from_slice(&[cut.c0 as u8, cut.masks as u8]);
        self.encoding.write(&mut out);
        out.extend_from_slice(&(count as u32).to_le_bytes());
        if kind == Kind::Selected {
            let positions: Vec<u64> = self.positions.iter().map(|&k| u64::from(k)).collect();
            pack(&mut out, &positions, p.log_n());
        }
        let rows = std::iter::once((&self.c0, count, cut.c0));
        let masks = self.masks.iter().map(|m| (m, p.degree(), cut.masks));
        for (rows, length, cut) in rows.chain(masks) {
            for (i, q) in p.moduli()[..=self.level].iter().enumerate() {
                pack(
                    &mut out,
                    &rows[i * length..(i + 1) * length],
                    q.bits() - cut,
                );
            }
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
        let [c0, masks] = reader.array::<2>()?.map(u32::from);
        let truncation = Truncation { c0, masks };
        if !truncation.fits(parameters, level) {
            return Err(DecodeError::BadTruncation { c0, masks, level });
        }
        let encoding = Encoding::read(&mut reader)?;
        let count = u32::from_le_bytes(reader.array()?) as usize;
        let limit = known.map_or(parameters.degree(), <[usize]>::len);
        if count > limit || (known.is_some() && count != limit) {
            return Err(DecodeError::BadCount { got: count, limit });
        }
        let size = match kind {
            Kind::Selected => Self::wire_size(parameters, level, degree, count, truncation),
            _ => Self::wire_size_bare(parameters, level, degree, count, truncation),
        };
        reader.expect_total(size)?;
        let positions = match known {
            Some(known) => known.to_vec(),
            None => read_positions(&mut reader, parameters, count)?,
        };
        let positions = check_positions(&positions, parameters.degree())?;
        let rows = |reader: &mut Reader<'_>, length: usize, cut: u32| {
            let mut rows = vec![0; length * (level + 1)];
            for (i, q) in parameters.moduli()[..=level].iter().enumerate() {
                reader.truncated_row(q, cut, i, &mut rows[i * length..(i + 1) * length])?;
            }
            Ok(rows)
        };
        Ok(Self {
            c0: rows(&mut reader, count, truncation.c0)?,
            masks: (0..degree)
                .map(|_| rows(&mut reader, parameters.degree(), truncation.masks))
                .collect::<Result<_, _>>()?,
            parameters: parameters.clone(),
            encoding,
            level,
            truncation,
            positions,
        })
    }

    /// Decrypts: `Scaled` to the nearest integer of the centred phase over the scale (limited to
    /// the range of `i64`), `Modular` to `0..2^log_t`. Values in the order of the positions.
    ///
    /// Cost: two transforms per prime (three at degree 2), then a division per coefficient; the
    /// divisions take a time that may depend on the values, at the client alone.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`].
    pub fn decrypt(&self, secret: &SecretKey) -> Result<Decrypted<i64>, Error> {
        if self.parameters != *secret.parameters() {
            return Err(Error::ForeignParameters { op: "decrypt" });
        }
        let c2 = self.masks.get(1).map(|_| self.mask(1));
        let phase = phase_without_c0(secret, &self.mask(0), c2.as_ref())?;
        let moduli = &self.parameters.moduli()[..=self.level];
        let decoder = Decoder::new(self.parameters.ring().basis(), self.level, self.encoding);
        let mut values = Vec::with_capacity(self.len());
        if let [q] = moduli {
            let (row, cut) = (phase.row(0), self.truncation.c0);
            for (&c0, &position) in self.c0.iter().zip(&self.positions) {
                let x = q.add(middle(q, c0, cut), row[position as usize]);
                values.push(decoder.decode_one(x));
            }
            return Ok(Decrypted::new(values));
        }
        let mut residues = Zeroizing::new(vec![0; moduli.len()]);
        for (at, &position) in self.positions.iter().enumerate() {
            for (i, q) in moduli.iter().enumerate() {
                let c0 = self.c0[i * self.len() + at];
                residues[i] = q.add(c0, phase.row(i)[position as usize]);
            }
            values.push(decoder.decode(&residues));
        }
        Ok(Decrypted::new(values))
    }

    /// `c1` or `c2`, ready to be multiplied with a power of the secret.
    fn mask(&self, index: usize) -> Poly<Eval> {
        let mut poly = Poly::zero_unchecked(self.parameters.ring(), self.level);
        let rows = self.masks[index].chunks_exact(self.parameters.degree());
        for (i, (q, row)) in self.parameters.moduli().iter().zip(rows).enumerate() {
            for (out, &value) in poly.row_mut(i).iter_mut().zip(row) {
                *out = middle(q, value, self.truncation.masks);
            }
        }
        poly.into_eval()
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
