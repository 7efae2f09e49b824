//! The kernels of key switching: change of basis, inner product, division, permutation.
//!
//! A *lazy* residue of `q` is any representative below `2^52` where `q` has at most 50 bits, and
//! the canonical one otherwise: what the 52-bit products can take. All results are canonical, so
//! every back end gives the same words.

#[cfg(target_arch = "x86_64")]
use super::{Backend, avx512};
use super::{Kernels, scalar};
use crate::zq::{Modulus, Shoup};

/// Most rows of [`Kernels::convert`].
pub const MAX_ROWS: usize = 64;

/// A permutation of whole groups of eight words, each group shuffled by one of eight patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permutation {
    /// For each group, eight times the number of its source, plus that of the pattern.
    pub(super) groups: Vec<u32>,
    /// For each pattern, the source of each word in its group, below 8.
    pub(super) patterns: [[u64; 8]; 8],
}

impl Permutation {
    /// `sources` gives the source group and the pattern of each group, `lane(pattern, i)` the
    /// source of word `i`; patterns and words count modulo 8.
    ///
    /// Groups must lie within the row that is permuted: [`Kernels::permute`] panics otherwise.
    pub fn new(
        sources: impl Iterator<Item = (usize, usize)>,
        lane: impl Fn(usize, usize) -> u64,
    ) -> Self {
        let lane = &lane;
        Self {
            groups: sources
                .map(|(group, pattern)| (8 * group + pattern % 8) as u32)
                .collect(),
            patterns: std::array::from_fn(|pattern| std::array::from_fn(|i| lane(pattern, i) % 8)),
        }
    }
}

impl Kernels {
    /// `out = a w` for one constant; `a` may be lazy.
    pub fn scale(self, q: &Modulus, out: &mut [u64], a: &[u64], w: Shoup) {
        debug_assert_eq!(out.len(), a.len());
        dispatch!(self, scale(q, out, a, w), long);
    }

    /// `out = (a - b) w` for one constant: a division by a prime. `b` may be lazy.
    pub fn sub_scale(self, q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64], w: Shoup) {
        debug_assert!(out.len() == a.len() && a.len() == b.len());
        dispatch!(self, sub_scale(q, out, a, b, w), long);
    }

    /// `acc += (a - b) w` for one constant: a division by a prime whose result is added. `b` may
    /// be lazy.
    pub fn sub_scale_add_assign(
        self,
        q: &Modulus,
        acc: &mut [u64],
        a: &[u64],
        b: &[u64],
        w: Shoup,
    ) {
        debug_assert!(acc.len() == a.len() && a.len() == b.len());
        dispatch!(self, sub_scale_add_assign(q, acc, a, b, w), long);
    }

    /// `out0 = sum_t d_t k_t`, `out1 = sum_t d_t l_t` for terms `(d, k, l)`: the inner product of
    /// digits with both halves of a key. Sums are reduced once. The digits `d` may be lazy.
    pub fn dot_pair(
        self,
        q: &Modulus,
        out0: &mut [u64],
        out1: &mut [u64],
        terms: &[(&[u64], &[u64], &[u64])],
    ) {
        debug_assert_eq!(out0.len(), out1.len());
        debug_assert!(terms.iter().all(|(d, k, l)| {
            d.len() == out0.len() && k.len() == out0.len() && l.len() == out0.len()
        }));
        dispatch!(self, dot_pair(q, out0, out1, terms), long);
    }

    /// `out = sum_i factors_i digits_i mod to`: a row of another basis. `digits` has one row of
    /// `out.len()` words for each factor, back to back; factors are residues of `to`, words of
    /// digits below `2^digit_bits`, `digit_bits <= 60`; at most [`MAX_ROWS`] rows.
    pub fn convert(
        self,
        to: &Modulus,
        out: &mut [u64],
        digits: &[u64],
        factors: &[u64],
        digit_bits: u32,
    ) {
        debug_assert_eq!(digits.len(), out.len() * factors.len());
        debug_assert!(factors.len() <= MAX_ROWS && digit_bits <= 60);
        #[cfg(target_arch = "x86_64")]
        if self.0 == Backend::Avx512 {
            // SAFETY: kernels are made only where the back end's instructions were found
            return unsafe { avx512::convert(to, out, digits, factors, digit_bits) };
        }
        scalar::convert(to, out, digits, factors);
    }

    /// `out = floor(sum_i x_i / q_i + 1/2)` in double precision, where row `i` of `digits` has
    /// residues `x_i` of modulus `i`: how often the product of the moduli is to be taken off a sum
    /// of Chinese remainders to centre it. Wrong by one only where the sum is within `2^-44` of a
    /// half.
    pub fn quotients(self, moduli: &[Modulus], out: &mut [u64], digits: &[u64]) {
        debug_assert_eq!(digits.len(), out.len() * moduli.len());
        debug_assert!(moduli.len() <= MAX_ROWS);
        #[cfg(target_arch = "x86_64")]
        if self.0 == Backend::Avx512 {
            // SAFETY: kernels are made only where the back end's instructions were found
            return unsafe { avx512::quotients(moduli, out, digits) };
        }
        scalar::quotients(moduli, out, digits);
    }

    /// `out` is `a` permuted; their length is eight times the number of groups.
    ///
    /// # Panics
    /// If the permutation names a group outside `a`.
    pub fn permute(self, out: &mut [u64], a: &[u64], permutation: &Permutation) {
        debug_assert!(out.len() == a.len() && a.len() == 8 * permutation.groups.len());
        #[cfg(target_arch = "x86_64")]
        if self.0 == Backend::Avx512 {
            // SAFETY: kernels are made only where the back end's instructions were found
            return unsafe { avx512::permute(out, a, permutation) };
        }
        scalar::permute(out, a, permutation);
    }
}
