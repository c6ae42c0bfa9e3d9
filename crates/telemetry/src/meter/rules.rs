//! Rules that rewrite label values, to keep the number of series down (contract 3.4, `metrics.rules`).

use std::collections::{BTreeMap, HashMap};

use regex::Regex;

use crate::Error;

/// Rewriting of one metric's labels.
#[derive(Clone, Debug)]
pub struct MetricRule {
    /// Name of the metric, with or without `dapr_`, with `_` or `/`.
    pub name: String,
    /// The labels to rewrite.
    pub labels: Vec<LabelRule>,
}

/// Rewriting of one label.
#[derive(Clone, Debug)]
pub struct LabelRule {
    /// Name of the label.
    pub name: String,
    /// Replacement text to expression; applied in the order of the replacements.
    pub regex: BTreeMap<String, String>,
}

/// One compiled replacement.
#[derive(Clone, Debug)]
pub(super) struct Rewrite {
    expression: Regex,
    replacement: String,
}

/// All rules, by metric and label.
#[derive(Default)]
pub(super) struct Rules(HashMap<(String, String), Vec<Rewrite>>);

impl Rules {
    pub fn compile(rules: &[MetricRule]) -> Result<Self, Error> {
        let mut compiled = HashMap::new();
        for rule in rules {
            for label in &rule.labels {
                let rewrites = label.regex.iter().map(|(replacement, expression)| {
                    let expression = Regex::new(expression).map_err(|source| Error::Rule {
                        rule: rule.name.clone(),
                        label: label.name.clone(),
                        expression: expression.clone(),
                        source: Box::new(source),
                    })?;
                    Ok(Rewrite {
                        expression,
                        replacement: replacement.clone(),
                    })
                });
                let rewrites = rewrites.collect::<Result<Vec<_>, Error>>()?;
                let metric = rule.name.replacen("dapr_", "", 1);
                compiled.insert((key(&metric), label.name.clone()), rewrites);
            }
        }
        Ok(Rules(compiled))
    }

    pub fn find(&self, metric: &str, label: &str) -> Vec<Rewrite> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0
            .get(&(key(metric), label.to_owned()))
            .cloned()
            .unwrap_or_default()
    }
}

/// Applies replacements one after the other.
pub(super) fn apply(rewrites: &[Rewrite], value: &str) -> String {
    let mut value = value.to_owned();
    for rewrite in rewrites {
        value = rewrite
            .expression
            .replace_all(&value, rewrite.replacement.as_str())
            .into_owned();
    }
    value
}

/// Rules may spell a metric as Prometheus or as Dapr does.
fn key(metric: &str) -> String {
    metric.replace(['_', '.'], "/")
}
