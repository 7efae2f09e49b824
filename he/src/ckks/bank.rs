//! Many ciphertexts side by side, for sums of products.
//!
//! A batch-packed layer multiplies every input with every weight: hundreds of thousands of products over a
//! few thousand ciphertexts. A [`Bank`] holds fresh ciphertexts of one level and scale, cut into
//! blocks of 64 evaluations; one block of all of them is contiguous, so that the sums that share operands read
//! them from the cache. [`Bank::weighted_sums`] multiplies by plain integers (no transform, no
//! encoding), [`Bank::product_sums`] by another bank, without relinearisation or rescale. The flags follow
//! the table of [`super`]: (0, 0) in, (1, 0) or (1, 1) out. As many slots of a result differ as of the operand
//! with the most: what a decoder averages over their repetitions stays averaged.
//!
//! The results are those of [`super::Evaluator::mul_scalar`], [`super::Evaluator::mul`] and
//! [`super::Evaluator::add`], residue by residue; the tests compare them.
//!
//! ```
//! use rand::SeedableRng;
//! use sphinx_he::ckks::{Bank, Decryptor, Encoder, Encryptor, Level, Scale};
//! use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security, SecretKey};
//!
//! let parameters = Parameters::new(&ParametersLiteral {
//!     log_n: 10,
//!     log_q: vec![49, 34],
//!     log_p: vec![],
//!     error_std_dev: 3.2,
//!     security: Security::Toy,
//! })?;
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let secret = SecretKey::generate(&parameters, &mut rng);
//! let (encoder, scale) = (Encoder::new(&parameters), Scale::power_of_two(30));
//! let mut bank = Bank::new(&parameters, Level(1), scale, 2)?;
//! for (index, values) in [[1.0, 2.0], [10.0, 20.0]].iter().enumerate() {
//!     let plain = encoder.encode_real(values, Level(1), scale)?;
//!     bank.put(index, &Encryptor::with_secret(&secret).encrypt(&plain, &mut rng)?)?;
//! }
//! let sums = bank.weighted_sums(&[&[(0, 3), (1, -1)]])?;
//! let slots = encoder.decode_real(&Decryptor::new(&secret).decrypt(&sums[0])?)?;
//! assert_eq!([slots[0].round(), slots[1].round()], [-7.0, -14.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::{Ciphertext, Form, Level, Scale};
use crate::error::Error;
use crate::ring::Aligned;
use crate::rlwe::Parameters;
use crate::simd::Kernels;

/// Evaluations in a block: what a sum of products keeps in registers.
const BLOCK: usize = 64;

/// Fresh ciphertexts of one level and scale, laid out for sums of products.
#[derive(Debug)]
pub struct Bank {
    parameters: Parameters,
    level: Level,
    scale: Scale,
    count: usize,
    /// How many slots differ, at most, of what was admitted.
    slots: usize,
    block: usize,
    /// Row by row and block by block: of every ciphertext the block of `c0`, then that of `c1`.
    words: Aligned,
}

/// One block of all ciphertexts of a [`Bank`], to be filled independently of the others.
#[derive(Debug)]
pub struct BankPart<'a> {
    row: usize,
    first: usize,
    block: usize,
    words: &'a mut [u64],
}

impl BankPart<'_> {
    /// Copies this block of ciphertexts, which the caller has had admitted by [`Bank::admit`], to the
    /// places from `index` on.
    ///
    /// # Panics
    /// If there are not so many places.
    pub fn put(&mut self, index: usize, ciphertexts: &[Ciphertext]) {
        let range = self.first..self.first + self.block;
        let places = self.words.chunks_exact_mut(2 * self.block).skip(index);
        for (place, ciphertext) in places.take(ciphertexts.len()).zip(ciphertexts) {
            let (c0, c1) = place.split_at_mut(self.block);
            c0.copy_from_slice(&ciphertext.polys[0].row(self.row)[range.clone()]);
            c1.copy_from_slice(&ciphertext.polys[1].row(self.row)[range.clone()]);
        }
    }
}

impl Bank {
    /// Places for `count` ciphertexts; zeros, which hide nothing, until they are filled.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn new(
        parameters: &Parameters,
        level: Level,
        scale: Scale,
        count: usize,
    ) -> Result<Self, Error> {
        let max = parameters.max_level();
        if level.0 > max {
            return Err(Error::NoSuchLevel {
                op: "bank of ciphertexts",
                got: level.0,
                max,
            });
        }
        Ok(Self {
            parameters: parameters.clone(),
            level,
            scale,
            count,
            slots: 1,
            block: parameters.degree().min(BLOCK),
            words: Aligned::zeros((level.0 + 1) * parameters.degree() * 2 * count),
        })
    }

    /// Number of places.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of one ciphertext at `level`.
    #[must_use]
    pub fn bytes_each(parameters: &Parameters, level: Level) -> usize {
        (level.0 + 1) * parameters.degree() * 2 * size_of::<u64>()
    }

    /// Checks that a ciphertext may stand here (fresh flags, this level and scale), and notes how many of its
    /// slots differ.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::FormMismatch`],
    /// [`Error::ScaleMismatch`].
    pub fn admit(&mut self, ciphertext: &Ciphertext) -> Result<(), Error> {
        let op = "bank of ciphertexts";
        if ciphertext.parameters != self.parameters {
            return Err(Error::ForeignParameters { op });
        }
        let (left, right) = (self.level.0, ciphertext.level().0);
        if left != right {
            return Err(Error::LevelMismatch { op, left, right });
        }
        if ciphertext.form != Form::FRESH {
            return Err(Error::FormMismatch {
                op,
                left: Form::FRESH.flags(),
                right: ciphertext.form.flags(),
            });
        }
        if !self.scale.matches(ciphertext.scale) {
            return Err(Error::ScaleMismatch {
                op,
                left: self.scale.value(),
                right: ciphertext.scale.value(),
            });
        }
        self.slots = self.slots.max(ciphertext.slots);
        Ok(())
    }

    /// All blocks, to be filled one beside the other.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = BankPart<'_>> {
        let (block, blocks) = (self.block, self.parameters.degree() / self.block);
        let chunks = self.words.chunks_exact_mut((2 * self.count * block).max(1));
        chunks.enumerate().map(move |(at, words)| BankPart {
            row: at / blocks,
            first: at % blocks * block,
            block,
            words,
        })
    }

    /// Puts a ciphertext in its place.
    ///
    /// # Errors
    /// As [`Self::admit`]; [`Error::TooManyValues`] beyond the last place.
    pub fn put(&mut self, index: usize, ciphertext: &Ciphertext) -> Result<(), Error> {
        self.check_index(index)?;
        self.admit(ciphertext)?;
        for mut part in self.parts_mut() {
            part.put(index, std::slice::from_ref(ciphertext));
        }
        Ok(())
    }

    fn check_index(&self, index: usize) -> Result<(), Error> {
        if index < self.count {
            return Ok(());
        }
        Err(Error::TooManyValues {
            op: "bank of ciphertexts",
            got: index + 1,
            limit: self.count,
        })
    }

    /// A block of `c0` and of `c1` of one ciphertext.
    fn blocks(&self, row: usize, block: usize, index: u32) -> (&[u64], &[u64]) {
        let blocks = self.parameters.degree() / self.block;
        let place = (row * blocks + block) * self.count + index as usize;
        let start = place * 2 * self.block;
        self.words[start..start + 2 * self.block].split_at(self.block)
    }

    fn result(&self, scale: Scale, slots: usize, degree: usize) -> Ciphertext {
        let mut out = Ciphertext::empty(&self.parameters, self.level, degree);
        (out.scale, out.slots) = (scale, slots);
        out.form = Form {
            rescale_pending: true,
            quadratic: degree == 2,
        };
        out
    }

    /// For every list the sum of `w` times the ciphertext of that index, `w` an integer carried at scale
    /// one: flags (1, 0), the scale unchanged. An empty list gives the transparent zero.
    ///
    /// # Errors
    /// [`Error::TooManyValues`] for an index beyond the last place.
    pub fn weighted_sums(&self, lists: &[&[(u32, i64)]]) -> Result<Vec<Ciphertext>, Error> {
        for (index, _) in lists.iter().flat_map(|list| list.iter()) {
            self.check_index(*index as usize)?;
        }
        let kernels = Kernels::active();
        let empty = |_| self.result(self.scale, self.slots, 1);
        let mut sums: Vec<_> = lists.iter().map(empty).collect();
        let blocks = self.parameters.degree() / self.block;
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        let (mut first, mut second) = (Vec::with_capacity(longest), Vec::with_capacity(longest));
        for (row, q) in self.parameters.moduli()[..=self.level.0].iter().enumerate() {
            let weights: Vec<Vec<u64>> = lists
                .iter()
                .map(|list| list.iter().map(|&(_, w)| q.reduce_i64(w)).collect())
                .collect();
            for block in 0..blocks {
                let range = block * self.block..(block + 1) * self.block;
                for ((sum, list), weights) in sums.iter_mut().zip(lists).zip(&weights) {
                    first.clear();
                    second.clear();
                    for (&(index, _), &w) in list.iter().zip(weights) {
                        let (c0, c1) = self.blocks(row, block, index);
                        first.push((c0, w));
                        second.push((c1, w));
                    }
                    let [c0, c1] = &mut sum.polys[..] else {
                        continue; // results are of degree 1
                    };
                    kernels.weigh_add_assign(q, &mut c0.row_mut(row)[range.clone()], &first);
                    kernels.weigh_add_assign(q, &mut c1.row_mut(row)[range.clone()], &second);
                }
            }
        }
        Ok(sums)
    }

    /// For every list the sum of the products of a ciphertext of this bank with one of `other`:
    /// flags (1, 1), the scales multiply. An empty list gives the transparent zero.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::InvalidScale`];
    /// [`Error::TooManyValues`] for an index beyond the last place.
    pub fn product_sums(
        &self,
        other: &Self,
        lists: &[&[(u32, u32)]],
    ) -> Result<Vec<Ciphertext>, Error> {
        let op = "sum of products";
        if self.parameters != other.parameters {
            return Err(Error::ForeignParameters { op });
        }
        let (left, right) = (self.level.0, other.level.0);
        if left != right {
            return Err(Error::LevelMismatch { op, left, right });
        }
        for (a, b) in lists.iter().flat_map(|list| list.iter()) {
            self.check_index(*a as usize)?;
            other.check_index(*b as usize)?;
        }
        let scale = self.scale.times(op, other.scale.value())?;
        let slots = self.slots.max(other.slots);
        let mut sums: Vec<_> = lists.iter().map(|_| self.result(scale, slots, 2)).collect();
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        let mut terms = Tensor::with_capacity(longest);
        let blocks = self.parameters.degree() / self.block;
        for row in 0..=left {
            for block in 0..blocks {
                for (sum, list) in sums.iter_mut().zip(lists) {
                    terms.gather(list.iter().map(|&(a, b)| {
                        let (a, b) = (self.blocks(row, block, a), other.blocks(row, block, b));
                        (a, b)
                    }));
                    terms.add_to(sum, row, block * self.block..(block + 1) * self.block);
                }
            }
        }
        Ok(sums)
    }
}

/// The operands of the three parts of a sum of products, block by block.
struct Tensor<'a> {
    outer: [Vec<(&'a [u64], &'a [u64])>; 2],
    cross: Vec<(&'a [u64], &'a [u64])>,
}

/// The blocks of `c0` and `c1`.
type Pair<'a> = (&'a [u64], &'a [u64]);

impl<'a> Tensor<'a> {
    fn with_capacity(terms: usize) -> Self {
        Self {
            outer: [Vec::with_capacity(terms), Vec::with_capacity(terms)],
            cross: Vec::with_capacity(2 * terms),
        }
    }

    fn gather(&mut self, terms: impl Iterator<Item = (Pair<'a>, Pair<'a>)>) {
        let [first, last] = &mut self.outer;
        first.clear();
        last.clear();
        self.cross.clear();
        for ((a0, a1), (b0, b1)) in terms {
            first.push((a0, b0));
            self.cross.push((a0, b1));
            self.cross.push((a1, b0));
            last.push((a1, b1));
        }
    }

    fn add_to(&self, sum: &mut Ciphertext, row: usize, range: std::ops::Range<usize>) {
        let (kernels, q) = (Kernels::active(), sum.parameters.moduli()[row]);
        let parts = [&self.outer[0], &self.cross, &self.outer[1]];
        for (poly, terms) in sum.polys.iter_mut().zip(parts) {
            kernels.dot_add_assign(&q, &mut poly.row_mut(row)[range.clone()], terms);
        }
    }
}

impl Ciphertext {
    /// Multiplies residues and scale by a public integer: the same slots at a finer scale.
    ///
    /// # Errors
    /// [`Error::InvalidScale`].
    pub fn refine_scale(&mut self, factor: u64) -> Result<(), Error> {
        self.scale = self.scale.times("finer scale", factor as f64)?;
        for poly in &mut self.polys {
            let moduli = poly.ring().moduli().to_vec();
            for (i, q) in moduli[..=poly.level()].iter().enumerate() {
                let factor = q.shoup(q.reduce(factor));
                Kernels::active().scale_assign(q, poly.row_mut(i), factor);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
