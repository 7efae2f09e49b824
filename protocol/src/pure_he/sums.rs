//! The server's arithmetic: sums of products in either style, sums over slots; every operation counted.

use std::time::Instant;

use rayon::prelude::*;
use sphinx_he::ckks::circuit::sum_slots;
use sphinx_he::ckks::{Bank, Ciphertext, Evaluator, Level};
use sphinx_he::rlwe::{GaloisKeys, RelinearizationKey, Workspace};

use super::operands::{Terms, at, bank, missing};
use super::{PureHePlan, Style};
use crate::error::Error;
use crate::work::{Kind, StepCounts, Tally, division_transforms};

/// Sums that one thread computes at once from operands side by side.
const SUMS: usize = 4;

/// Keys and counters.
#[derive(Debug)]
pub(super) struct Arithmetic {
    plan: PureHePlan,
    evaluator: Evaluator,
    relinearisation: RelinearizationKey,
    rotations: GaloisKeys,
    tally: Tally,
}

/// Operands of a layer's sums, side by side where they are used often.
#[derive(Debug)]
pub(super) struct Banks(Option<(Bank, Bank)>);

impl Banks {
    /// Lays operands side by side if the plan says so.
    pub(super) fn new((a, b): (&[Ciphertext], &[Ciphertext]), banked: bool) -> Result<Self, Error> {
        let both = banked.then(|| Ok::<_, Error>((bank(a)?, bank(b)?)));
        Ok(Self(both.transpose()?))
    }
}

impl Arithmetic {
    pub(super) fn new(
        plan: &PureHePlan,
        relinearisation: RelinearizationKey,
        rotations: GaloisKeys,
    ) -> Self {
        Self {
            evaluator: Evaluator::new(plan.parameters()),
            plan: plan.clone(),
            relinearisation,
            rotations,
            tally: Tally::default(),
        }
    }

    pub(super) const fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) const fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }

    fn workspace(&self) -> Workspace {
        Workspace::new(self.plan.parameters())
    }

    /// For every list the sum of products of `a` and `b`, relinearised and rescaled: one level
    /// down.
    pub(super) fn sums(
        &self,
        (a, b): (&[Ciphertext], &[Ciphertext]),
        banks: &Banks,
        lists: &[Terms],
    ) -> Result<Vec<Ciphertext>, Error> {
        if let Banks(Some((a, b))) = banks {
            return self.banked(a, b, lists);
        }
        let sum = |workspace: &mut Workspace, list: &Terms| match (self.plan.style(), &list[..]) {
            // One division for one product, in both styles.
            (Style::Eager, _) | (_, [_]) => self.eager(a, b, list, workspace),
            _ => self.lazy(a, b, list, workspace),
        };
        lists
            .par_iter()
            .map_init(|| self.workspace(), sum)
            .collect()
    }

    /// Relinearised and rescaled after every product, one division for both.
    fn eager(
        &self,
        a: &[Ciphertext],
        b: &[Ciphertext],
        list: &Terms,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let (start, evaluator, key) = (Instant::now(), &self.evaluator, &self.relinearisation);
        let mut sum: Option<(Ciphertext, Ciphertext)> = None;
        let mut level = 0;
        for &(left, right) in list {
            let (a, b) = (at(a, left)?, at(b, right)?);
            level = a.level().0;
            match &mut sum {
                Some((sum, term)) => {
                    evaluator.mul_relin_rescale_into(term, a, b, key, workspace)?;
                    evaluator.add_assign(sum, term)?;
                }
                None => {
                    let first = evaluator.mul_relin_rescale(a, b, key, workspace)?;
                    sum = Some((first.clone(), first));
                }
            }
        }
        let terms = list.len() as u64;
        self.tally.add(&StepCounts {
            products: terms,
            relinearisations: terms,
            rescales: terms,
            transforms: terms * self.plan.switch(level),
            ..StepCounts::default()
        });
        self.tally.spend(Kind::Products, start.elapsed());
        sum.map(|(sum, _)| sum).ok_or_else(|| missing(0))
    }

    /// Summed at degree two, relinearised and rescaled once.
    fn lazy(
        &self,
        a: &[Ciphertext],
        b: &[Ciphertext],
        list: &Terms,
        workspace: &mut Workspace,
    ) -> Result<Ciphertext, Error> {
        let (start, evaluator) = (Instant::now(), &self.evaluator);
        let mut sum: Option<(Ciphertext, Ciphertext)> = None;
        for &(left, right) in list {
            let (a, b) = (at(a, left)?, at(b, right)?);
            match &mut sum {
                Some((sum, term)) => {
                    evaluator.mul_into(term, a, b)?;
                    evaluator.add_assign(sum, term)?;
                }
                None => sum = Some((evaluator.mul(a, b)?, evaluator.empty(a.level(), 2))),
            }
        }
        self.tally.add(&StepCounts {
            products: list.len() as u64,
            ..StepCounts::default()
        });
        self.tally.spend(Kind::Products, start.elapsed());
        let (sum, _) = sum.ok_or_else(|| missing(0))?;
        self.finish(sum, workspace)
    }

    /// Sums of products of operands that lie side by side.
    fn banked(&self, a: &Bank, b: &Bank, lists: &[Terms]) -> Result<Vec<Ciphertext>, Error> {
        let sums = lists
            .par_chunks(SUMS)
            .map_init(
                || self.workspace(),
                |workspace, lists| {
                    let start = Instant::now();
                    let lists: Vec<&[(u32, u32)]> = lists.iter().map(Vec::as_slice).collect();
                    let sums = a.product_sums(b, &lists)?;
                    self.tally.add(&StepCounts {
                        products: lists.iter().map(|list| list.len() as u64).sum(),
                        ..StepCounts::default()
                    });
                    self.tally.spend(Kind::Products, start.elapsed());
                    let finished = sums.into_iter().map(|sum| self.finish(sum, workspace));
                    finished.collect::<Result<Vec<_>, Error>>()
                },
            )
            .collect::<Result<Vec<_>, _>>()?;
        Ok(sums.into_iter().flatten().collect())
    }

    /// One relinearisation and one rescale of a sum.
    fn finish(&self, mut sum: Ciphertext, workspace: &mut Workspace) -> Result<Ciphertext, Error> {
        let (start, level) = (Instant::now(), sum.level().0);
        let key = &self.relinearisation;
        self.evaluator
            .relinearize_assign(&mut sum, key, workspace)?;
        let sum = self.evaluator.rescale(sum)?;
        self.tally.add(&StepCounts {
            relinearisations: 1,
            rescales: 1,
            transforms: self.plan.switch(level) + division_transforms(level as u64, 2),
            ..StepCounts::default()
        });
        self.tally.spend(Kind::Switching, start.elapsed());
        Ok(sum)
    }

    /// Every slot becomes the sum of all that differ.
    pub(super) fn sum_slots(&self, sums: &[Ciphertext]) -> Result<Vec<Ciphertext>, Error> {
        let slots = self.plan.slots();
        let rotations = u64::from(slots.trailing_zeros());
        sums.par_iter()
            .map_init(
                || self.workspace(),
                |workspace, sum| {
                    let start = Instant::now();
                    let (evaluator, keys) = (&self.evaluator, &self.rotations);
                    let summed = sum_slots(evaluator, sum, 1, slots, keys, workspace)?;
                    self.tally.add(&StepCounts {
                        rotations,
                        transforms: rotations * self.plan.switch(sum.level().0),
                        ..StepCounts::default()
                    });
                    self.tally.spend(Kind::Rotations, start.elapsed());
                    Ok(summed)
                },
            )
            .collect()
    }

    pub(super) fn down(&self, ciphertext: &Ciphertext, level: usize) -> Result<Ciphertext, Error> {
        Ok(self.evaluator.drop_to(ciphertext.clone(), Level(level))?)
    }
}
