//! Folding a task's events into a world that holds others already.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use run_agent_benches::story;
use run_agent_core::{Cursor, Message, StreamKey, World};

fn apply(world: &mut World, key: &StreamKey, messages: &[Message]) {
    for (at, message) in messages.iter().enumerate() {
        black_box(world.apply(key, Cursor::new(at as u64), message));
    }
}

fn fold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("World::apply");
    group.throughput(Throughput::Elements(story::EVENTS as u64));
    for tasks in [1, 1000] {
        let mut world = World::new();
        for n in 0..tasks {
            let key = story::key(n).unwrap();
            apply(&mut world, &key, &story::messages(&key, n).unwrap());
        }
        let key = story::key(tasks).unwrap();
        let messages = story::messages(&key, tasks).unwrap();
        group.bench_function(BenchmarkId::new("a task's events, beside", tasks), |bencher| {
            // The world is cloned and dropped outside of what is timed.
            bencher.iter_batched(
                || world.clone(),
                |mut world| {
                    apply(&mut world, &key, &messages);
                    world
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, fold);
criterion_main!(benches);
