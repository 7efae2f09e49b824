//! From experiment records to figures.
