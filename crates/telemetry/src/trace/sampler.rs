//! Which traces are recorded: the caller's decision if there is one, else a share of trace ids.

use super::context::TraceContext;

/// A parent-based sampler with a ratio for new traces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    rate: f64,
}

impl Sampler {
    /// A sampler of a configured rate; text that is no number means 0.0001.
    #[must_use]
    pub fn new(rate: &str) -> Self {
        Sampler {
            rate: rate
                .parse()
                .ok()
                .filter(|rate: &f64| !rate.is_nan())
                .unwrap_or(DEFAULT_RATE),
        }
    }

    /// Only a rate of exactly 0 turns tracing off altogether (contract 3.4).
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.rate == 0.0
    }

    /// The share of new traces that is recorded.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether a span of this trace, under this parent, is recorded.
    #[must_use]
    pub fn samples(&self, trace_id: [u8; 16], parent: Option<&TraceContext>) -> bool {
        if let Some(parent) = parent {
            return parent.is_sampled();
        }
        if self.rate >= 1.0 {
            return true;
        }
        if self.rate <= 0.0 {
            return false;
        }
        // The same rule as OpenTelemetry's, so that all services of one rate agree on a trace.
        let [.., a, b, c, d, e, f, g, h] = trace_id;
        let position = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        position < (self.rate * (1_u64 << 63) as f64) as u64
    }
}

const DEFAULT_RATE: f64 = 1e-4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(Sampler::new("").rate(), DEFAULT_RATE);
        assert_eq!(Sampler::new("abc").rate(), DEFAULT_RATE);
        assert!(Sampler::new("0").is_off() && Sampler::new("0.0").is_off());
        assert!(!Sampler::new("").is_off());
        assert!(Sampler::new("1").samples([0xff; 16], None));
        assert!(!Sampler::new("0").samples([0; 16], None));
        let half = Sampler::new("0.5");
        let mut id = [0; 16];
        id[8] = 0x7f;
        assert!(half.samples(id, None));
        id[8] = 0x80;
        assert!(!half.samples(id, None));
    }

    #[test]
    fn parents_decide() {
        let parent = |sampled| TraceContext::new([1; 16], [1; 8], sampled);
        assert!(Sampler::new("0.0001").samples([0xff; 16], parent(true).as_ref()));
        assert!(!Sampler::new("1").samples([0; 16], parent(false).as_ref()));
    }
}
