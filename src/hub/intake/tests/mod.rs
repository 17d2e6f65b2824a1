//! Tests of the intake with a real store, real signatures and real HTTP.

mod heard;
mod keys;
mod operators;
mod pushes;
mod rederived;
mod renewed;
mod told;
