//! The operations of core under the clock: `scripts/bench --micro`.

use criterion::{Criterion, criterion_group, criterion_main};
use taskfence_bench::operations::OPERATIONS;

fn core(criterion: &mut Criterion) {
    for (name, make) in OPERATIONS {
        // Made when it is its turn, and only if it is asked for.
        let mut operation = None;
        criterion.bench_function(name, |bencher| bencher.iter(operation.get_or_insert_with(make)));
    }
}

criterion_group!(benches, core);
criterion_main!(benches);
