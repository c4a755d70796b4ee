//! A worker gives its map outputs to reducers.

use std::sync::Arc;

use kontiki_schedule::{AttemptId, AttemptRef, JobId, TaskId};
use tonic::{Request, Response, Status};

use super::Shared;
use crate::proto::shuffle_server::Shuffle;
use crate::proto::{self, BucketReply, BucketRequest, ReadReply, ReadRequest};
use crate::shuffle::{self, ShuffleError, ShuffleFile};

/// Largest range of one answer, in bytes.
pub(super) const READ_BYTES_MAX: u64 = 4 << 20;

pub(super) struct Outputs(pub(super) Arc<Shared>);

impl Outputs {
    /// Opens an output and reads from it, where reading may wait for a disk.
    async fn read_file<T: Send + 'static>(
        &self,
        of: AttemptRef,
        read: impl FnOnce(&ShuffleFile) -> Result<T, ShuffleError> + Send + 'static,
    ) -> Result<T, Status> {
        if !self.0.books.holds(&of) {
            return Err(Status::not_found("the output is not here"));
        }
        let path = self.0.folder.output(&of);
        let read = move || ShuffleFile::open(&path, of.task.number).and_then(|file| read(&file));
        let done = tokio::task::spawn_blocking(read).await;
        let done = done.map_err(|error| Status::internal(error.to_string()))?;
        done.map_err(|error| match error {
            ShuffleError::Lost { reason, .. } => Status::not_found(reason),
            ShuffleError::Damaged { .. } => Status::data_loss(error.to_string()),
        })
    }
}

fn attempt(job: u64, map: u32, attempt: u64) -> AttemptRef {
    AttemptRef { job: JobId(job), task: TaskId::map(map), attempt: AttemptId(attempt) }
}

/// What makes sure that runs arrive as they were sent: a CRC32C over the number of buckets and the
/// runs' six numbers, each as eight bytes, little-endian.
pub(super) fn crc_of(buckets: u32, runs: &[proto::Run]) -> u32 {
    let mut crc = crc32c::crc32c(&u64::from(buckets).to_le_bytes());
    for run in runs {
        let numbers = [run.offset, run.stored_bytes, run.decoded_bytes, run.records]
            .into_iter()
            .chain([u64::from(run.largest_block), u64::from(run.blocks)]);
        for number in numbers {
            crc = crc32c::crc32c_append(crc, &number.to_le_bytes());
        }
    }
    crc
}

fn run_to(run: &shuffle::Run) -> proto::Run {
    proto::Run {
        offset: run.offset,
        stored_bytes: run.stored_bytes,
        decoded_bytes: run.decoded_bytes,
        records: run.records,
        largest_block: run.largest_block,
        blocks: run.blocks,
    }
}

#[tonic::async_trait]
impl Shuffle for Outputs {
    async fn bucket(
        &self,
        request: Request<BucketRequest>,
    ) -> Result<Response<BucketReply>, Status> {
        let BucketRequest { job, map, attempt: number, bucket } = request.into_inner();
        let of = attempt(job, map, number);
        let reply = self.read_file(of, move |file| {
            let runs: Vec<_> = file.bucket(bucket)?.runs.iter().map(run_to).collect();
            let buckets = file.identity().buckets;
            Ok(BucketReply { buckets, crc: crc_of(buckets, &runs), runs })
        });
        Ok(Response::new(reply.await?))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadReply>, Status> {
        let ReadRequest { job, map, attempt: number, offset, length } = request.into_inner();
        if length > READ_BYTES_MAX {
            return Err(Status::invalid_argument("too much at once"));
        }
        let of = attempt(job, map, number);
        let bytes = self.read_file(of, move |file| {
            let mut room = vec![0; length as usize];
            file.read(offset, &mut room)?;
            Ok(room)
        });
        Ok(Response::new(ReadReply { bytes: bytes.await?.into() }))
    }
}
