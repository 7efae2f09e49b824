//! Places of a matrix, cut into blocks of evaluations.

use std::ops::Range;

use crate::ring::{Aligned, Eval, Poly};
use crate::rlwe::Parameters;
use crate::simd::{BLOCK, Kernels};

/// Neighbouring blocks that are filled together: a kilobyte of each polynomial is read at once.
const BLOCKS_AT_ONCE: usize = 8;

/// A matrix of places cut across: prime by prime, block by block, row by row.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) degree: usize,
    /// Evaluations in a block.
    pub(super) block: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Polynomials in a place.
    depth: usize,
    primes: usize,
    /// Perhaps more than needed.
    words: Aligned,
}

impl Sheet {
    pub(super) fn new(
        parameters: &Parameters,
        level: usize,
        size: (usize, usize),
        depth: usize,
    ) -> Self {
        Self::cut(parameters, level, BLOCK, size, depth)
    }

    /// Cut into blocks of so many evaluations, or of one where there are fewer.
    pub(super) fn cut(
        parameters: &Parameters,
        level: usize,
        block: usize,
        (rows, columns): (usize, usize),
        depth: usize,
    ) -> Self {
        let degree = parameters.degree();
        let mut sheet = Self {
            degree,
            block: degree.min(block),
            rows,
            columns,
            depth,
            primes: level + 1,
            words: Aligned::zeros(0),
        };
        sheet.words = Aligned::zeros(sheet.words());
        sheet
    }

    /// Words of all places.
    pub(super) const fn words(&self) -> usize {
        self.primes * self.blocks() * self.rows * self.pitch()
    }

    /// Gives the memory of this sheet to one of another size, if it is large enough.
    pub(super) fn resized(mut self, level: usize, (rows, columns): (usize, usize)) -> Option<Self> {
        (self.primes, self.rows, self.columns) = (level + 1, rows, columns);
        (self.words() <= self.words.len()).then_some(self)
    }

    /// Places from one row to the next: an odd number, so that a column does not fall on few sets
    /// of the cache.
    pub(super) const fn columns_apart(&self) -> usize {
        self.columns | 1
    }

    pub(super) const fn place(&self) -> usize {
        self.depth * self.block
    }

    /// Words from one row to the next.
    pub(super) const fn pitch(&self) -> usize {
        self.columns_apart() * self.place()
    }

    pub(super) const fn blocks(&self) -> usize {
        self.degree / self.block
    }

    /// One block of one prime of all places.
    pub(super) fn at(&self, prime: usize, block: usize) -> &[u64] {
        let size = self.rows * self.pitch();
        let at = prime * self.blocks() + block;
        &self.words[at * size..(at + 1) * size]
    }

    /// One block of one prime of a row.
    pub(super) fn row(&self, prime: usize, block: usize, row: usize) -> &[u64] {
        let start = row * self.pitch();
        &self.at(prime, block)[start..start + self.columns * self.place()]
    }

    pub(super) fn parts_mut(&mut self) -> impl Iterator<Item = Part<'_>> {
        let (blocks, block, place, pitch) = (self.blocks(), self.block, self.place(), self.pitch());
        let (size, all) = (self.rows * pitch, self.words());
        let at_once = BLOCKS_AT_ONCE.min(blocks);
        let words = self.words[..all].chunks_exact_mut((at_once * size).max(1));
        words.enumerate().map(move |(at, words)| {
            let first = at * at_once % blocks * block;
            Part {
                prime: at * at_once / blocks,
                range: first..first + at_once * block,
                block,
                place,
                pitch,
                size,
                words,
            }
        })
    }
}

/// Neighbouring blocks of one prime of all places.
#[derive(Debug)]
pub(super) struct Part<'a> {
    prime: usize,
    /// The evaluations of these blocks.
    range: Range<usize>,
    block: usize,
    place: usize,
    pitch: usize,
    /// Words from one block to the next.
    size: usize,
    words: &'a mut [u64],
}

impl Part<'_> {
    pub(super) fn put<'p>(
        &mut self,
        row: usize,
        column: usize,
        polys: impl IntoIterator<Item = &'p Poly<Eval>>,
    ) {
        let kernels = Kernels::active();
        let start = row * self.pitch + column * self.place;
        let starts = (start..start + self.place).step_by(self.block);
        for (start, poly) in starts.zip(polys) {
            let from = &poly.row(self.prime)[self.range.clone()];
            kernels.cut(&mut self.words[start..], self.size, from, self.block);
        }
    }
}
