//! Behaviour tests of the whole program, one area a file.

mod architecture;
mod bad_files;
mod common;
mod golden_float;
mod golden_resnet20;
mod workflow;
