//! The program from outside: every command through the real binary.

mod cli;
mod util;
