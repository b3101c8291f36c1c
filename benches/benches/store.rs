//! Each store in one process: append by durability and size, a batch, read, the last, the place of an id, and the first
//! look after a crash.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use run_agent_benches::story;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::{Cursor, Draft, Durability, Kind, Store, Stream};
use run_agent_store_fs::FsStore;
use run_agent_store_segmented::SegmentedStore;
use tempfile::TempDir;

const PAGE: usize = 1000;
const BACKENDS: [(&str, Make); 2] = [
    ("fs", |layout| Box::new(FsStore::new(layout, Options::default()))),
    ("segmented", |layout| Box::new(SegmentedStore::new(layout, Options::default()))),
];

type Make = fn(Layout) -> Box<dyn Store>;

/// A stream in a folder that lives as long as this.
struct Scene {
    folder: TempDir,
    make: Make,
    stream: Arc<dyn Stream>,
}

impl Scene {
    /// With so many messages of 256 bytes.
    fn new(make: Make, messages: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        std::fs::create_dir_all(layout.bus_file(&story::key(1).unwrap()).parent().unwrap()).unwrap();
        let stream = open(make, folder.path());
        let scene = Self { folder, make, stream };
        if messages > 0 {
            scene.stream.append(vec![scene.draft(256); messages], Durability::None).unwrap();
        }
        scene
    }

    fn draft(&self, bytes: usize) -> Draft {
        let key = self.stream.key().clone();
        Draft::new(Kind::FACT, key.project, key.task, "x".repeat(bytes))
    }

    /// As another process has it.
    fn open_anew(&self) -> Arc<dyn Stream> {
        open(self.make, self.folder.path())
    }

    fn page(&self) -> PathBuf {
        Layout::new(self.folder.path().to_owned()).segments(self.stream.key()).join("ctl")
    }
}

fn open(make: Make, root: &Path) -> Arc<dyn Stream> {
    make(Layout::new(root.to_owned())).open(&story::key(1).unwrap()).unwrap()
}

fn append(criterion: &mut Criterion) {
    for (backend, make) in BACKENDS {
        let mut group = criterion.benchmark_group(format!("{backend}/append"));
        group.throughput(Throughput::Elements(1));
        for (word, durability) in
            [("none", Durability::None), ("interval", Durability::Interval), ("always", Durability::Always)]
        {
            for bytes in [256, 4096, 65_536] {
                let scene = Scene::new(make, 0);
                let draft = scene.draft(bytes);
                group.bench_function(BenchmarkId::new(word, bytes), |bencher| {
                    bencher.iter(|| scene.stream.append(vec![draft.clone()], durability).unwrap().len());
                });
            }
        }
        let scene = Scene::new(make, 0);
        let draft = scene.draft(256);
        group.throughput(Throughput::Elements(PAGE as u64));
        group.bench_function(BenchmarkId::new("none, a batch of", PAGE), |bencher| {
            bencher.iter_batched(
                || vec![draft.clone(); PAGE],
                |batch| scene.stream.append(batch, Durability::None).unwrap(),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

fn read(criterion: &mut Criterion) {
    for (backend, make) in BACKENDS {
        let mut group = criterion.benchmark_group(format!("{backend}/read"));
        for messages in [PAGE, 100 * PAGE] {
            let scene = Scene::new(make, messages);
            let stream = &scene.stream;
            let middle = stream.read(Cursor::START, messages / 2).unwrap().entries.pop().unwrap().message.id;
            group.throughput(Throughput::Elements(PAGE as u64));
            group.bench_function(BenchmarkId::new("a page of", messages), |bencher| {
                bencher.iter(|| black_box(stream.read(Cursor::START, PAGE).unwrap()));
            });
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new("the last 20 of", messages), |bencher| {
                bencher.iter(|| black_box(stream.last(20).unwrap()));
            });
            group.bench_function(
                BenchmarkId::new("the place of an id in the middle of", messages),
                |bencher| {
                    bencher.iter(|| stream.find(black_box(&middle)).unwrap());
                },
            );
        }
        group.finish();
    }
}

/// Only the segmented store has something that a crash takes away.
fn open_after_a_crash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("segmented/open after a crash");
    let (_, make) = BACKENDS[1];
    for messages in [PAGE, 100 * PAGE] {
        let scene = Scene::new(make, messages);
        group.bench_function(BenchmarkId::new("the first look at", messages), |bencher| {
            bencher.iter_batched(
                || {
                    let _ = std::fs::remove_file(scene.page());
                    scene.open_anew()
                },
                |stream| stream.end().unwrap(),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("the first append to", messages), |bencher| {
            bencher.iter_batched(
                || {
                    let _ = std::fs::remove_file(scene.page());
                    (scene.open_anew(), vec![scene.draft(256)])
                },
                |(stream, batch)| stream.append(batch, Durability::None).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, append, read, open_after_a_crash);
criterion_main!(benches);
