//! Map outputs for a reduce: from this worker's own disk, or from others over the network.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kontiki_schedule::{AttemptId, AttemptRef, JobId, TaskId, WorkerId};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::shuffle_service::{READ_BYTES_MAX, crc_of};
use super::{Others, Shared};
use crate::proto::{BucketRequest, MapOutputsReply, ReadRequest};
use crate::shuffle::{Bucket, Fetch, FileIdentity, LocalFetch, Run, ShuffleError};

/// A worker that does not answer is asked so many times before its output counts as lost.
const TRIES: u32 = 3;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the output of a map is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) attempt: AttemptId,
    worker: WorkerId,
    address: String,
}

/// Where the outputs of a job's maps are, as far as is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    by_map: BTreeMap<u32, Place>,
    /// Up to where in the coordinator's list.
    pub(super) next: u64,
}

impl Places {
    pub(super) fn learn(&mut self, reply: crate::proto::MapOutputsReply) {
        self.next = reply.next;
        for output in reply.outputs {
            let (attempt, worker) = (AttemptId(output.attempt), WorkerId(output.worker));
            let place = Place { attempt, worker, address: output.address };
            self.by_map.insert(output.map, place);
        }
    }

    pub(super) fn attempt(&self, map: u32) -> AttemptId {
        self.by_map.get(&map).map_or(AttemptId(0), |place| place.attempt)
    }
}

/// Reads map outputs of other workers. To be used from other threads than its runtime's.
struct Remote {
    job: JobId,
    runtime: Handle,
}

impl Remote {
    /// Asks a worker, again if need be.
    fn ask<T, F: Future<Output = Result<T, Status>>>(
        &self,
        map: u32,
        place: &Place,
        call: impl Fn() -> F,
    ) -> Result<T, ShuffleError> {
        let asked = async {
            let mut tried = 0;
            loop {
                tried += 1;
                let answer = timeout(PATIENCE, call()).await;
                let status = match answer {
                    Ok(Ok(reply)) => return Ok(reply),
                    Ok(Err(status)) => status,
                    Err(_) => Status::deadline_exceeded("it does not answer"),
                };
                match status.code() {
                    Code::NotFound => return Err(lost(map, place, status.message())),
                    Code::DataLoss => {
                        let what = status.message().to_owned();
                        return Err(ShuffleError::Damaged { map, offset: 0, what });
                    }
                    _ if tried == TRIES => return Err(lost(map, place, status.message())),
                    _ => sleep(Duration::from_millis(100 << tried)).await,
                }
            }
        };
        self.runtime.block_on(asked)
    }

    fn bucket(
        &self,
        others: &Others,
        map: u32,
        place: &Place,
        bucket: u32,
    ) -> Result<Bucket, ShuffleError> {
        let request = BucketRequest { job: self.job.0, map, attempt: place.attempt.0, bucket };
        let reply = self.ask(map, place, || async {
            let mut worker = others.client(&place.address)?;
            worker.bucket(request).await.map(tonic::Response::into_inner)
        })?;
        if crc_of(reply.buckets, &reply.runs) != reply.crc {
            let what = "the list of runs came damaged".to_owned();
            return Err(ShuffleError::Damaged { map, offset: 0, what });
        }
        let (job, attempt, buckets) = (self.job.0, place.attempt.0, reply.buckets);
        let runs = reply.runs.iter().map(|run| Run {
            offset: run.offset,
            stored_bytes: run.stored_bytes,
            decoded_bytes: run.decoded_bytes,
            records: run.records,
            largest_block: run.largest_block,
            blocks: run.blocks,
        });
        let runs = runs.collect();
        Ok(Bucket { file: FileIdentity { job, map, attempt, buckets }, bucket, runs })
    }

    fn read(
        &self,
        others: &Others,
        map: u32,
        place: &Place,
        offset: u64,
        room: &mut [u8],
    ) -> Result<(), ShuffleError> {
        let mut from = offset;
        for part in room.chunks_mut(READ_BYTES_MAX as usize) {
            let request = ReadRequest {
                job: self.job.0,
                map,
                attempt: place.attempt.0,
                offset: from,
                length: part.len() as u64,
            };
            let reply = self.ask(map, place, || async {
                let mut worker = others.client(&place.address)?;
                worker.read(request).await.map(tonic::Response::into_inner)
            })?;
            if reply.bytes.len() != part.len() {
                let what = format!("{} bytes came for {}", reply.bytes.len(), part.len());
                return Err(ShuffleError::Damaged { map, offset: from, what });
            }
            part.copy_from_slice(&reply.bytes);
            from += part.len() as u64;
        }
        Ok(())
    }
}

fn lost(map: u32, place: &Place, why: &str) -> ShuffleError {
    let reason = format!("worker {} at {}: {why}", place.worker, place.address);
    ShuffleError::Lost { map, reason }
}

fn place_of(places: &Places, map: u32) -> Result<&Place, ShuffleError> {
    let lost = || ShuffleError::Lost { map, reason: "nobody has it".into() };
    places.by_map.get(&map).ok_or_else(lost)
}

/// The outputs of all maps of a job, for a worker.
pub(super) struct Outputs {
    shared: Arc<Shared>,
    remote: Remote,
    places: Arc<Places>,
    local: LocalFetch,
}

impl Outputs {
    /// `runtime`: where calls to others run. To be used from other threads than its own.
    pub(super) fn new(
        shared: Arc<Shared>,
        job: JobId,
        maps: u32,
        places: Arc<Places>,
        runtime: Handle,
    ) -> Self {
        let path = |map| match places.by_map.get(&map) {
            Some(place) if place.worker == shared.books.worker => shared
                .folder
                .output(&AttemptRef { job, task: TaskId::map(map), attempt: place.attempt }),
            _ => PathBuf::new(),
        };
        let local = LocalFetch::new((0..maps).map(path).collect());
        Self { local, shared, remote: Remote { job, runtime }, places }
    }

    fn is_local(&self, place: &Place) -> bool {
        place.worker == self.shared.books.worker
    }
}

impl Fetch for Outputs {
    fn bucket(&self, map: u32, bucket: u32) -> Result<Bucket, ShuffleError> {
        let place = place_of(&self.places, map)?;
        if self.is_local(place) {
            return self.local.bucket(map, bucket);
        }
        self.remote.bucket(&self.shared.others, map, place, bucket)
    }

    fn read(&self, map: u32, offset: u64, room: &mut [u8]) -> Result<(), ShuffleError> {
        let place = place_of(&self.places, map)?;
        if self.is_local(place) {
            return self.local.read(map, offset, room);
        }
        self.remote.read(&self.shared.others, map, place, offset, room)
    }
}

/// The outputs of a job's maps as far as they were there when it was asked for, for whoever wants to
/// look at them. To be used from other threads than those of the runtime it was made on.
pub struct MapOutputs {
    others: Others,
    remote: Remote,
    places: Places,
}

impl MapOutputs {
    pub(crate) fn new(others: Others, job: u64, reply: MapOutputsReply) -> Self {
        let mut places = Places::default();
        places.learn(reply);
        Self { others, remote: Remote { job: JobId(job), runtime: Handle::current() }, places }
    }
}

impl Fetch for MapOutputs {
    fn bucket(&self, map: u32, bucket: u32) -> Result<Bucket, ShuffleError> {
        self.remote.bucket(&self.others, map, place_of(&self.places, map)?, bucket)
    }

    fn read(&self, map: u32, offset: u64, room: &mut [u8]) -> Result<(), ShuffleError> {
        self.remote.read(&self.others, map, place_of(&self.places, map)?, offset, room)
    }
}
