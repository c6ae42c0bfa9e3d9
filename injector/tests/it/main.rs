//! Whole patches: for every `tests/golden/<case>.json`, the pod after injection is what the file says. With
//! `UPDATE_GOLDEN` in the environment the files are rewritten; read the difference before believing it.

mod annotations;

use std::path::{Path, PathBuf};

use injector::Config;
use injector::patch::{Surroundings, build};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn config(environment: &Value) -> Config {
    let get = |name: &str| environment[name].as_str().map(str::to_owned);
    let mut config = Config::from_environment(get, true).expect("the case's environment");
    config.token_volume = environment["TOKEN"] != "none";
    config
}

#[test]
fn whole_patches() {
    let mut cases = 0;
    for entry in std::fs::read_dir(folder()).expect("golden folder") {
        let path = entry.expect("entry").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let mut case: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let components = serde_json::from_value(case["components"].clone()).unwrap_or_default();
        let pod: Pod = serde_json::from_value(case["pod"].clone()).expect("a pod");
        let around = Surroundings {
            namespace: "shop-ns".to_owned(),
            mtls: case["mtls"] != json!(false),
            trust_anchors: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            components,
            native_sidecars: None,
        };
        let injection = build(&pod, &around, &config(&case["environment"])).expect("an injection");
        let patch = serde_json::to_value(&injection.operations).expect("JSON");
        // The patch must also apply.
        json_patch::patch(&mut case["pod"].clone(), &injection.operations).expect("applies");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            case["patch"] = patch;
            let text = serde_json::to_string_pretty(&case).expect("JSON") + "\n";
            std::fs::write(&path, text).expect("writable");
        } else {
            assert_eq!(case["patch"], patch, "{}", path.display());
        }
        cases += 1;
    }
    assert!(cases >= 4, "{cases} cases");
}
