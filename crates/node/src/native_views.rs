//! The native API's views of many keys.

use std::sync::Arc;
use std::time::Duration;

use kontiki_kv::KeyRow;
use kontiki_net::proto::{self, KeyAndValue};
use kontiki_net::{Failure, FailureCode};
use kontiki_replica::{FIRST_GROUP, Host};
use kontiki_types::{Epoch, GroupId, LogTime};
use tokio::sync::oneshot;
use tonic::Status;

use crate::event_loop::Input;
use crate::native::{Native, invalid};
use crate::views::{IDLE, Keys, Taken, VIEWS_MAX};

/// Keys and values of a page come to about this at the most.
const PAGE_BYTES_MAX: u32 = 1 << 20;

/// How often a group is looked at whose slots are just moving, and the pause between two looks.
const MOVING_LOOKS: usize = 100;
const MOVING_PAUSE: Duration = Duration::from_millis(20);

/// Parts that a view is cut into at the most.
const PARTS_MAX: u32 = 4096;

impl Native {
    /// Opens a view.
    pub(crate) async fn view_of(
        &self,
        request: proto::OpenViewRequest,
    ) -> Result<proto::OpenViewResponse, Status> {
        let atlas = self.0.atlas();
        let groups: Vec<u32> = match &atlas.configuration {
            None => vec![FIRST_GROUP.0],
            Some(known) => known.groups().map(|(id, _)| id.0).collect(),
        };
        let group = match request.group {
            0 => groups.first().copied().unwrap_or(FIRST_GROUP.0),
            number => number,
        };
        if !groups.contains(&group) {
            return Err(
                Failure::not_applied(FailureCode::NotFound, "there is no such group").into()
            );
        }
        if !self.0.views.has_room() {
            return Err(too_many());
        }
        let (taken, epoch) = self.take_view(GroupId(group)).await?;
        let keys = blocking(taken.open).await?;
        let (view, applied_index, count) = (self.0.random(), keys.applied(), keys.keys());
        if !self.0.views.enter(view, keys) {
            return Err(too_many());
        }
        Ok(proto::OpenViewResponse {
            view,
            applied_index,
            keys: count,
            idle_ms: IDLE.as_millis() as u64,
            groups,
            epoch: epoch.0,
        })
    }

    /// Takes a view of a group that serves just the slots that it owns in a configuration, and
    /// answers that one's number: views of all groups in the same one have each key once.
    async fn take_view(&self, group: GroupId) -> Result<(Taken, Epoch), Status> {
        for _ in 0..MOVING_LOOKS {
            // Once it is answered, everything acknowledged before the call has been applied here.
            self.catch_up(group).await?;
            let (sender, taken) = oneshot::channel();
            self.0.events.send(Input::TakeView { group, taken: sender });
            let taken: Taken = taken.await.map_err(|_| {
                let message = "the node has no replica of the group, or cannot take a view of it";
                Status::from(Failure::may_retry(FailureCode::NoLeader, message))
            })?;
            let atlas = self.0.atlas();
            let is_settled = match (&taken.served, &atlas.configuration) {
                (Some(served), Some(known)) => *served == known.slots_of(Some(group)),
                // It has every slot.
                (None, None) => true,
                _ => false,
            };
            if is_settled {
                return Ok((taken, atlas.epoch()));
            }
            tokio::time::sleep(MOVING_PAUSE).await;
        }
        let message = "slots of the group are on their way to or from it";
        Err(Failure::may_retry(FailureCode::Conflict, message).into())
    }

    pub(crate) fn view(&self, number: u64) -> Result<Arc<dyn Keys>, Status> {
        self.0.views.get(number).ok_or_else(|| {
            let message =
                "the view is gone: it was not used for a minute, or its node was restarted";
            Failure::not_applied(FailureCode::NotFound, message).into()
        })
    }

    /// Reads a page.
    pub(crate) async fn page_of(
        &self,
        request: proto::ReadViewRequest,
    ) -> Result<proto::ReadViewResponse, Status> {
        let keys = self.view(request.view)?;
        let page = blocking(move || {
            let proto::ReadViewRequest { prefix, from, to, after, bytes_max, .. } = request;
            let bytes_max = u64::from(bytes_max.clamp(1, PAGE_BYTES_MAX));
            keys.page(&prefix, (from, to), after.as_deref(), bytes_max)
        });
        let page = page.await?;
        let pair = |KeyRow { key, value, expires }| {
            let expires_at_ms = expires.map_or(0, |at: LogTime| at.0);
            KeyAndValue { key, value, expires_at_ms }
        };
        Ok(proto::ReadViewResponse {
            pairs: page.rows.into_iter().map(pair).collect(),
            looked_at: page.looked_at,
            last: page.last,
        })
    }

    /// Cuts a view into parts.
    pub(crate) async fn cuts_of(
        &self,
        request: proto::CutViewRequest,
    ) -> Result<proto::CutViewResponse, Status> {
        if request.parts > PARTS_MAX {
            return Err(invalid("a view is cut into 4096 parts at the most"));
        }
        let positions = self.view(request.view)?.cuts(&request.prefix, request.parts);
        Ok(proto::CutViewResponse { positions })
    }
}

fn too_many() -> Status {
    let message = format!("{VIEWS_MAX} views are open on this node, which is the most");
    Failure::not_applied(FailureCode::Overloaded, message).into()
}

/// Reads from the state engine, on a thread that may block.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, kontiki_kv::MachineError> + Send + 'static,
) -> Result<T, Status> {
    let failed = |error: String| Status::from(Failure::unknown(FailureCode::Internal, error));
    let read =
        tokio::task::spawn_blocking(read).await.map_err(|error| failed(error.to_string()))?;
    read.map_err(|error| failed(error.to_string()))
}
