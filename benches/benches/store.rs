//! The markdown store in one process: append, read, the last, the place of an id.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use run_agent_benches::story;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::{Cursor, Draft, Durability, Kind, Store, Stream};
use run_agent_store_fs::FsStore;
use tempfile::TempDir;

const PAGE: usize = 1000;

/// A stream of so many messages with bodies of 256 bytes, in a folder that lives as long as the first value.
fn stream(messages: usize) -> (TempDir, Arc<dyn Stream>, Draft) {
    let folder = tempfile::tempdir().unwrap();
    let key = story::key(1).unwrap();
    let layout = Layout::new(folder.path().to_owned());
    std::fs::create_dir_all(layout.bus_file(&key).parent().unwrap()).unwrap();
    let stream = FsStore::new(layout, Options::default()).open(&key).unwrap();
    let draft = Draft::new(Kind::FACT, key.project.clone(), key.task, "x".repeat(256));
    if messages > 0 {
        stream.append(vec![draft.clone(); messages], Durability::None).unwrap();
    }
    (folder, stream, draft)
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for batch in [1, PAGE] {
        let (_folder, stream, draft) = stream(0);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter(|| stream.append(vec![draft.clone(); batch], Durability::None).unwrap().len());
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    for messages in [PAGE, 100 * PAGE] {
        let (_folder, stream, _) = stream(messages);
        let middle = stream.read(Cursor::START, messages / 2).unwrap().entries.pop().unwrap().message.id;
        group.throughput(Throughput::Elements(PAGE as u64));
        group.bench_function(BenchmarkId::new("a page of", messages), |bencher| {
            bencher.iter(|| black_box(stream.read(Cursor::START, PAGE).unwrap()));
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("the last 20 of", messages), |bencher| {
            bencher.iter(|| black_box(stream.last(20).unwrap()));
        });
        group.bench_function(BenchmarkId::new("the place of an id in the middle of", messages), |bencher| {
            bencher.iter(|| stream.find(black_box(&middle)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
