//! The Sphinx protocol.
