//! Slot ciphertexts as canonical bytes: level, flags, scale, then rows packed to each prime.

use super::{Ciphertext, Form, Scale, SeededCiphertext};
use crate::error::DecodeError;
use crate::rlwe::Parameters;
use crate::sample::SEED_BYTES;
use crate::wire::{Header, Kind, Reader, rows_len, write_poly};

/// Header, level, flags, log2 of the slots, scale.
const PREFIX: usize = Header::BYTES + 1 + 1 + 1 + 8;

/// What comes before the residues.
struct Prefix {
    level: usize,
    form: Form,
    slots: usize,
    scale: Scale,
}

fn write_prefix(parameters: &Parameters, kind: Kind, prefix: &Prefix) -> Vec<u8> {
    let mut out = Vec::new();
    Header {
        kind,
        digest: parameters.digest(),
    }
    .write(&mut out);
    let (rescale, quadratic) = prefix.form.flags();
    let log_slots = prefix.slots.trailing_zeros() as u8;
    out.extend_from_slice(&[prefix.level as u8, rescale | quadratic << 1, log_slots]);
    out.extend_from_slice(&prefix.scale.value().to_bits().to_le_bytes());
    out
}

fn read_prefix<'a>(
    bytes: &'a [u8],
    kind: Kind,
    parameters: &Parameters,
) -> Result<(Reader<'a>, Prefix), DecodeError> {
    let mut reader = Reader::open(bytes, kind, parameters)?;
    let level = reader.level(parameters)?;
    let (flags, log_slots) = (reader.byte()?, reader.byte()?);
    if flags > 3 || u32::from(log_slots) >= parameters.log_n() {
        return Err(DecodeError::BadEncoding);
    }
    let form = Form {
        rescale_pending: flags & 1 == 1,
        quadratic: flags & 2 == 2,
    };
    let scale = f64::from_bits(u64::from_le_bytes(reader.array()?));
    let scale = Scale::new(scale).map_err(|_| DecodeError::BadEncoding)?;
    let slots = 1 << log_slots;
    Ok((
        reader,
        Prefix {
            level,
            form,
            slots,
            scale,
        },
    ))
}

impl SeededCiphertext {
    /// Exact length of [`Self::to_bytes`].
    ///
    /// # Panics
    /// If `level` is above the parameters' highest.
    #[must_use]
    pub fn wire_size(parameters: &Parameters, level: usize) -> usize {
        PREFIX + SEED_BYTES + rows_len(parameters, level, parameters.degree())
    }

    /// Header, level, flags, log2 of the slots, scale, seed, `c0`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let level = self.level().0;
        let prefix = Prefix {
            level,
            form: Form::FRESH,
            slots: self.slots,
            scale: self.scale,
        };
        let mut out = write_prefix(&self.parameters, Kind::SeededSlots, &prefix);
        out.reserve(Self::wire_size(&self.parameters, level) + 8);
        out.extend_from_slice(&self.seed);
        write_poly(&mut out, &self.c0);
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; anything else is refused.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8], parameters: &Parameters) -> Result<Self, DecodeError> {
        let (mut reader, prefix) = read_prefix(bytes, Kind::SeededSlots, parameters)?;
        let Prefix {
            level,
            form,
            slots,
            scale,
        } = prefix;
        if form != Form::FRESH {
            return Err(DecodeError::BadEncoding);
        }
        reader.expect_total(Self::wire_size(parameters, level))?;
        let seed = reader.array()?;
        let c0 = reader.poly(parameters, level)?;
        Ok(Self {
            parameters: parameters.clone(),
            scale,
            slots,
            seed,
            c0,
        })
    }
}

impl Ciphertext {
    /// Exact length of [`Self::to_bytes`].
    ///
    /// # Panics
    /// If `level` is above the parameters' highest.
    #[must_use]
    pub fn wire_size(parameters: &Parameters, level: usize, degree: usize) -> usize {
        PREFIX + (degree + 1) * rows_len(parameters, level, parameters.degree())
    }

    /// Header, level, flags, log2 of the slots, scale, all polynomials.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let level = self.level().0;
        let prefix = Prefix {
            level,
            form: self.form,
            slots: self.slots,
            scale: self.scale,
        };
        let mut out = write_prefix(&self.parameters, Kind::Slots, &prefix);
        out.reserve(Self::wire_size(&self.parameters, level, self.degree()) + 8);
        self.polys
            .iter()
            .for_each(|poly| write_poly(&mut out, poly));
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; anything else is refused.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8], parameters: &Parameters) -> Result<Self, DecodeError> {
        let (mut reader, prefix) = read_prefix(bytes, Kind::Slots, parameters)?;
        let Prefix {
            level,
            form,
            slots,
            scale,
        } = prefix;
        let degree = if form.quadratic { 2 } else { 1 };
        reader.expect_total(Self::wire_size(parameters, level, degree))?;
        let polys = (0..=degree)
            .map(|_| reader.poly(parameters, level))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            parameters: parameters.clone(),
            scale,
            form,
            slots,
            polys,
        })
    }
}
