//! Errors, grouped by who is to blame.

use std::io;

use sphinx_dp::mechanism::{ClipError, ReleaseError};
use sphinx_nn::network::{ArchitectureError, LayerSpec};
use thiserror::Error;

use crate::message::Refusal;
use crate::model::ModelVersion;
use crate::packed::layout::Tiling;
use crate::plan::{Exactness, Phase};

/// Anything that can go wrong between two parties.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    // ---- the plan: whoever wrote it ------------------------------------------------------
    /// The network is malformed.
    #[error("network: {0}")]
    Architecture(#[from] ArchitectureError),
    /// The network is sound, but such a layer has no grid.
    #[error(
        "network: layer {layer} is {found:?}, which the integer and encrypted engines do not \
         compute; use it without learned scales, or the clear engine without --grid"
    )]
    UnsupportedLayer {
        /// Position in the description, from 0.
        layer: usize,
        /// What stands there.
        found: LayerSpec,
    },
    /// The network is sound, but a convolution has no ciphertext layout.
    #[error(
        "network: linear layer {layer} is a convolution padded by half its kernel or more, or with \
         a kernel larger than image and margin, for which there is no ciphertext layout; use less \
         padding, or the clear engine"
    )]
    WidePadding {
        /// Index of the linear layer.
        layer: usize,
    },
    /// A product that a client cannot keep.
    #[error(
        "local: {phase} of layer {layer} is no product of a training step of this network of \
         {layers} linear layers; expected forward or gradient of any, or backward of any but the \
         first, each once"
    )]
    LocalPhase {
        /// The product.
        phase: Phase,
        /// Its layer.
        layer: usize,
        /// Linear layers of the network.
        layers: usize,
    },
    /// The homomorphic parameters are malformed or insecure.
    #[error("homomorphic parameters: {0}")]
    Parameters(#[from] sphinx_he::ParameterError),
    /// Learning rate, momentum or divisor are unusable.
    #[error(
        "step size: learning rate {learning_rate}, momentum {momentum} and divisor {divisor} do \
         not give a usable integer rule; expected positive finite numbers and momentum in [0, 1)"
    )]
    StepSize {
        /// Learning rate as given.
        learning_rate: f64,
        /// Momentum as given.
        momentum: f64,
        /// Divisor as given.
        divisor: f64,
    },
    /// No gradient grid fits.
    #[error(
        "clip bound {clip_bound} with {capacity} rows leaves no exact gradient grid: choose \
         clip bound x capacity positive and below 2^19"
    )]
    ClipBound {
        /// Clip bound as given.
        clip_bound: f64,
        /// Batch capacity.
        capacity: usize,
    },
    /// Zero rows.
    #[error("a plan needs rows: capacity {capacity}, tickets {tickets}; both must be at least 1")]
    EmptyPlan {
        /// Batch capacity.
        capacity: usize,
        /// Tickets at once.
        tickets: usize,
    },
    /// A number is outside what this implementation accepts.
    #[error("{what}: {got}, expected between 1 and {limit}; {}", remedy(what))]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The value.
        got: usize,
        /// The largest accepted.
        limit: usize,
    },
    /// All models in use need more memory than the server gives.
    #[error(
        "this model may need {needed} bytes at the server, and models in use leave less of the \
         {limit} it gives: wait until another client leaves, take a smaller batch, or give the \
         server more (`serve --memory`)"
    )]
    Memory {
        /// What this model may need.
        needed: usize,
        /// What all models may need.
        limit: usize,
    },
    /// Wrong number of primes for this engine.
    #[error(
        "this engine needs {expected} primes (one kept, one dropped), the plan has {got}; give `log_q` that many"
    )]
    PrimeCount {
        /// Number of primes.
        got: usize,
        /// Number needed.
        expected: usize,
    },
    /// Not even the reach of one kernel in one channel fits.
    #[error(
        "layer {layer}: the rows that one kernel reaches over, with their margins, fill {degree} \
         coefficients; use smaller images or a larger ring"
    )]
    NoLayout {
        /// Index of the linear layer.
        layer: usize,
        /// Ring degree.
        degree: usize,
    },
    /// Not one tiling per layer.
    #[error(
        "the network has {expected} linear layers, the plan has {got} tilings; give one per layer"
    )]
    TilingCount {
        /// Number of linear layers.
        expected: usize,
        /// Number of tilings.
        got: usize,
    },
    /// A tile does not fit the ring.
    #[error(
        "layer {layer}: tile {tiling:?} does not fit into {degree} coefficients; take smaller tiles"
    )]
    TilingTooLarge {
        /// Index of the linear layer.
        layer: usize,
        /// The tiling.
        tiling: Tiling,
        /// Ring degree.
        degree: usize,
    },
    /// A layout that has no gradient.
    #[error(
        "layer {layer}: a scalar tiling has no gradient; keep that product at the client, or train with whole samples or a stream"
    )]
    NoGradient {
        /// Index of the linear layer.
        layer: usize,
    },
    /// Products could exceed 32-bit results.
    #[error(
        "layer {layer}: sums reach 2^{log2_bound:.1}, results hold 2^{bits}; use a smaller layer"
    )]
    SumTooLarge {
        /// Index of the linear layer.
        layer: usize,
        /// log2 of the bound.
        log2_bound: f64,
        /// What they are computed in holds integers below `2^bits`.
        bits: u32,
    },
    /// Inference masks are too short for the layer.
    #[error(
        "layer {layer}: results reach 2^{log2_bound:.1}, masks of {mask_bits} bits hold \
         2^{}; use more mask bits", mask_bits - 1
    )]
    MaskTooNarrow {
        /// Index of the linear layer.
        layer: usize,
        /// Bits of the masks.
        mask_bits: u32,
        /// log2 of the bound.
        log2_bound: f64,
    },
    /// The gradient grid is coarser than an input grid.
    #[error(
        "the gradient grid has {got} fraction bits, expected at least {least}; take a smaller clip bound or batch"
    )]
    GradientGrid {
        /// Fraction bits of the plan.
        got: u32,
        /// Fraction bits of the finest input grid.
        least: u32,
    },
    /// A model and a plan that do not belong together.
    #[error("the model was not made on this plan's grids: open it with the plan it was trained by")]
    OtherGrids,
    /// A replica by another rule of biases.
    #[error(
        "the biases of this model follow the published rule, the plan takes the default one; give both the same"
    )]
    OtherBiases,
    /// A product would not decode exactly.
    #[error(
        "layer {}: the {} product would not decode exactly: log2 of the failure probability {:.1} \
         (at most -128 accepted), headroom {:.1} bits (must be positive); take longer primes, a smaller batch or a narrower layer",
        .0.layer, .0.phase, .0.log2_failure, .0.log2_headroom
    )]
    Inexact(Exactness),
    /// Inexact plans exist only to observe failures.
    #[error("a plan that may decode wrongly needs Toy parameters; build a real one with `new`")]
    InexactNeedsToy,
    /// The literal has no canonical text.
    #[error("the plan has no canonical text: one of its numbers is not finite; give finite ones")]
    PlanText,

    // ---- our caller ----------------------------------------------------------------------
    /// Wrong number of columns.
    #[error("layer {layer} takes {expected} inputs, got {got}; give one column per input")]
    Columns {
        /// Index of the linear layer.
        layer: usize,
        /// Inputs of the layer.
        expected: usize,
        /// Columns given.
        got: usize,
    },
    /// Wrong number of rows.
    #[error("every batch has {expected} rows, got {got}; pad it to the capacity of the plan")]
    Capacity {
        /// Rows of the plan.
        expected: usize,
        /// Rows given.
        got: usize,
    },
    /// A gradient with the inputs of another layer.
    #[error(
        "the held inputs belong to layer {expected}, the gradient to layer {got}; give both of the same"
    )]
    HeldLayer {
        /// Layer of the inputs.
        expected: usize,
        /// Layer of the gradient.
        got: usize,
    },
    /// Every sample's gradient was asked of an engine that sees only clipped sums.
    #[error(
        "layer {layer}: this engine multiplies clipped factors and never has the gradient of a \
         sample; use a plan that clips factors, or the engine paper"
    )]
    ClipsFactors {
        /// Index of the linear layer.
        layer: usize,
    },
    /// The product of clipped factors was asked of an engine that clips samples.
    #[error("layer {layer}: this engine clips the gradients of samples; use a plan that says so")]
    ClipsSamples {
        /// Index of the linear layer.
        layer: usize,
    },
    /// A step out of order.
    #[error("the model's next step is {expected}, got {got}; take the steps in order, each once")]
    StepOrder {
        /// Next step.
        expected: u64,
        /// Step given.
        got: u64,
    },
    /// An update or model of the wrong length.
    #[error(
        "expected {expected} values for this network, got {got}; give one per parameter of its layout"
    )]
    UpdateLength {
        /// Values expected.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// An imported weight beyond its grid.
    #[error(
        "weight {weight} is beyond the grid's limit: expected -{limit} to {limit}; use weights of this plan"
    )]
    WeightOutOfRange {
        /// The weight.
        weight: i32,
        /// Its limit.
        limit: i64,
    },
    /// A learning rate that sums of output gradients cannot be multiplied with.
    #[error(
        "layer {layer}: the published rule of biases multiplies sums of output gradients by {multiplier}, expected \
         {least} to {most}; take a larger learning rate or smaller batches, or the default rule"
    )]
    BiasRate {
        /// Index of the linear layer.
        layer: usize,
        /// The rate in units of the biases' grid.
        multiplier: i128,
        /// The least that represents a rate.
        least: i128,
        /// The most that sums have room for.
        most: i128,
    },
    /// A kept bias beyond its limit.
    #[error(
        "bias {bias} is beyond the limit: expected -{limit} to {limit}; use a smaller learning rate or smaller first biases"
    )]
    BiasOutOfRange {
        /// The bias.
        bias: f64,
        /// Its limit.
        limit: f64,
    },
    /// Keys of rotations other than those of the plan.
    #[error("keys of rotations: expected {expected}, got {got}; make those that the plan names")]
    RotationKeys {
        /// What the plan asks for.
        expected: String,
        /// What came.
        got: String,
    },
    /// More updates than the encrypted biases can take.
    #[error(
        "step {step} is beyond the {limit} updates that keep the encrypted biases exact; plan fewer, or go on under a new key or with a new model"
    )]
    TooManySteps {
        /// The step.
        step: u64,
        /// Updates covered by the bound.
        limit: u64,
    },
    /// No inference tickets left.
    #[error("no inference ticket is left: prepare more before asking")]
    NoTicket,
    /// A request with another shape than one row.
    #[error("an inference request has one row, got {got}; ask for one record at a time")]
    RequestRows {
        /// Rows given.
        got: usize,
    },
    /// Engine and mechanism clip differently.
    #[error(
        "the engine clips to {engine} grid units, the mechanism accounts for {mechanism}; give both the same bound"
    )]
    ClipMismatch {
        /// The engine's bound.
        engine: u64,
        /// The mechanism's bound.
        mechanism: u64,
    },
    /// Sampler and mechanism, or sampler and batch, do not belong together.
    #[error("{what}: the sampler has {sampler}, the run {run}; give both the same")]
    SamplerMismatch {
        /// What differs.
        what: &'static str,
        /// The sampler's value.
        sampler: f64,
        /// The run's value.
        run: f64,
    },
    /// A label that the network has no class for.
    #[error(
        "the data has a label {label}, the network {classes} classes; labels must be below that"
    )]
    Label {
        /// The label.
        label: u8,
        /// Classes of the network.
        classes: usize,
    },
    /// A network and a data set that do not fit.
    #[error(
        "the network takes {expected} values per record, the data set has {got}; use a network made for it"
    )]
    DataShape {
        /// Inputs of the network.
        expected: usize,
        /// Pixels of the data set.
        got: usize,
    },

    // ---- bytes and the peer ----------------------------------------------------------------
    /// Bytes that are no message.
    #[error("invalid message: {0}")]
    Invalid(#[from] Malformed),
    /// A ciphertext that does not decode.
    #[error("invalid ciphertext: {0}")]
    Ciphertext(#[from] sphinx_he::DecodeError),
    /// A well-formed message at the wrong moment or with wrong content.
    #[error("the peer misbehaved: expected {expected}, got {got}")]
    Unexpected {
        /// What the protocol allows now.
        expected: String,
        /// What came.
        got: String,
    },
    /// A product that is not what the client asked for. The secret key is destroyed by now.
    #[error(
        "layer {layer}: the {phase} product that the server returned is wrong. The run has stopped \
         for good, its secret key is destroyed and nothing more was sent: do not go on with it; \
         find out what the server does, and begin a new run"
    )]
    WrongProduct {
        /// Index of the linear layer.
        layer: usize,
        /// Which product.
        phase: Phase,
    },
    /// A backup that is not what the client's encrypted changes add up to. The secret key is
    /// destroyed by now.
    #[error(
        "the backup of the biases that the server returned is wrong. The run has stopped for good, \
         its secret key is destroyed: do not go on with it"
    )]
    WrongBackup,
    /// A call after [`Error::WrongProduct`] or [`Error::WrongBackup`].
    #[error(
        "a check of the server's results failed: this run has stopped for good, begin a new one"
    )]
    Stopped,
    /// The server declined.
    #[error("the server refused: {reason}: {detail}")]
    Refused {
        /// Why, for programs.
        reason: Refusal,
        /// Why, for people.
        detail: String,
    },
    /// Client and server do not have the same weights.
    #[error(
        "model versions differ: ours {ours}, theirs {theirs}; go on from the newest checkpoint, or open a new model"
    )]
    VersionMismatch {
        /// Our version.
        ours: ModelVersion,
        /// Theirs.
        theirs: ModelVersion,
    },
    /// The connection failed.
    #[error("connection: {0}")]
    Transport(#[from] io::Error),
    /// The peer closed the connection.
    #[error("the peer closed the connection while {0}; look for its error, then connect again")]
    Disconnected(&'static str),

    // ---- the layers below ------------------------------------------------------------------
    /// Homomorphic evaluation.
    #[error("homomorphic evaluation: {0}")]
    He(#[from] sphinx_he::Error),
    /// The float engine.
    #[error("float engine: {0}")]
    Clear(#[from] sphinx_nn::clear::ClearError),
    /// The clipped sum was not clipped.
    #[error("clipping: {0}")]
    Clip(#[from] ClipError),
    /// The release was refused, for instance because the budget is spent.
    #[error("release: {0}")]
    Release(#[from] ReleaseError),
    /// A number outside the range of a privacy parameter.
    #[error("privacy parameter: {0}")]
    Range(#[from] sphinx_dp::RangeError),
}

/// What to do about a quantity that is outside its limits.
fn remedy(what: &str) -> &'static str {
    match what {
        "bytes held by the server" => "take a smaller batch, fewer tickets or narrower layers",
        "models held by the server" => "wait until another client leaves",
        "ring degree" => "take a smaller `log_n`",
        "batch capacity" | "rows of a batch" => "take another batch size",
        "tickets prepared at once" => "prepare another number at once",
        "parameters" | "parameters of the network" => "take a smaller network",
        "ciphertexts in one sum of products" => "take narrower layers",
        "gradient fraction bits" | "clip bound" => "take another clip bound or batch size",
        _ => "take a value in that range",
    }
}

impl Error {
    /// Whether a check of the server's results failed: what it belongs to must never go on.
    #[must_use]
    pub const fn ends_the_run(&self) -> bool {
        matches!(
            self,
            Self::WrongProduct { .. } | Self::WrongBackup | Self::Stopped
        )
    }
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The frame ends too early.
    #[error("{field}: expected {needed} more bytes, {left} are left")]
    Truncated {
        /// Field being read.
        field: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes left.
        left: usize,
    },
    /// The frame goes on after the message.
    #[error("{0} bytes follow the message, expected none")]
    Trailing(usize),
    /// No such kind of message.
    #[error("unknown kind of message {0:#04x}; both parties must have the same version")]
    Kind(u8),
    /// A text that is not UTF-8, or too long.
    #[error("{0} is not a UTF-8 text of the length allowed")]
    Text(&'static str),
    /// A frame longer than allowed now.
    #[error("a frame of {got} bytes exceeds the limit of {limit} at this point")]
    FrameTooLong {
        /// Announced length.
        got: u64,
        /// Limit.
        limit: usize,
    },
    /// A number outside its range.
    #[error("{field} is {got}, at most {limit} allowed")]
    OutOfRange {
        /// Field being read.
        field: &'static str,
        /// Value.
        got: u64,
        /// Limit.
        limit: u64,
    },
    /// The plan is not the JSON of a plan.
    #[error(
        "the plan is not a plan in JSON (line {line}, column {column}); both parties must have the same version"
    )]
    PlanJson {
        /// Line of the problem.
        line: usize,
        /// Column of the problem.
        column: usize,
    },
}
