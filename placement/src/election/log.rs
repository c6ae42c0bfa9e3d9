//! What a member remembers: its vote, which must outlive it so that it never votes twice in a term, and the log, which
//! need not, since it says nothing but who led. Where there is no file for the vote, the election waits out a term
//! instead (`election.rs`).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, Membership, OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use super::types::{Config, Entry, LogId, Vote};

/// A member's log, and its vote. Clones share them.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<State>>);

struct State {
    vote: Option<Vote>,
    file: Option<PathBuf>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl Log {
    /// A log that begins with who the members are: the same entry at every member, so that nobody has to be told first.
    ///
    /// # Errors
    /// Where the vote in `folder` cannot be read, or the folder cannot be made.
    pub fn open(
        members: Membership<String, openraft::BasicNode>,
        folder: Option<&Path>,
    ) -> io::Result<Self> {
        let first = Entry::new(
            LogId::new_term_index(0, 0),
            EntryPayload::Membership(members),
        );
        let file = folder.map(|folder| folder.join(VOTE_FILE));
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)?;
        }
        let vote = match &file {
            Some(file) => read(file)?,
            None => None,
        };
        Ok(Self(Arc::new(Mutex::new(State {
            vote,
            file,
            purged: None,
            entries: BTreeMap::from([(0, first)]),
        }))))
    }
}

fn read(file: &Path) -> io::Result<Option<Vote>> {
    match std::fs::read(file) {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| {
            let text = format!("{} is no vote: {error}", file.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(file: &Path, vote: &Vote) -> io::Result<()> {
    daemon::replace_file(file, &serde_json::to_vec(vote)?)
}

impl RaftLogReader<Config> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let state = self.0.lock();
        let entries = state.entries.range(range);
        Ok(entries.map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.lock().vote.clone())
    }
}

impl RaftLogStorage<Config> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Config>> {
        let state = self.0.lock();
        let last = state.entries.last_key_value();
        let last = last.map(|(_, entry)| entry.log_id());
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: last.or(state.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let file = self.0.lock().file.clone();
        if let Some(file) = file {
            let vote = vote.clone();
            let written = tokio::task::spawn_blocking(move || write(&file, &vote));
            written.await.map_err(io::Error::other)??;
        }
        self.0.lock().vote = Some(vote.clone());
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Config>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.0.lock();
        for entry in entries {
            state.entries.insert(entry.log_id().index, entry);
        }
        drop(state);
        flushed.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = match last {
            Some(last) => Bound::Excluded(last.index),
            None => Bound::Unbounded,
        };
        let mut state = self.0.lock();
        let after = state.entries.range((from, Bound::Unbounded));
        let after: Vec<u64> = after.map(|(index, _)| *index).collect();
        for index in after {
            state.entries.remove(&index);
        }
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut state = self.0.lock();
        state.purged = Some(upto);
        state.entries = state.entries.split_off(&(upto.index + 1));
        Ok(())
    }
}

/// Name of the file in the folder of `--raft-logstore-path`.
const VOTE_FILE: &str = "vote.json";

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Membership<String, openraft::BasicNode> {
        let names = ["a", "b", "c"].map(str::to_owned);
        Membership::new_with_defaults(vec![names.into()], [])
    }

    #[tokio::test]
    async fn a_vote_outlives_its_member() {
        let folder = tempfile::tempdir().unwrap();
        let vote = Vote::new(7, "b".to_owned());
        let mut log = Log::open(members(), Some(folder.path())).unwrap();
        assert_eq!(log.read_vote().await.unwrap(), None);
        log.save_vote(&vote).await.unwrap();
        let mut again = Log::open(members(), Some(folder.path())).unwrap();
        assert_eq!(again.read_vote().await.unwrap(), Some(vote));
        assert_eq!(
            again
                .get_log_state()
                .await
                .unwrap()
                .last_log_id
                .unwrap()
                .index,
            0
        );

        std::fs::write(folder.path().join(VOTE_FILE), "half a vo").unwrap();
        let Err(error) = Log::open(members(), Some(folder.path())) else {
            panic!("a broken vote was taken");
        };
        assert!(
            error.to_string().contains("vote.json is no vote"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_cut_log_knows_where_it_ends() {
        let mut log = Log::open(members(), None).unwrap();
        let id = |index| LogId::new_term_index(0, index);
        let entries = (1..6).map(|index| Entry::new(id(index), EntryPayload::Blank));
        log.append(entries, IOFlushed::noop()).await.unwrap();
        log.truncate_after(Some(id(4))).await.unwrap();
        log.purge(id(2)).await.unwrap();
        let left = log.try_get_log_entries(0..9).await.unwrap();
        let left: Vec<u64> = left.iter().map(|entry| entry.log_id().index).collect();
        assert_eq!(left, [3, 4]);
        log.purge(id(4)).await.unwrap();
        assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(id(4)));
    }
}
