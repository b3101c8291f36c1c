//! One entry to text and back, beside what a YAML crate takes for the same.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use run_agent_benches::{story, yaml};
use run_agent_store_fs::markdown;
use run_agent_store_fs::scan::{self, Source};

fn codec(criterion: &mut Criterion) {
    let key = story::key(1).unwrap();
    let messages = story::messages(&key, 1).unwrap();
    let bus = story::bus(&key, 1).unwrap();
    let text = std::str::from_utf8(&bus).unwrap();

    let mut group = criterion.benchmark_group("entries");
    group.throughput(Throughput::Bytes(bus.len() as u64));
    group.bench_function("encode", |bencher| {
        let mut out = Vec::with_capacity(bus.len());
        bencher.iter(|| {
            out.clear();
            for message in &messages {
                markdown::encode(&mut out, black_box(message));
            }
            out.len()
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| scan::forward(black_box(&bus), Source::of(&key), usize::MAX).found.len());
    });
    group.bench_function("decode by a YAML crate", |bencher| {
        bencher.iter(|| yaml::entries(black_box(text)).filter(Result::is_ok).count());
    });
    group.bench_function("crc32", |bencher| bencher.iter(|| crc32fast::hash(black_box(&bus))));
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
