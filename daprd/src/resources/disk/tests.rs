//! Tests with folders of files.

use crds::Kind;

use super::*;

fn disk(directory: &Path) -> Disk {
    Disk {
        directories: vec![directory.to_owned()],
        configurations: vec![],
        namespace: String::new(),
        app_id: "app".to_owned(),
    }
}

fn component(name: &str, value: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: state.in-memory\n  version: v1\n  metadata:\n  - name: x\n    value: \"{value}\"\n"
    )
}

fn write(directory: &Path, file: &str, name: &str, value: &str) {
    fs::write(directory.join(file), component(name, value)).unwrap();
}

/// What a sidecar has loaded that has started with what the folder holds.
fn started(disk: &Disk) -> Desired {
    let mut desired = Desired::new(&disk.app_id, Configuration::default());
    desired.replace(disk.list().unwrap());
    desired
}

#[test]
fn files_are_read_in_order_and_others_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "b.yaml", "first", "1");
    write(directory.path(), "a.yml", "second", "1");
    fs::write(directory.path().join("c.txt"), "kind: Component").unwrap();
    fs::write(directory.path().join("d.yaml"), "{broken").unwrap();
    let desired = started(&disk(directory.path()));
    let names: Vec<&str> = desired.components().map(Kind::name).collect();
    assert_eq!(names, ["second", "first"]);
}

#[test]
fn a_broken_file_keeps_what_it_held_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path());
    write(directory.path(), "a.yaml", "a", "1");
    write(directory.path(), "b.yaml", "b", "1");
    write(directory.path(), "c.yaml", "c", "1");
    let mut desired = started(&disk);
    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    fs::write(directory.path().join("c.yaml"), "kind: [").unwrap();
    write(directory.path(), "b.yaml", "b", "2");
    let changes = desired.replace(disk.list().unwrap());
    let [Change::ComponentGone(gone), Change::Component(changed)] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert_eq!((&**gone, changed.name()), ("a", "b"));
    // Gone with its file, broken or not; and what a broken file no longer shows stays.
    let both = format!("{}---\n{{broken", component("b", "2"));
    fs::write(directory.path().join("b.yaml"), both).unwrap();
    fs::remove_file(directory.path().join("c.yaml")).unwrap();
    let changes = desired.replace(disk.list().unwrap());
    assert_eq!(changes, [Change::ComponentGone("c".to_owned())]);
    fs::write(directory.path().join("b.yaml"), component("b2", "1")).unwrap();
    let changes = desired.replace(disk.list().unwrap());
    assert_eq!(changes.len(), 2, "{changes:?}");
}

#[test]
fn each_edit_of_a_broken_file_is_one_to_warn_of() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path());
    let file = directory.path().join("a.yaml");
    fs::write(&file, "{broken").unwrap();
    let before = disk.list().unwrap().remarks;
    assert_eq!(disk.list().unwrap().remarks, before);
    let later = fs::metadata(&file).unwrap().modified().unwrap() + Duration::from_secs(1);
    let edited = fs::File::options().write(true).open(&file).unwrap();
    edited.set_modified(later).unwrap();
    assert_ne!(disk.list().unwrap().remarks, before);
    let unknown = format!("{}scope: [app]\n", component("a", "1"));
    fs::write(&file, unknown).unwrap();
    let listing = disk.list().unwrap();
    let remark = listing.remarks.first().unwrap();
    assert!(remark.line.ends_with("unknown field scope"), "{remark:?}");
    assert_eq!((listing.written.len(), listing.unread.len()), (1, 0));
}

/// Runs `edit` beside a watch that compares by itself only at its beginning.
async fn watched<F: Future<Output = ()>>(
    directory: &Path,
    desired: Desired,
    edit: impl FnOnce(mpsc::Receiver<Change>) -> F,
) {
    let (sender, changes) = mpsc::channel(4);
    let shutdown = CancellationToken::new();
    let never = Duration::from_secs(3600);
    let watch = disk(directory).watch(desired, sender, never, shutdown.clone());
    let edit = async {
        edit(changes).await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(watch, edit).0.unwrap() };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap();
}

#[tokio::test]
async fn edits_become_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(path, "a.yaml", "a", "1");
    watched(path, started(&disk(path)), |mut changes| async move {
        write(path, "a.yaml", "a", "2");
        let changed = changes.recv().await.unwrap();
        assert!(matches!(changed, Change::Component(one) if one.name() == "a"));
        fs::remove_file(path.join("a.yaml")).unwrap();
        let gone = changes.recv().await.unwrap();
        assert!(matches!(gone, Change::ComponentGone(name) if name == "a"));
    })
    .await;
}

#[tokio::test]
async fn edits_during_the_start_are_applied() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(path, "a.yaml", "a", "1");
    let desired = started(&disk(path));
    write(path, "a.yaml", "a", "2");
    watched(path, desired, |mut changes| async move {
        let changed = changes.recv().await.unwrap();
        assert!(matches!(changed, Change::Component(one) if one.name() == "a"));
    })
    .await;
}

#[test]
fn reading_does_not_wake_the_watch() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(path, "a.yaml", "a", "1");
    let (event, events) = std::sync::mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |found| event.send(found).unwrap()).unwrap();
    watcher.watch(path, RecursiveMode::NonRecursive).unwrap();
    disk(path).list().unwrap();
    // Events come in their order, so this one comes after whatever reading has caused.
    write(path, "last.yaml", "b", "1");
    let mut accesses = 0;
    loop {
        let found = events.recv_timeout(Duration::from_secs(20)).unwrap();
        let files = &found.as_ref().unwrap().paths;
        if files.iter().any(|file| file.ends_with("last.yaml")) {
            break;
        }
        accesses += 1;
        assert!(!is_edit(&found), "{found:?}");
    }
    assert!(accesses > 0, "the system tells of reading");
    assert!(is_edit(&Err(notify::Error::generic("lost"))));
}
