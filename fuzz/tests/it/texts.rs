//! Texts of resources: the files themselves, and the values of metadata.

use std::str::from_utf8;
use std::time::Duration;

use component::Metadata;
use values::{GoDuration, Period, Quantity, Schedule, Template, TimeZone, Timestamp};

/// Most moments that a schedule is asked for.
const MOMENTS: usize = 3;

fn moment() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("in range")
}

#[test]
fn durations() {
    fuzz::run("durations", |input| {
        let Ok(text) = from_utf8(input) else { return };
        if let Ok(duration) = text.parse::<GoDuration>() {
            assert_eq!(duration.to_string().parse(), Ok(duration), "{text:?}");
        }
        if let Ok(period) = text.parse::<Period>() {
            let _ = period.after(moment());
        }
        let _ = values::period::moment(text, moment());
    });
}

#[test]
fn quantities() {
    fuzz::run("quantities", |input| {
        let Ok(text) = from_utf8(input) else { return };
        if let Ok(quantity) = text.parse::<Quantity>() {
            let again = quantity.to_string().parse::<Quantity>();
            let again = again.expect("what is printed can be read");
            assert_eq!(again.value(), quantity.value(), "{text:?}");
            assert!(!(quantity.is_zero() && quantity.is_negative()), "{text:?}");
        }
    });
}

#[test]
fn schedules() {
    fuzz::run("schedules", |input| {
        let Ok(text) = from_utf8(input) else { return };
        let Ok(schedule) = text.parse::<Schedule>() else {
            return;
        };
        if let Schedule::Every(_) = schedule {
            // A delay may be negative; callers decide.
            let _ = schedule.next(moment(), &TimeZone::UTC);
            return;
        }
        let mut before = moment();
        for _ in 0..MOMENTS {
            let Some(next) = schedule.next(before, &TimeZone::UTC) else {
                return;
            };
            assert!(next > before, "{text:?}: {next} after {before}");
            before = next;
        }
    });
}

/// A field, a colon, its value.
#[test]
fn metadata() {
    fuzz::run("metadata", |input| {
        let Ok(text) = from_utf8(input) else { return };
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        let metadata: Metadata = pairs.clone().collect();
        for (field, value) in pairs {
            let fields = [field];
            assert_eq!(
                metadata.text(field).is_none(),
                metadata.first(&fields).is_none()
            );
            let _ = metadata.duration(&fields, Duration::from_millis(1));
            let _ = metadata.size(&fields);
            let _ = metadata.boolean(&fields);
            let _ = metadata.parse::<u16>(&fields);
            let _ = values::list::pairs(value);
            let items: Vec<&str> = values::list::items(value).collect();
            assert!(items.len() <= value.len() + 1);
            let template = Template {
                app_id: "app".to_owned(),
                namespace: "ns".to_owned(),
                pod_name: None,
            };
            let _ = template.render(value);
            let _ = values::environment::expand(value, |name| Some(name.to_owned()));
        }
    });
}

#[test]
fn resources() {
    fuzz::run("resources", |input| {
        let text = String::from_utf8_lossy(input);
        let each = crds::files::each_document("file.yaml", &text);
        let all = crds::files::from_documents("file.yaml", &text);
        assert_eq!(all.is_ok(), each.iter().all(Result::is_ok));
        for read in each.iter().flatten() {
            let resource = &read.resource;
            let _ = (resource.kind(), resource.name(), resource.namespace());
            let _ = resource.in_scope("app");
        }
    });
}

#[test]
fn expressions() {
    fuzz::run("expressions", |input| {
        let Ok(text) = from_utf8(input) else { return };
        if let Ok(expression) = expressions::Expression::compile(text) {
            assert_eq!(expression.text(), text);
        }
    });
}
