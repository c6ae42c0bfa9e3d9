//! Instances in number: pages of their ids, and purges with children or by filter.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use component::state::KeysLikeRequest;
use http::HeaderMap;
use proto::durabletask::{
    ListInstanceIDsRequest, ListInstanceIDsResponse, PurgeInstanceFilter, PurgeInstancesRequest,
    TaskRouter, backend::v1::WorkflowMetadata, purge_instances_request::Request,
};

use crate::{
    Error, Purged,
    calls::PURGE,
    core::{effects, event},
    engine::Inner,
    metrics::PURGE as PURGED,
    names::PREFIX,
    record::Record,
};

impl Inner {
    /// A page of ids.
    ///
    /// # Errors
    /// [`Error::State`] without a store, [`Error::Unsupported`] where it lists no keys.
    pub async fn list(
        &self,
        request: ListInstanceIDsRequest,
    ) -> Result<ListInstanceIDsResponse, Error> {
        let stores = &self.options.stores;
        let store = stores.for_actors().ok_or_else(|| {
            Error::Unsupported("no state store with actor support found".to_owned())
        })?;
        let (namespace, app_id) = (&self.names.namespace, &self.names.app_id);
        let kind = format!("{PREFIX}{namespace}.{app_id}.workflow");
        let like = KeysLikeRequest {
            pattern: format!("{app_id}||{kind}||%||metadata"),
            page_size: request.page_size,
            continuation: request.continuation_token,
        };
        let page = stores.raw(&store).keys_like(&like).await;
        let page = page.map_err(|error| Error::Unsupported(component::error::chain(&error)))?;
        let ids = page.keys.iter().filter_map(|key| {
            let mut parts = key.split("||").skip(2);
            parts.next().map(str::to_owned)
        });
        Ok(ListInstanceIDsResponse {
            instance_ids: ids.collect(),
            continuation_token: page.continuation,
        })
    }

    /// Deletes one instance, or those that a filter finds.
    ///
    /// # Errors
    /// As [`crate::Engine::purge`].
    pub async fn purge(&self, request: PurgeInstancesRequest) -> Result<Purged, Error> {
        let PurgeInstancesRequest {
            recursive,
            force,
            router,
            request,
        } = request;
        let force = force.unwrap_or_default();
        match request {
            Some(Request::InstanceId(id)) => {
                let instances = self
                    .purge_instance(&id, router.as_ref(), recursive, force)
                    .await?;
                Ok(Purged {
                    instances,
                    complete: true,
                })
            }
            Some(Request::PurgeInstanceFilter(filter)) => {
                self.purge_found(&filter, recursive, force).await
            }
            None => Err(Error::Invalid("no instance to purge is given".to_owned())),
        }
    }

    async fn purge_instance(
        &self,
        id: &str,
        router: Option<&TaskRouter>,
        recursive: bool,
        force: bool,
    ) -> Result<usize, Error> {
        let actor = self.actor_of(event::target(router), id)?;
        if actor.kind != self.names.workflow() {
            if recursive {
                let count = self.purge_there(actor, force, &HeaderMap::new()).await?;
                return Ok(usize::try_from(count).unwrap_or_default());
            }
            if force {
                return Err(Error::Unsupported(
                    "cross-app purge does not support force without recursive".to_owned(),
                ));
            }
            self.call(actor, PURGE, Default::default(), Default::default())
                .await?;
            return Ok(1);
        }
        // Parents before their children, so that they are deleted in the reverse order.
        let mut order = Vec::new();
        let mut open = VecDeque::from([id.to_owned()]);
        // An id may be that of a child of its own child: who had it first is nobody's child by that.
        let mut seen = HashSet::from([id.to_owned()]);
        let mut deleted = 0;
        while let Some(id) = open.pop_front() {
            let actor = self.actor(&id);
            let Some(record) = Record::load(&self.options.state, &actor).await? else {
                if order.is_empty() {
                    return Err(Error::NotFound);
                }
                continue;
            };
            if recursive {
                if !force && !record.fold.is_completed() {
                    return Err(Error::NotCompleted(String::new()));
                }
                for child in effects::children(&record.history, &self.names.app_id, &id) {
                    match &child.app_id {
                        None if seen.insert(child.instance.clone()) => {
                            open.push_back(child.instance);
                        }
                        None => {}
                        Some(app_id) => {
                            let actor = self.actor_of(Some(app_id), &child.instance)?;
                            match self.purge_there(actor, force, &HeaderMap::new()).await {
                                Ok(count) => deleted += usize::try_from(count).unwrap_or_default(),
                                Err(Error::NotFound) => {}
                                Err(error) => return Err(error),
                            }
                        }
                    }
                }
            }
            order.push(id);
        }
        for id in order.into_iter().rev() {
            let purged = self.measured(PURGED, self.purge_own(&id, force)).await;
            match purged {
                Ok(()) => deleted += 1,
                Err(Error::NotFound) if deleted > 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }

    async fn purge_own(&self, id: &str, force: bool) -> Result<(), Error> {
        let actor = self.actor(id);
        if force {
            // Also where nobody hosts it: that is what it is for.
            return self.purge_one(&actor, false, true).await;
        }
        let purged = self.call(actor, PURGE, Bytes::new(), HeaderMap::new());
        purged.await.map(drop)
    }

    async fn purge_found(
        &self,
        filter: &PurgeInstanceFilter,
        recursive: bool,
        force: bool,
    ) -> Result<Purged, Error> {
        let mut purged = Purged {
            instances: 0,
            complete: true,
        };
        let mut continuation_token = None;
        loop {
            let page = self
                .list(ListInstanceIDsRequest {
                    continuation_token: continuation_token.take(),
                    page_size: Some(PAGE),
                })
                .await?;
            for id in page.instance_ids {
                let record = Record::load(&self.options.state, &self.actor(&id)).await?;
                let known = record.map(|record| record.summary(&id));
                if !known.is_some_and(|known| matches(filter, &known)) {
                    continue;
                }
                match self.purge_instance(&id, None, recursive, force).await {
                    Ok(count) => purged.instances += count,
                    Err(Error::NotFound) => {}
                    Err(Error::NotCompleted(_) | Error::Stalled) => purged.complete = false,
                    Err(error) => return Err(error),
                }
            }
            match page.continuation_token {
                Some(next) => continuation_token = Some(next),
                None => return Ok(purged),
            }
        }
    }
}

fn matches(filter: &PurgeInstanceFilter, known: &WorkflowMetadata) -> bool {
    let created = event::nanos(known.created_at.as_ref());
    let from = filter.created_time_from.as_ref();
    let to = filter.created_time_to.as_ref();
    from.is_none_or(|from| created >= event::nanos(Some(from)))
        && to.is_none_or(|to| created <= event::nanos(Some(to)))
        && (filter.runtime_status.is_empty()
            || filter.runtime_status.contains(&known.runtime_status))
}

/// Instances of a page.
const PAGE: u32 = 1000;
