//! `operation COUNT` does each operation of core so many times, and prints their names in order.
//!
//! For callgrind, which begins to count at [`repeat`] and writes down what it has counted after each: making keys and
//! filling the state, which is much more, is left out.

use std::process::ExitCode;

use taskfence_bench::operations::{OPERATIONS, repeat};

fn main() -> ExitCode {
    let Some(Ok(count)) = std::env::args().nth(1).map(|count| count.parse()) else {
        eprintln!("operation: how many times?");
        return ExitCode::FAILURE;
    };
    for (name, make) in OPERATIONS {
        let mut operation = make();
        // What happens once, such as growing a table, is not what an operation costs.
        operation();
        operation();
        println!("{name}");
        repeat(&mut operation, count);
    }
    ExitCode::SUCCESS
}
