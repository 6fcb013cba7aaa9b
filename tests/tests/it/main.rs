//! Tests that need root and a kernel.

mod dpuser;
