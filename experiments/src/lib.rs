//! The `sphinx` command and the experiment runner.
//!
//! This crate sees all others and is seen by none. It turns a command line into a resolved
//! [`config::Config`], runs it, and leaves a run directory behind from which every printed number
//! and every figure can be made again: definition, then trials, then figure.
//!
//! - [`cli`]: the command line; [`commands`]: one module per command.
//! - [`definition`]: an experiment in TOML; [`runner`]: carries it out, and goes on where it stopped.
//! - [`config`], [`inputs`], [`learning`], [`start`]: what was asked, resolved; [`privacy`]: what it costs.
//! - [`job`]: one training run by any engine; [`inference`]: private requests; [`child`]: the server
//!   beside them; [`work_ratio`]: the client that trains alone, as the opponent.
//! - [`netsim`]: what a slower network adds to a measured step, computed.
//! - [`sweep`]: the experiments that have a binary of their own.
//! - [`usage`]: whose fault an error is, and so the exit code; [`output`], [`progress`],
//!   [`table`]: what a person or a script sees.
//! - [`run_dir`], [`environment`], [`report`], [`saved_model`]: what is kept.
//!
//! Exit codes: 0 for success, 2 for bad usage or bad input, 1 for a failure.

pub mod child;
pub mod cli;
pub mod commands;
pub mod config;
pub mod definition;
pub mod environment;
pub mod inference;
pub mod inputs;
pub mod job;
pub mod layouts;
pub mod learning;
pub mod netsim;
pub mod output;
pub mod privacy;
pub mod progress;
pub mod report;
pub mod run_dir;
pub mod runner;
pub mod saved_model;
pub mod start;
pub mod sweep;
pub mod table;
pub mod usage;
pub mod work_ratio;

/// Keeps what is freed for a second, in pages of 2 MiB. A step takes and frees hundreds of megabytes in
/// large blocks, which the C library would map anew each time: up to a third of a step was page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
