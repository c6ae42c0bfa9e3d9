//! Several keys in one round trip: a pipeline to the only server, and in a cluster one for every slot, side by side. Each
//! key is read or written on its own, so one that fails says nothing of the others.

use component::{
    Error, ErrorKind, Result, StateStore,
    state::{BulkItem, GetRequest, Item},
};
use futures::{StreamExt, stream};
use redis::{RedisError, RedisResult, ServerErrorKind, Value, from_redis_value};

use super::{FAILED, Redis, UNREAD, ask, item, lost, script::Step};
use crate::client::{Request, failure, is_passing};

/// Most keys of one pipeline, so that requests of others come in between.
const MOST_PIPELINED: usize = 1000;

/// Most groups of keys of one request that are under way at once.
const AT_ONCE: usize = 16;

impl Redis {
    /// The rows in the order asked for.
    pub(super) async fn read_several(&self, requests: &[GetRequest]) -> Vec<BulkItem> {
        let mut groups = Vec::new();
        for group in self.by_slot(requests.iter().map(|request| &*request.key)) {
            groups.push(async move {
                let mut rows = Vec::with_capacity(group.len());
                for part in group.chunks(MOST_PIPELINED) {
                    rows.append(&mut self.read_part(requests, part).await);
                }
                rows
            });
        }
        let rows = requests.iter().zip(in_order(groups).await);
        rows.map(|(request, result)| BulkItem {
            key: request.key.clone(),
            result,
        })
        .collect()
    }

    /// What became of each step, in order; one that is wrong is not sent.
    pub(super) async fn write_several(&self, steps: Vec<Result<Step<'_>>>) -> Vec<Result<()>> {
        let (places, sent): (Vec<usize>, Vec<&Step<'_>>) = steps
            .iter()
            .enumerate()
            .filter_map(|(place, step)| Some((place, step.as_ref().ok()?)))
            .unzip();
        let sent = &sent;
        let mut groups = Vec::new();
        for group in self.by_slot(sent.iter().map(|step| step.key())) {
            groups.push(async move {
                let mut written = Vec::with_capacity(group.len());
                // One after another, for a key may be written several times.
                for part in group.chunks(MOST_PIPELINED) {
                    written.append(&mut self.write_part(sent, part).await);
                }
                written
            });
        }
        let written = in_order(groups).await;
        let mut outcomes: Vec<Result<()>> = steps.into_iter().map(|step| step.map(drop)).collect();
        for (place, outcome) in places.into_iter().zip(written) {
            outcomes[place] = outcome;
        }
        outcomes
    }

    async fn read_part(&self, requests: &[GetRequest], part: &[usize]) -> Vec<Read> {
        let mut pipeline = redis::pipe();
        for index in part {
            ask(&mut pipeline, &requests[*index].key);
        }
        let mut answers = self.answers(pipeline.ignore_errors()).await.into_iter();
        let mut rows = Vec::with_capacity(part.len());
        for &index in part {
            let row = match (answers.next(), answers.next()) {
                (Some(Ok(row)), Some(Ok(left))) => from_redis_value(row)
                    .and_then(|row| Ok(item(row, from_redis_value(left)?)))
                    .map_err(|error| failure(UNREAD, error.into())),
                // Alone it may be sent again, or turn out to be no hash.
                (Some(Err(error)), _) | (_, Some(Err(error))) if is_of_server(&error) => {
                    self.get(&requests[index]).await
                }
                (Some(Err(error)), _) | (_, Some(Err(error))) => Err(failure(UNREAD, error)),
                _ => Err(Error::new(ErrorKind::Internal, "an answer is missing")),
            };
            rows.push((index, row));
        }
        rows
    }

    async fn write_part(&self, steps: &[&Step<'_>], part: &[usize]) -> Vec<Written> {
        let mut pipeline = redis::pipe();
        for (number, index) in part.iter().enumerate() {
            // The first call leaves the script at the server, for those that follow it.
            let hash = (number > 0).then(|| self.script.get_hash());
            steps[*index].call(&mut pipeline, hash);
        }
        let mut answers = self.answers(pipeline.ignore_errors()).await.into_iter();
        let mut written = Vec::with_capacity(part.len());
        for &index in part {
            let step = steps[index];
            let outcome = match answers.next() {
                Some(Ok(answer)) => match from_redis_value::<u64>(answer) {
                    Ok(0) => Ok(()),
                    Ok(_) => Err(lost(step.key())),
                    Err(error) => Err(failure(FAILED, error.into())),
                },
                Some(Err(error)) if was_not_run(&error) => {
                    self.apply(std::slice::from_ref(step)).await
                }
                Some(Err(error)) => Err(failure(FAILED, error)),
                None => Err(Error::new(ErrorKind::Internal, "an answer is missing")),
            };
            written.push((index, outcome));
        }
        written
    }

    /// The answer of every command; where the pipeline failed, its error for each.
    async fn answers(&self, pipeline: &redis::Pipeline) -> Vec<RedisResult<Value>> {
        match self.client.query(Request::Pipeline(pipeline)).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); pipeline.len()],
        }
    }
}

/// A key's place in the request, and what was found.
type Read = (usize, Result<Option<Item>>);
/// A key's place in the request, and what became of it.
type Written = (usize, Result<()>);

/// Runs the pipelines of several groups side by side, and puts what became of the keys in their order.
async fn in_order<T>(groups: Vec<impl Future<Output = Vec<(usize, T)>>>) -> Vec<T> {
    let outcomes = stream::iter(groups).buffered(AT_ONCE);
    let mut outcomes: Vec<(usize, T)> = outcomes.concat().await;
    outcomes.sort_unstable_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Whether the server has refused a command before it ran it, and another one, or the same one later, would not.
fn was_not_run(error: &RedisError) -> bool {
    use redis::ErrorKind::Server;
    let elsewhere = matches!(
        error.kind(),
        Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::NoScript)
    );
    elsewhere || (is_of_server(error) && is_passing(error))
}

/// Whether the server has answered; a connection that failed fails for all keys alike.
fn is_of_server(error: &RedisError) -> bool {
    error.clone().into_server_errors().is_some()
}
