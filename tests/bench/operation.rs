//! `operation NAME COUNT` does one operation of core so many times; without arguments it lists their names.
//!
//! For `valgrind --tool=callgrind`: the instructions of two runs with different counts differ by those of the operations
//! alone.

use std::process::ExitCode;

use taskfence_bench::operations::OPERATIONS;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(Ok(count))) = (arguments.next(), arguments.next().map(|count| count.parse::<u32>())) else {
        OPERATIONS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, make)) = OPERATIONS.iter().find(|(known, _)| *known == name) else {
        eprintln!("operation: there is no `{name}`");
        return ExitCode::FAILURE;
    };
    let mut operation = make();
    for _ in 0..count {
        operation();
    }
    ExitCode::SUCCESS
}
