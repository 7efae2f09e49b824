//! What can go wrong, by kind: judging parameters, computing, reading bytes.
//!
//! Sits at the root of the crate: every layer reports through these three types. An error names
//! the operation, the quantities that clashed and what was expected. None of them carries secret
//! data: sizes, levels, encodings and positions are public in this scheme.

use thiserror::Error as ThisError;

use crate::exact::Encoding;

/// A parameter literal that was refused.
#[derive(Debug, Clone, PartialEq, ThisError)]
#[non_exhaustive]
pub enum ParameterError {
    /// The degree is outside the range that the crate supports.
    #[error("log_n = {log_n} is outside {min}..={max}; choose a degree inside it")]
    DegreeOutOfRange {
        /// What the literal asked for.
        log_n: u32,
        /// The smallest degree allowed, as a logarithm.
        min: u32,
        /// The largest degree allowed, as a logarithm.
        max: u32,
    },
    /// A modulus is even, too small or too large for the kernels.
    #[error("modulus {value} is not an odd number of 2 to {max_bits} bits")]
    ModulusOutOfRange {
        /// The refused modulus.
        value: u64,
        /// The largest size in bits.
        max_bits: u32,
    },
    /// A prime size is outside the supported range.
    #[error("a prime of {bits} bits was asked for; sizes {min}..={max} are supported")]
    PrimeSizeOutOfRange {
        /// Size asked for, in bits.
        bits: u32,
        /// Smallest size, in bits.
        min: u32,
        /// Largest size, in bits.
        max: u32,
    },
    /// There are not enough primes of this size that are 1 modulo 2N.
    #[error("too few primes of {bits} bits are 1 modulo 2^{log_two_n}; use another size")]
    NoPrime {
        /// Size asked for, in bits.
        bits: u32,
        /// log2 of twice the degree.
        log_two_n: u32,
    },
    /// The modulus is no prime that is 1 modulo 2N, so there is no transform.
    #[error("{modulus} is not a prime that is 1 modulo {two_n}: no transform exists")]
    NoRoot {
        /// The modulus.
        modulus: u64,
        /// Twice the degree.
        two_n: u64,
    },
    /// An automorphism `Y -> Y^g` was asked for with an even `g`, which has no inverse.
    #[error("the exponent {exponent} of an automorphism is even; it must be odd")]
    EvenExponent {
        /// What was asked for.
        exponent: u64,
    },
    /// The number of primes is zero or too large.
    #[error("{got} {which} primes were asked for; {min}..={max} are supported")]
    PrimeCount {
        /// `log_q` or `log_p`.
        which: &'static str,
        /// How many the literal names.
        got: usize,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
    },
    /// The modulus is too large for the degree at this security level.
    #[error(
        "log2(QP) = {log_qp} at log_n = {log_n} exceeds the bound {limit} for {security}; \
         use fewer bits or a larger degree"
    )]
    Insecure {
        /// Sum of all prime sizes, special primes included, in bits.
        log_qp: u32,
        /// log2 of the degree.
        log_n: u32,
        /// Largest allowed.
        limit: u32,
        /// The level asked for.
        security: &'static str,
    },
    /// Keys that switch need special primes, and there are none.
    #[error("key switching needs special primes: give log_p at least one size")]
    NoSpecialPrime,
    /// The groups of primes that are to be digits do not cover the primes.
    #[error("digit groups {got:?} must be positive and sum to {primes}, the number of primes of Q")]
    DigitGroups {
        /// The group sizes asked for.
        got: Vec<usize>,
        /// Number of primes of `Q`.
        primes: usize,
    },
    /// The error width is not the one that the security table is about.
    #[error(
        "error_std_dev = {got} is refused: it must be {expected}, or within {min}..={max} for Toy"
    )]
    ErrorWidth {
        /// What the literal asked for.
        got: f64,
        /// The width of every secure set.
        expected: f64,
        /// Smallest width of a toy set.
        min: f64,
        /// Largest width of a toy set.
        max: f64,
    },
}

/// A computation that was refused.
#[derive(Debug, Clone, PartialEq, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The operands sit at different levels.
    #[error("{op}: levels differ, {left} on the left and {right} on the right; drop primes first")]
    LevelMismatch {
        /// The operation.
        op: &'static str,
        /// Level of the left operand.
        left: usize,
        /// Level of the right operand.
        right: usize,
    },
    /// A level above what the parameters have.
    #[error("{op}: level {got} does not exist, the parameters stop at {max}")]
    NoSuchLevel {
        /// The operation.
        op: &'static str,
        /// Level asked for.
        got: usize,
        /// The highest level.
        max: usize,
    },
    /// The operands carry their integers at different scales.
    #[error("{op}: encodings differ, {left:?} on the left and {right:?} on the right")]
    EncodingMismatch {
        /// The operation.
        op: &'static str,
        /// Encoding of the left operand.
        left: Encoding,
        /// Encoding of the right operand.
        right: Encoding,
    },
    /// The operands carry their slots at different scales.
    #[error(
        "{op}: scales differ, {left} on the left and {right} on the right; rescale one, or \
             adjust the one of higher level"
    )]
    ScaleMismatch {
        /// The operation.
        op: &'static str,
        /// Scale of the left operand.
        left: f64,
        /// Scale of the right operand.
        right: f64,
    },
    /// The flags (rescale pending, degree) of two slot ciphertexts differ.
    #[error(
        "{op}: flags (R, L) differ, {left:?} on the left and {right:?} on the right; rescale where \
         R is 1, relinearise where L is 1"
    )]
    FormMismatch {
        /// The operation.
        op: &'static str,
        /// (R, L) of the left operand.
        left: (u8, u8),
        /// (R, L) of the right operand.
        right: (u8, u8),
    },
    /// The degrees in the secret do not fit the operation.
    #[error("{op}: ciphertexts of degree {left} and {right} do not fit together")]
    DegreeMismatch {
        /// The operation.
        op: &'static str,
        /// Degree of the left operand.
        left: usize,
        /// Degree of the right operand.
        right: usize,
    },
    /// The operands belong to different parameter sets.
    #[error("{op}: the operands belong to different parameter sets")]
    ForeignParameters {
        /// The operation.
        op: &'static str,
    },
    /// More values than the ring has coefficients or slots.
    #[error("{op}: {got} values do not fit, there is room for {limit}")]
    TooManyValues {
        /// The operation.
        op: &'static str,
        /// Number of values given.
        got: usize,
        /// Room.
        limit: usize,
    },
    /// A number of slots that cannot be packed.
    #[error("{op}: {got} slots cannot be packed; use a power of two up to {max}")]
    BadSlotCount {
        /// The operation.
        op: &'static str,
        /// Number asked for.
        got: usize,
        /// Slots of the ring.
        max: usize,
    },
    /// A scaled value does not fit the modulus.
    #[error("{op}: value {index} needs more than {limit_bits} bits once scaled; lower the scale")]
    ValueTooLarge {
        /// The operation.
        op: &'static str,
        /// Position of the value.
        index: usize,
        /// Bits available for its magnitude.
        limit_bits: u32,
    },
    /// A value is not a finite number.
    #[error("{op}: value {index} is not finite")]
    NotFinite {
        /// The operation.
        op: &'static str,
        /// Position of the value.
        index: usize,
    },
    /// An encoding with a zero scale or an unsupported modulus.
    #[error("{op}: {encoding:?} is no encoding; scales are positive, log_t lies in 1..=62")]
    InvalidEncoding {
        /// The operation.
        op: &'static str,
        /// The refused encoding.
        encoding: Encoding,
    },
    /// A scale that is no positive finite number.
    #[error("{op}: {scale} is no scale; it must be positive and finite")]
    InvalidScale {
        /// The operation.
        op: &'static str,
        /// The refused scale.
        scale: f64,
    },
    /// The encoding does not allow the operation.
    #[error("{op}: not defined for {encoding:?}; products of ciphertexts and factors need Scaled")]
    UnsupportedEncoding {
        /// The operation.
        op: &'static str,
        /// The encoding.
        encoding: Encoding,
    },
    /// A scale left the range of 128-bit integers.
    #[error("{op}: the scale of {encoding:?} would exceed 128 bits")]
    ScaleOverflow {
        /// The operation.
        op: &'static str,
        /// The encoding before the operation.
        encoding: Encoding,
    },
    /// Low bits can be cut only off the residues of a single prime, and not all of them.
    #[error(
        "{op}: {c0} and {masks} low bits cannot be cut off at level {level}; drop primes down to \
         level 0, and cut fewer bits than its prime has"
    )]
    Truncation {
        /// The operation.
        op: &'static str,
        /// Level of the ciphertext.
        level: usize,
        /// Bits to be cut off `c0`.
        c0: u32,
        /// Bits to be cut off `c1` and `c2`.
        masks: u32,
    },
    /// There is no key for this rotation or conjugation.
    #[error(
        "{op}: there is no key for the map Y -> Y^{exponent}; generate one, or compose the map of \
         those there are"
    )]
    NoGaloisKey {
        /// The operation.
        op: &'static str,
        /// The exponent of the map.
        exponent: u64,
    },
    /// The key was made for lower levels only.
    #[error(
        "{op}: the ciphertext is at level {level}, the key serves level {key} and below; drop \
         primes or generate a key at level {level}"
    )]
    KeyTooLow {
        /// The operation.
        op: &'static str,
        /// Level of the ciphertext.
        level: usize,
        /// Highest level of the key.
        key: usize,
    },
    /// A key cuts polynomials into other digits than those computed ahead.
    #[error(
        "{op}: the key has other digits than the hoisted ciphertext; use keys of one generator"
    )]
    DigitMismatch {
        /// The operation.
        op: &'static str,
    },
    /// The ciphertext has degree two in the secret where only degree one will do.
    #[error("{op}: the ciphertext has degree {got} in the secret; relinearise it first")]
    NotLinear {
        /// The operation.
        op: &'static str,
        /// Its degree.
        got: usize,
    },
    /// There is no prime left to drop.
    #[error("{op}: level {level} does not leave {needed} primes to drop")]
    DepthExhausted {
        /// The operation.
        op: &'static str,
        /// Current level.
        level: usize,
        /// Primes that were to be dropped.
        needed: usize,
    },
    /// A position outside the polynomial.
    #[error("{op}: position {position} is outside a polynomial of {degree} coefficients")]
    PositionOutOfRange {
        /// The operation.
        op: &'static str,
        /// The position.
        position: usize,
        /// Number of coefficients.
        degree: usize,
    },
    /// A position named twice.
    #[error("{op}: position {position} is named twice")]
    DuplicatePosition {
        /// The operation.
        op: &'static str,
        /// The position.
        position: usize,
    },
    /// A quantity of the failure bound is negative or not a number.
    #[error("{op}: {quantity} = {value} must be a non-negative number")]
    BadBound {
        /// The operation.
        op: &'static str,
        /// Which quantity.
        quantity: &'static str,
        /// Its value.
        value: f64,
    },
}

/// Bytes that are no valid object.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends early.
    #[error("truncated: {needed} bytes are needed, {got} are there")]
    Truncated {
        /// Bytes that a valid object of this header has.
        needed: usize,
        /// Bytes given.
        got: usize,
    },
    /// The input goes on after the object.
    #[error("{extra} bytes follow the object of {expected}")]
    TrailingBytes {
        /// Bytes of the object.
        expected: usize,
        /// Bytes too many.
        extra: usize,
    },
    /// The input does not begin with the magic of this crate.
    #[error("the magic is {got:02x?}, not that of this crate")]
    BadMagic {
        /// The four bytes found.
        got: [u8; 4],
    },
    /// A format version that this build does not read.
    #[error("format version {got} is not read here, only {expected}")]
    UnsupportedVersion {
        /// Version found.
        got: u8,
        /// Version understood.
        expected: u8,
    },
    /// Another kind of object.
    #[error("object kind {got} where {expected} was expected")]
    WrongKind {
        /// Kind wanted.
        expected: u8,
        /// Kind found.
        got: u8,
    },
    /// The object belongs to other parameters.
    #[error("the object was made under other parameters")]
    ForeignParameters,
    /// A level that the parameters do not have.
    #[error("level {got} does not exist, the parameters stop at {max}")]
    NoSuchLevel {
        /// Level found.
        got: usize,
        /// Highest level.
        max: usize,
    },
    /// The encoding field is not canonical.
    #[error("the encoding field is not valid")]
    BadEncoding,
    /// Bits left out that cannot be.
    #[error(
        "{c0} and {masks} low bits left out at level {level}; only residues of a single prime can \
         be cut, and not wholly"
    )]
    BadTruncation {
        /// Bits left out of `c0`.
        c0: u32,
        /// Bits left out of `c1` and `c2`.
        masks: u32,
        /// Level found.
        level: usize,
    },
    /// A degree other than 1 or 2.
    #[error("a ciphertext of degree {got} is not defined; 1 and 2 are")]
    BadDegree {
        /// Degree found.
        got: usize,
    },
    /// More coefficients than the ring has, or none.
    #[error("{got} coefficients are named, the ring has {limit}")]
    BadCount {
        /// Count found.
        got: usize,
        /// Coefficients of the ring.
        limit: usize,
    },
    /// A coefficient position named twice.
    #[error("coefficient position {position} is named twice")]
    DuplicatePosition {
        /// The position.
        position: usize,
    },
    /// A coefficient position outside the polynomial.
    #[error("coefficient position {position} is outside a polynomial of {degree} coefficients")]
    PositionOutOfRange {
        /// The position.
        position: usize,
        /// Number of coefficients.
        degree: usize,
    },
    /// A residue that is not below its modulus.
    #[error("residue {index} of row {row} is {got}, not below the modulus {modulus}")]
    ResidueTooLarge {
        /// Which row (prime) of the polynomial.
        row: usize,
        /// Which coefficient.
        index: usize,
        /// Value found.
        got: u64,
        /// The modulus.
        modulus: u64,
    },
    /// Padding bits that are not zero.
    #[error("padding bits are not zero")]
    NonZeroPadding,
    /// A key whose digits do not fit the primes of the parameters.
    #[error("the digits of the key do not fit the primes of these parameters")]
    BadDigits,
    /// An exponent that is even, too large or out of order.
    #[error("{got} is no exponent of a map, or not above the one before it")]
    BadExponent {
        /// The exponent found.
        got: u64,
    },
    /// A secret that is no ternary polynomial of allowed norm.
    #[error("the bytes are no secret key of these parameters")]
    BadSecret,
}
