//! Fixed-width fields, written and read.

use crate::error::Malformed;
use crate::message::Place;

/// Collects the bytes of one message.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn kind(&mut self, kind: u8) -> &mut Self {
        self.0.push(kind);
        self
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u16(&mut self, v: u16) -> &mut Self {
        self.raw(&v.to_le_bytes())
    }

    pub(super) fn u32(&mut self, v: u32) -> &mut Self {
        self.raw(&v.to_le_bytes())
    }

    pub(super) fn u64(&mut self, v: u64) -> &mut Self {
        self.raw(&v.to_le_bytes())
    }

    pub(super) fn place(&mut self, place: Place) -> &mut Self {
        self.u16(place.layer).u32(place.chunk).u32(place.tile)
    }

    pub(super) fn residues(&mut self, values: &[u32]) -> &mut Self {
        values.iter().fold(self, |w, v| w.u32(*v))
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes the bytes of one message apart.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], Malformed> {
        let left = self.0.len();
        let (head, tail) = self
            .0
            .split_at_checked(needed)
            .ok_or(Malformed::Truncated {
                field,
                needed,
                left,
            })?;
        self.0 = tail;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(field, N)?);
        Ok(out)
    }

    pub(super) fn kind(&mut self) -> Result<u8, Malformed> {
        let [kind] = self.array("kind")?;
        Ok(kind)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(super) fn place(&mut self) -> Result<Place, Malformed> {
        Ok(Place {
            layer: self.u16("layer")?,
            chunk: self.u32("chunk")?,
            tile: self.u32("tile")?,
        })
    }

    pub(super) fn i32s(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> Result<Vec<i32>, Malformed> {
        let bytes = self.take(field, count.saturating_mul(4))?;
        Ok(bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b))
            .collect())
    }

    pub(super) fn i64s(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> Result<Vec<i64>, Malformed> {
        let bytes = self.take(field, count.saturating_mul(8))?;
        Ok(bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b))
            .collect())
    }

    pub(super) fn residues(&mut self, field: &'static str) -> Result<Vec<u32>, Malformed> {
        let bytes = self.take(field, self.left() / 4 * 4)?;
        Ok(bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect())
    }

    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }

    pub(super) fn finish<M>(self, message: M) -> Result<M, Malformed> {
        if self.0.is_empty() {
            Ok(message)
        } else {
            Err(Malformed::Trailing(self.0.len()))
        }
    }
}
