//! The negacyclic transform in vectors.
//!
//! The same network and the same order as [`crate::ntt`], in another schedule. The six innermost
//! layers work on blocks of 64 values held in eight registers, three layers at a time ([`block`]);
//! those before them go through memory in passes of one to three layers ([`pass`]). The inverse has other code
//! for its first three layers ([`rows`]), unless it is wide. The schedule is
//! depth first: after a pass each of its parts is finished before the next is begun, so what fits in
//! a cache is fetched into it once. Two ways to keep values below `2^52`, told in [`forward`] and
//! [`inverse`]:
//!
//! - *narrow*, `(2 log2 N + 1) q <= 2^52` and `q < 2^47`: nothing is reduced between the layers of
//!   the forward transform, whose values grow by `2q` a layer; the inverse, whose sums double,
//!   reduces a few registers of eight in every three layers. Bits above 52 are not masked off:
//!   products do not see them, and neither sums nor differences carry downwards.
//! - *wide*, `q < 2^50`: after Harvey's butterflies, values below `4q` forward and `2q` inverse. Long rows
//!   of such moduli have *lean* tables forward, which keep half of the roots' words.
//!
//! A third way, *long*, is for `q < 2^60`: products of whole words from their 32-bit halves
//! ([`long`](super::long)), values below `8q` forward and `4q` inverse.

use super::{Field, Lanes, MAX_BITS};
use crate::zq::{Modulus, Shoup};

mod block;
mod forward;
mod inverse;
mod pass;
mod rows;

use block::BlockRoots;

/// log2 of the values of a block.
const LOG_BLOCK: u32 = 6;
/// log2 of the smallest degree: one layer before the blocks.
const MIN_LOG_N: u32 = LOG_BLOCK + 1;

/// log2 of the smallest degree of the lean kind: there a row and its roots would take three quarters of a
/// second cache of 1 MiB, and some processes get pages that do not fit it. Shorter rows gain nothing;
/// neither does the inverse, nor the narrow kind.
const LEAN_LOG_N: u32 = 15;

/// The values of a block.
type Block = [Lanes; 8];
/// A root and its quotient.
type Root = [u64; 2];

/// How products are made and values kept in bounds, as a parameter: each has code of its own.
type Kind = u8;
const NARROW: Kind = 0;
const WIDE: Kind = 1;
const LONG: Kind = 2;
/// Wide, and forward with tables that keep less ([`BlockRoots`]).
const LEAN: Kind = 3;

/// The kind for this modulus and degree.
fn kind(modulus: &Modulus, n: usize) -> Kind {
    let growth = 2 * u64::from(n.trailing_zeros()) + 1;
    match modulus.bits() {
        ..=47 if growth * modulus.value() <= 1 << 52 => NARROW,
        ..=MAX_BITS if n >= 1 << LEAN_LOG_N => LEAN,
        ..=MAX_BITS => WIDE,
        _ => LONG,
    }
}

/// A root as products of this kind take it: quotients by `2^52`, or by whole words.
const fn root(kind: Kind, w: &Shoup) -> Root {
    let shift = if kind == LONG { 0 } else { 12 };
    [w.value, w.quotient >> shift]
}

/// The roots of one direction.
#[derive(Clone, Debug)]
struct Direction {
    /// Roots in the order of [`crate::ntt::NttTable`], up to the blocks: as many as there are blocks.
    roots: Vec<Root>,
    blocks: BlockRoots,
}

/// Something at the start of a page of the stack.
///
/// What is called after it then has its frames at the same place of a page in every process. Where they
/// happen to cross a page, the inverse takes up to an eighth longer (measured).
#[repr(C, align(4096))]
struct OnPage<T>(T);

/// The tables of one modulus and degree. There is one only where the processor has the
/// instructions.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    modulus: Modulus,
    kind: Kind,
    forward: Direction,
    inverse: Direction,
    /// `1/N` and `1/N` times the root of the last inverse layer.
    last: [Shoup; 2],
}

impl Direction {
    /// The roots of the inverse, those of right children negated where it is wide.
    fn inverse(modulus: &Modulus, roots: &[Shoup], kind: Kind) -> Self {
        if !matches!(kind, WIDE | LEAN) {
            let blocks = BlockRoots::in_rows(roots, kind);
            return Self {
                blocks,
                ..Self::new(roots, kind)
            };
        }
        let negated = |(node, &w): (usize, &Shoup)| match node {
            0 | 1 => w,
            _ if node % 2 == 0 => w,
            _ => modulus.shoup(modulus.neg(w.value)),
        };
        let roots: Vec<Shoup> = roots.iter().enumerate().map(negated).collect();
        Self::new(&roots, WIDE)
    }

    fn new(roots: &[Shoup], kind: Kind) -> Self {
        let count = roots.len() >> LOG_BLOCK;
        Self {
            roots: roots[..count].iter().map(|w| root(kind, w)).collect(),
            blocks: BlockRoots::new(roots, kind),
        }
    }
}

/// Layers of the first of the passes that do `layers` layers: three in each, but two in the first
/// one or two where three do not divide them.
const fn first_pass(layers: u32) -> u32 {
    match layers {
        0..=3 => layers,
        _ if layers.is_multiple_of(3) => 3,
        _ => 2,
    }
}

impl Roots {
    /// Tables for these roots, as [`crate::ntt::NttTable`] orders them; none where the processor
    /// lacks the instructions or `N < 128`.
    pub(crate) fn new(
        modulus: Modulus,
        forward: &[Shoup],
        inverse: &[Shoup],
        last: [Shoup; 2],
    ) -> Option<Self> {
        let n = forward.len();
        if !super::available() || n < 1 << MIN_LOG_N {
            return None;
        }
        let kind = kind(&modulus, n);
        Some(Self {
            modulus,
            kind,
            forward: Direction::new(forward, kind),
            inverse: Direction::inverse(&modulus, inverse, kind),
            last,
        })
    }

    /// Coefficients to evaluations.
    pub(crate) fn forward(&self, row: &mut [u64]) {
        // SAFETY: `new` found the features that both functions require
        unsafe {
            match self.kind {
                NARROW => self.forward_as::<NARROW, false>(row),
                WIDE => self.forward_as::<WIDE, false>(row),
                LEAN => self.forward_as::<LEAN, false>(row),
                _ => self.forward_as::<LONG, false>(row),
            }
        }
    }

    /// Coefficients to evaluations below `2^52`; residues where the modulus is long.
    pub(crate) fn forward_lazy(&self, row: &mut [u64]) {
        // SAFETY: `new` found the features that both functions require
        unsafe {
            match self.kind {
                NARROW => self.forward_as::<NARROW, true>(row),
                WIDE => self.forward_as::<WIDE, true>(row),
                LEAN => self.forward_as::<LEAN, true>(row),
                _ => self.forward_as::<LONG, false>(row),
            }
        }
    }

    /// Evaluations to coefficients.
    pub(crate) fn inverse(&self, row: &mut [u64]) {
        // SAFETY: `new` found the features that both functions require
        unsafe {
            match self.kind {
                NARROW => self.inverse_as::<NARROW>(row),
                WIDE | LEAN => self.inverse_as::<WIDE>(row),
                _ => self.inverse_as::<LONG>(row),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_as<const KIND: Kind, const LAZY: bool>(&self, row: &mut [u64]) {
        let (blocks, _) = row.as_chunks_mut::<8>().0.as_chunks_mut();
        let field = OnPage(Field::new(&self.modulus));
        field.0.forward_part::<KIND, LAZY>(blocks, &self.forward, 1);
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_as<const KIND: Kind>(&self, row: &mut [u64]) {
        let (blocks, _) = row.as_chunks_mut::<8>().0.as_chunks_mut();
        let field = OnPage(Field::new(&self.modulus));
        field
            .0
            .inverse_part::<KIND, true>(blocks, &self.inverse, 1, self.last);
    }
}

impl Field {
    /// The layers from `node` on, which is the number of its root: that of its halves are
    /// `2 node` and `2 node + 1`.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn forward_part<const KIND: Kind, const LAZY: bool>(
        &self,
        part: &mut [Block],
        tables: &Direction,
        node: usize,
    ) {
        let layers = first_pass(part.len().trailing_zeros());
        self.forward_pass::<KIND>(layers, part.as_flattened_mut(), &tables.roots, node);
        let (node, count) = (node << layers, part.len() >> layers);
        if count > 1 {
            for (i, part) in part.chunks_exact_mut(count).enumerate() {
                self.forward_part::<KIND, LAZY>(part, tables, node + i);
            }
        } else {
            let first = (node - tables.roots.len()) / 2;
            let (pairs, _) = part.as_chunks_mut();
            for (blocks, roots) in pairs.iter_mut().zip(tables.blocks.outer(first)) {
                self.forward_outer::<KIND>(blocks, roots);
            }
            let inner = tables.blocks.inner::<KIND>(first);
            for (blocks, roots) in pairs.iter_mut().zip(inner) {
                self.forward_inner::<KIND, LAZY>(blocks, roots);
            }
        }
    }

    /// The layers up to `node`; residues where `LAST`.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn inverse_part<const KIND: Kind, const LAST: bool>(
        &self,
        part: &mut [Block],
        tables: &Direction,
        node: usize,
        last: [Shoup; 2],
    ) {
        let layers = first_pass(part.len().trailing_zeros());
        let (below, count) = (node << layers, part.len() >> layers);
        if count > 1 {
            for (i, part) in part.chunks_exact_mut(count).enumerate() {
                self.inverse_part::<KIND, false>(part, tables, below + i, last);
            }
        } else {
            let first = (below - tables.roots.len()) / 2;
            let (pairs, _) = part.as_chunks_mut();
            let (inner, outer) = (tables.blocks.inner_from(first), tables.blocks.outer(first));
            if KIND == WIDE {
                self.inverse_inner(pairs, inner);
            } else {
                self.inverse_rows::<KIND>(pairs.as_flattened_mut(), inner);
            }
            if KIND == NARROW {
                self.inverse_narrow_blocks(pairs, outer);
            } else {
                self.inverse_outer::<KIND>(pairs, outer);
            }
        }
        let part = part.as_flattened_mut();
        self.inverse_pass::<KIND, LAST>(layers, part, &tables.roots, node, last);
    }
}
