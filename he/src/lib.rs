//! RNS-CKKS from scratch.
