//! Latencies of one phase. All of them are kept, in nanoseconds: a phase has some ten thousand, and a histogram
//! would only lose what small differences are about.

use std::time::Duration;

/// The latencies of a phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    sorted: Vec<u64>,
    pub failures: u64,
}

/// The figures that are printed, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

impl Samples {
    pub fn new(latencies: impl IntoIterator<Item = Duration>, failures: u64) -> Self {
        let nanos = |latency: Duration| u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let mut sorted: Vec<u64> = latencies.into_iter().map(nanos).collect();
        sorted.sort_unstable();
        Samples { sorted, failures }
    }

    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    pub fn figures(&self) -> Figures {
        if self.sorted.is_empty() {
            return Figures::default();
        }
        let sum: u128 = self.sorted.iter().map(|nanos| u128::from(*nanos)).sum();
        Figures {
            mean: sum as f64 / self.sorted.len() as f64 / 1000.0,
            p50: self.percentile(50),
            p90: self.percentile(90),
            p99: self.percentile(99),
        }
    }

    /// The smallest latency that at least this share of calls did not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted[rank - 1] as f64 / 1000.0
    }
}

impl Figures {
    /// What was added over a baseline, figure by figure.
    pub fn over(self, baseline: Figures) -> Figures {
        Figures {
            mean: self.mean - baseline.mean,
            p50: self.p50 - baseline.p50,
            p90: self.p90 - baseline.p90,
            p99: self.p99 - baseline.p99,
        }
    }

    /// Figure by figure the median of several.
    pub fn median(all: &[Figures]) -> Figures {
        let of = |pick: fn(&Figures) -> f64| median(all.iter().map(pick).collect());
        Figures {
            mean: of(|f| f.mean),
            p50: of(|f| f.p50),
            p90: of(|f| f.p90),
            p99: of(|f| f.p99),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures {
            mean,
            p50,
            p90,
            p99,
        } = self;
        write!(
            f,
            "mean {mean:>7.0} us  p50 {p50:>7.0} us  p90 {p90:>7.0} us  p99 {p99:>7.0} us"
        )
    }
}

/// The middle value; of two middle ones the lower.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0)
}

/// `median (lowest to highest)`, with so many decimals.
pub(super) fn spread(values: &[f64], decimals: usize) -> String {
    let middle = median(values.to_vec());
    format!("{middle:.decimals$} {}", range(values, decimals))
}

/// `(lowest to highest)`, with so many decimals.
pub(super) fn range(values: &[f64], decimals: usize) -> String {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("({lowest:.decimals$} to {highest:.decimals$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let samples = Samples::new((1..=100).rev().map(Duration::from_micros), 0);
        let expected = Figures {
            mean: 50.5,
            p50: 50.0,
            p90: 90.0,
            p99: 99.0,
        };
        assert_eq!(samples.figures(), expected);
        assert_eq!(samples.len(), 100);
        assert_eq!(Samples::default().figures(), Figures::default());
        assert_eq!(
            Samples::new([Duration::from_nanos(1500)], 0).figures().p99,
            1.5
        );
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 1.0);
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(spread(&[3.0, 1.0, 2.04], 1), "2.0 (1.0 to 3.0)");
        let figures = |mean| Figures {
            mean,
            ..Figures::default()
        };
        assert_eq!(
            Figures::median(&[figures(9.0), figures(1.0), figures(5.0)]),
            figures(5.0)
        );
        assert_eq!(figures(9.0).over(figures(2.0)), figures(7.0));
    }
}
