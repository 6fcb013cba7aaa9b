//! The configuration language: what `csm check` and a reload cost for a large file.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use csm_bench::large_config;
use csm_user::config::{HostFacts, check, print};

/// Virtual servers in the file, each with four reals.
const VSERVERS: [u32; 2] = [1000, 5000];

fn configuration(criterion: &mut Criterion) {
    for vservers in VSERVERS {
        measure(criterion, vservers);
    }
}

fn measure(criterion: &mut Criterion, vservers: u32) {
    let config = large_config(vservers);
    let text = print(&config);
    let outcome = check("bench", &text, &HostFacts::default());
    assert!(outcome.config.as_ref() == Some(&config), "{:?}", outcome.diagnostics.first());

    let mut group = criterion.benchmark_group(format!("config, {vservers} vservers"));
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("check", |bencher| {
        bencher.iter(|| check("bench", black_box(&text), &HostFacts::default()));
    });
    group.bench_function("print", |bencher| bencher.iter(|| print(black_box(&config))));
    group.finish();
}

criterion_group!(benches, configuration);
criterion_main!(benches);
