//! Settings out of a pod's annotations, with what the injector passes when the pod says nothing.

use std::collections::BTreeMap;

use crate::{ANNOTATION_PREFIX, Door, Error, Kind, Place, ROWS, Row, Settings};

impl Settings {
    /// Reads the annotations of a pod. Rows with an injected value are always set; what only makes sense with a
    /// switch that is off is left unset, so that [`Settings::to_args`] is exactly what the sidecar needs.
    /// The app ID's fallback to the pod's name is the caller's.
    ///
    /// Compat: Q-annotation-integers: a number or port that does not parse counts as not given; it is told by
    /// [`Settings::ignored`].
    ///
    /// # Errors
    /// [`Error::Value`] for a duration or quantity that the sidecar would refuse to start with.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut settings = Self::default();
        for row in ROWS {
            if !row.read_annotation(&mut settings, annotations)?
                && let Some(text) = row.injected
            {
                row.read(&mut settings, text, Door::Flag, Place::Flag(row.name))?;
            }
        }
        for row in ROWS {
            if let Some(switch) = row.only_with
                && !is_on(&settings, switch)
            {
                (row.access.clear)(&mut settings);
            }
        }
        Ok(settings)
    }
}

fn is_on(settings: &Settings, flag: &str) -> bool {
    let switch = ROWS.iter().find(|row| row.flag == Some(flag));
    switch
        .and_then(|row| (row.access.text)(settings))
        .is_some_and(|text| text == "true")
}

impl Row {
    /// Reads this row's annotation; false if the pod does not give it.
    fn read_annotation(
        &self,
        settings: &mut Settings,
        annotations: &BTreeMap<String, String>,
    ) -> Result<bool, Error> {
        let Some(name) = self.annotation else {
            return Ok(false);
        };
        let Some(text) = annotations.get(&format!("{ANNOTATION_PREFIX}{name}")) else {
            return Ok(false);
        };
        let text = if self.unquoted {
            text.trim_matches(['"', '\'']).trim()
        } else {
            text
        };
        if text.trim().is_empty() && self.kind != Kind::Switch && !self.blank_counts {
            return Ok(false);
        }
        match self.read(settings, text, Door::Annotation, Place::Annotation(name)) {
            Err(error) if matches!(self.kind, Kind::Integer | Kind::Port) => {
                settings.ignored.push(error.to_string());
                return Ok(false);
            }
            read => read?,
        }
        let value = (self.access.text)(settings).unwrap_or_default();
        let says_nothing = match self.kind {
            Kind::Switch => value == "false" && !self.three_states && self.default != "true",
            Kind::Integer => self.positive && (value == "0" || value.starts_with('-')),
            _ => false,
        };
        if says_nothing {
            (self.access.clear)(settings);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Error> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (format!("dapr.io/{name}"), (*value).to_owned()));
        Settings::from_annotations(&pairs.collect())
    }

    #[test]
    fn a_silent_pod_gets_the_injected_values() {
        let args = read(&[]).expect("settings").to_args().join(" ");
        assert_eq!(
            args,
            "--dapr-http-port 3500 --dapr-grpc-port 50001 --dapr-internal-grpc-port 50002 \
             --dapr-listen-addresses [::1],127.0.0.1 --dapr-public-port 3501 --app-protocol http --log-level info \
             --dapr-graceful-shutdown-seconds -1 --mode kubernetes --enable-metrics --metrics-port 9090"
        );
    }

    #[test]
    fn switches_that_are_off_take_their_settings_along() {
        let settings = read(&[
            ("enable-metrics", "no"),
            ("metrics-port", "1"),
            ("app-health-threshold", "9"),
        ]);
        let args = settings.expect("settings").to_args();
        assert!(args.contains(&"--enable-metrics=false".to_owned()));
        assert!(
            !args
                .iter()
                .any(|arg| arg == "--metrics-port" || arg == "--app-health-threshold")
        );
    }

    #[test]
    fn the_third_state_is_said() {
        let args = read(&[("enable-api-logging", "false")])
            .expect("settings")
            .to_args();
        assert!(args.contains(&"--enable-api-logging=false".to_owned()));
    }

    #[test]
    fn bad_numbers_are_told_and_passed_over() {
        let settings =
            read(&[("metrics-port", "abc"), ("app-max-concurrency", "1.5")]).expect("settings");
        assert_eq!(
            (settings.metrics_port, settings.app_max_concurrency),
            (Some(9090), None)
        );
        assert!(
            settings.ignored()[0].contains("annotation dapr.io/metrics-port"),
            "{:?}",
            settings.ignored()
        );
        assert_eq!(settings.ignored().len(), 2);
    }

    #[test]
    fn bad_durations_and_quantities_are_errors_that_name_the_annotation() {
        let error = read(&[("max-body-size", "4ki")])
            .expect_err("no such suffix")
            .to_string();
        assert!(
            error.contains(r#"invalid value "4ki" for annotation dapr.io/max-body-size"#),
            "{error}"
        );
        assert!(read(&[("block-shutdown-duration", "1d")]).is_err());
    }

    #[test]
    fn blank_addresses_count_and_other_blanks_do_not() {
        let settings = read(&[
            ("scheduler-host-address", "\" \""),
            ("log-level", ""),
            ("app-port", "0"),
        ]);
        let settings = settings.expect("settings");
        assert_eq!(settings.scheduler_addresses, Some(vec![]));
        assert_eq!(settings.log_level.as_deref(), Some("info"));
        assert_eq!(settings.app_port, None);
    }
}
