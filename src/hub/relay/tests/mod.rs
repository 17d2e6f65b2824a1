//! Tests of a relay.
