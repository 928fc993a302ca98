//! The program from outside.

mod crd;
