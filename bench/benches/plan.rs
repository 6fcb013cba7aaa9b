//! Planning: what a reload costs, and what each change of a server's health costs.

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use csm_bench::large_config;
use csm_user::dataplane::plan::{Assignments, HealthView, RealKey, needed_hops, plan};
use csm_user::model::{Config, Host};

/// Virtual servers of the planned configuration, each with four reals.
const VSERVERS: u32 = 1000;
/// Of a large one.
const MANY: u32 = 5000;

fn hops(config: &Config) -> HashMap<Host, u32> {
    needed_hops(config).into_iter().zip(1..).collect()
}

/// A first plan, as at start-up.
fn first(criterion: &mut Criterion) {
    for vservers in [VSERVERS, MANY] {
        first_of(criterion, vservers);
    }
}

fn first_of(criterion: &mut Criterion, vservers: u32) {
    let config = large_config(vservers);
    let hops = hops(&config);
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(u64::from(vservers)));
    group.bench_function(format!("{vservers} vservers, first"), |bencher| {
        bencher.iter(|| {
            let mut numbers = Assignments::default();
            plan(black_box(&config), &HealthView::default(), &hops, &mut numbers).expect("it fits the maps")
        });
    });
    group.finish();
}

/// The plan after one real of one farm failed its probe: everything is planned anew, numbers stay.
fn health_change(criterion: &mut Criterion) {
    let config = large_config(VSERVERS);
    let hops = hops(&config);
    let mut numbers = Assignments::default();
    plan(&config, &HealthView::default(), &hops, &mut numbers).expect("it fits the maps");
    let farm = &config.serverfarms[0];
    let failed = RealKey { farm: farm.name.clone(), address: farm.reals[0].address, port: None };
    let health = HealthView { unhealthy: [failed].into(), ..HealthView::default() };
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(u64::from(VSERVERS)));
    group.bench_function("1000 vservers, one real failed", |bencher| {
        bencher.iter(|| plan(black_box(&config), &health, &hops, &mut numbers).expect("it fits the maps"));
    });
    group.finish();
}

criterion_group!(benches, first, health_change);
criterion_main!(benches);
