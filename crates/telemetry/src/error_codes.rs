//! The count of API errors by code (contract 10.8, `error_code/total`), off unless configured.

use crate::meter::{Counter, Meter};

/// Counts error codes that go out to the app.
#[derive(Clone)]
pub struct ErrorCodes(Option<Counter>);

impl ErrorCodes {
    /// With `enabled` false (the default of `recordErrorCodes`) nothing is registered or counted.
    #[must_use]
    pub fn new(meter: &Meter, enabled: bool) -> Self {
        ErrorCodes(enabled.then(|| {
            meter.counter(
                "error_code/total",
                "Total number of times an error with a specific error code was encountered.",
                &["error_code", "category"],
            )
        }))
    }

    /// Counts one error. Codes without a category are not counted, since series need both.
    pub fn record(&self, code: &str, category: &str) {
        if let Some(counter) = self
            .0
            .as_ref()
            .filter(|_| !code.is_empty() && !category.is_empty())
        {
            counter.add(&[code, category], 1);
        }
    }
}
