//! The identity of this program in files, for the member of an etcd beside it, which speaks to the other members under it
//! (contract 6, 8.2). Written anew whenever certificate or anchors change.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use daemon::Draft;
use security::Security;
use tokio_util::sync::CancellationToken;

/// Keeps the files in step with the identity until shutdown. A program without one has nothing to write.
pub(crate) async fn run(
    security: Security,
    folder: PathBuf,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (mut svid, mut anchors) = (security.svid(), security.anchors());
    let follow = async {
        loop {
            let files = svid.borrow_and_update().as_ref().map(|svid| {
                [
                    ("key.pem", svid.key_pem().into_bytes()),
                    ("cert.pem", svid.chain_pem().to_vec()),
                ]
            });
            let authorities = anchors.borrow_and_update().pem().to_vec();
            if let Some([key, chain]) = files {
                let files = [key, chain, ("ca.pem", authorities)];
                write(&folder, &files)
                    .with_context(|| format!("write the identity to {}", folder.display()))?;
            }
            let changed = tokio::select! {
                changed = svid.changed() => changed,
                changed = anchors.changed() => changed,
            };
            if changed.is_err() {
                return Ok(());
            }
        }
    };
    shutdown.run_until_cancelled(follow).await.unwrap_or(Ok(()))
}

/// Each file is whole at any time. Who reads key and certificate in the moment between the two tries again.
fn write(folder: &Path, files: &[(&str, Vec<u8>)]) -> std::io::Result<()> {
    for (name, bytes) in files {
        Draft::write(&folder.join(name), bytes)?.place()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_replaced_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("identity");
        for text in ["first", "second"] {
            write(
                &folder,
                &[("key.pem", text.into()), ("ca.pem", text.into())],
            )
            .unwrap();
            for name in ["key.pem", "ca.pem"] {
                let path = folder.join(name);
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{name}");
            }
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }
}
