//! One item per chapter of the book: its code blocks are doctests of this crate.

#[doc = include_str!("../../book/src/01-promise.md")]
pub struct Promise;

#[doc = include_str!("../../book/src/02-transform.md")]
pub struct Transform;

#[doc = include_str!("../../book/src/03-exact.md")]
pub struct Exact;

#[doc = include_str!("../../book/src/04-packing.md")]
pub struct Packing;

#[doc = include_str!("../../book/src/05-one-step.md")]
pub struct OneStep;

#[doc = include_str!("../../book/src/06-renyi.md")]
pub struct Renyi;

#[doc = include_str!("../../book/src/07-messages.md")]
pub struct Messages;

#[doc = include_str!("../../book/src/08-tickets.md")]
pub struct Tickets;

#[doc = include_str!("../../book/src/09-bias-gap.md")]
pub struct BiasGap;

#[doc = include_str!("../../book/src/10-runs.md")]
pub struct Runs;

#[doc = include_str!("../../book/src/11-replicate.md")]
pub struct Replicate;

#[doc = include_str!("../../book/src/appendix.md")]
pub struct Appendix;
