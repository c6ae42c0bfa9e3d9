//! Counters, gauges and histograms under Dapr's names, in a registry that is handed in.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

mod family;
mod rules;

use family::Family;
use rules::Rules;
pub use rules::{LabelRule, MetricRule};

use crate::Error;

/// What shapes metrics (contract 3.4, `metrics`).
#[derive(Clone, Debug, Default)]
pub struct MetricOptions {
    /// Label `app_id` of every series; control plane programs have none.
    pub app_id: Option<String>,
    /// Upper bounds of latency histograms in milliseconds; empty means [`LATENCY_BUCKETS`].
    pub latency_buckets: Vec<f64>,
    /// Rules that rewrite label values.
    pub rules: Vec<MetricRule>,
}

/// Makes metrics. Asking twice for a name gives the same metric. Cheap to clone.
#[derive(Clone)]
pub struct Meter {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    app_id: Option<String>,
    latency_buckets: Vec<f64>,
    rules: Rules,
    known: Mutex<HashMap<String, Metric>>,
}

#[derive(Clone)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Meter {
    /// A meter whose metrics appear in `registry`.
    ///
    /// # Errors
    /// When a rule's expression does not compile.
    pub fn new(registry: &Registry, options: MetricOptions) -> Result<Self, Error> {
        let buckets = if options.latency_buckets.is_empty() {
            LATENCY_BUCKETS.to_vec()
        } else {
            ascending(options.latency_buckets)
        };
        Ok(Meter {
            inner: Arc::new(Inner {
                registry: registry.clone(),
                app_id: options.app_id.filter(|id| !id.is_empty()),
                latency_buckets: buckets,
                rules: Rules::compile(&options.rules)?,
                known: Mutex::default(),
            }),
        })
    }

    /// A count of events. `name` as in contract 10.8, such as `runtime/component/loaded`.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str, labels: &[&str]) -> Counter {
        let metric = self.metric(name, |opts| {
            let vec = invariant(IntCounterVec::new(opts(help), labels));
            let family = Family::new(vec.clone(), self.rules(name, labels));
            (Box::new(vec), Metric::Counter(Counter(Arc::new(family))))
        });
        match metric {
            Metric::Counter(counter) => counter,
            _ => unreachable_kind(name),
        }
    }

    /// A value that goes up and down.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> Gauge {
        let metric = self.metric(name, |opts| {
            let vec = invariant(GaugeVec::new(opts(help), labels));
            let family = Family::new(vec.clone(), self.rules(name, labels));
            (Box::new(vec), Metric::Gauge(Gauge(Arc::new(family))))
        });
        match metric {
            Metric::Gauge(gauge) => gauge,
            _ => unreachable_kind(name),
        }
    }

    /// A distribution over the given upper bounds.
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Histogram {
        let metric = self.metric(name, |opts| {
            let opts = HistogramOpts {
                common_opts: opts(help),
                buckets: ascending(buckets.to_vec()),
            };
            let vec = invariant(HistogramVec::new(opts, labels));
            let family = Family::new(vec.clone(), self.rules(name, labels));
            (
                Box::new(vec),
                Metric::Histogram(Histogram(Arc::new(family))),
            )
        });
        match metric {
            Metric::Histogram(histogram) => histogram,
            _ => unreachable_kind(name),
        }
    }

    /// A distribution of milliseconds over the configured latency bounds.
    #[must_use]
    pub fn latency(&self, name: &str, help: &str, labels: &[&str]) -> Histogram {
        self.histogram(name, help, labels, &self.inner.latency_buckets)
    }

    /// A distribution of bytes over [`SIZE_BUCKETS`].
    #[must_use]
    pub fn size(&self, name: &str, help: &str, labels: &[&str]) -> Histogram {
        self.histogram(name, help, labels, SIZE_BUCKETS)
    }

    /// The latency bounds in use, in milliseconds.
    #[must_use]
    pub fn latency_buckets(&self) -> &[f64] {
        &self.inner.latency_buckets
    }

    fn rules(&self, name: &str, labels: &[&str]) -> Vec<Vec<rules::Rewrite>> {
        labels
            .iter()
            .map(|label| self.inner.rules.find(name, label))
            .collect()
    }

    fn metric<B>(&self, name: &str, build: B) -> Metric
    where
        B: FnOnce(&dyn Fn(&str) -> Opts) -> (Box<dyn Collector>, Metric),
    {
        let full = prometheus_name(name);
        let mut known = self.inner.known.lock();
        if let Some(metric) = known.get(&full) {
            return metric.clone();
        }
        let (collector, metric) = build(&|help| {
            let mut opts = Opts::new(full.clone(), help);
            if let Some(app_id) = &self.inner.app_id {
                let value = rules::apply(&self.inner.rules.find(name, "app_id"), app_id);
                opts = opts.const_label("app_id", value);
            }
            opts
        });
        if let Err(error) = self.inner.registry.register(collector) {
            // Two meters over one registry; the second one counts for nobody, which is worth a line.
            tracing::error!("metric {full} is not shown: {error}");
        }
        known.insert(full, metric.clone());
        metric
    }
}

/// A count of events.
#[derive(Clone)]
pub struct Counter(Arc<Family<IntCounterVec>>);

impl Counter {
    /// Adds `n` to the series with these label values, in the order of the labels' declaration.
    pub fn add(&self, values: &[&str], n: u64) {
        self.0.with(values, |counter| counter.inc_by(n));
    }
}

/// A value that goes up and down.
#[derive(Clone)]
pub struct Gauge(Arc<Family<GaugeVec>>);

impl Gauge {
    /// Sets the series with these label values.
    pub fn set(&self, values: &[&str], value: f64) {
        self.0.with(values, |gauge| gauge.set(value));
    }

    /// Adds to the series with these label values; negative numbers subtract.
    pub fn add(&self, values: &[&str], delta: f64) {
        self.0.with(values, |gauge| gauge.add(delta));
    }

    /// Takes the series with these label values away.
    pub fn remove(&self, values: &[&str]) {
        self.0.remove(values);
    }
}

/// A distribution of values.
#[derive(Clone)]
pub struct Histogram(Arc<Family<HistogramVec>>);

impl Histogram {
    /// Records one value in the series with these label values.
    pub fn observe(&self, values: &[&str], value: f64) {
        self.0.with(values, |histogram| histogram.observe(value));
    }

    /// Records a duration in milliseconds.
    // Q-metric-fractions: fractions count, or every call below a millisecond would be zero.
    pub fn observe_duration(&self, values: &[&str], elapsed: std::time::Duration) {
        self.observe(values, elapsed.as_secs_f64() * 1000.0);
    }
}

/// `grpc.io/server/server_latency` becomes `dapr_grpc_io_server_server_latency`.
fn prometheus_name(name: &str) -> String {
    format!("dapr_{}", name.replace(['/', '.', '-'], "_"))
}

/// Bounds have to rise; whoever configures them may have listed them in another order.
fn ascending(mut bounds: Vec<f64>) -> Vec<f64> {
    bounds.retain(|bound| bound.is_finite());
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds
}

fn invariant<T>(result: prometheus::Result<T>) -> T {
    result.expect("metric names and labels are constants of this program and well formed")
}

fn unreachable_kind<T>(name: &str) -> T {
    panic!("metric {name} is declared with two kinds")
}

/// Upper bounds of latency histograms in milliseconds, unless configured (contract 3.4).
pub const LATENCY_BUCKETS: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0,
    100.0, 130.0, 160.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1000.0, 2000.0, 5000.0,
    10000.0, 20000.0, 50000.0, 100_000.0,
];

/// Upper bounds of size histograms in bytes: 1 KiB to 4 GiB.
pub const SIZE_BUCKETS: &[f64] = &[
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

#[cfg(test)]
mod tests;
