//! Clients of etcd.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Error};

use super::recorder::Recorder;
use super::workload::{Kind, Operation, Workload, key};

/// Generated from `proto/etcd.proto`.
#[allow(missing_docs, clippy::all, rustdoc::all, reason = "generated code")]
pub(crate) mod proto {
    tonic::include_proto!("etcdserverpb");
}

use proto::kv_client::KvClient;
use proto::{PutRequest, RangeRequest};

/// How long a client waits after an error, so that a dead server is not flooded.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// Opens a connection that clients may share.
pub(crate) async fn connect(address: &str) -> Result<Channel, Error> {
    Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect().await
}

/// A closed-loop client: makes `pipeline` calls at once, waits for all, again.
pub(crate) struct Client {
    pub kv: KvClient<Channel>,
    pub pipeline: usize,
    pub workload: Workload,
    pub recorder: Rc<Recorder>,
}

impl Client {
    /// Runs until the recorder says stop.
    pub(crate) async fn run(mut self) {
        if self.pipeline == 1 {
            while let Some(operation) = self.recorder.next(&mut self.workload) {
                let value = self.value(operation);
                call(&mut self.kv, operation, value, &self.recorder).await;
            }
            return;
        }
        loop {
            let mut calls = JoinSet::new();
            for _ in 0..self.pipeline {
                let Some(operation) = self.recorder.next(&mut self.workload) else { break };
                let (mut kv, recorder) = (self.kv.clone(), self.recorder.clone());
                let value = self.value(operation);
                calls.spawn_local(async move {
                    call(&mut kv, operation, value, &recorder).await;
                });
            }
            if calls.is_empty() {
                return;
            }
            while calls.join_next().await.is_some() {}
        }
    }

    fn value(&mut self, operation: Operation) -> Bytes {
        match operation.kind {
            Kind::Read => Bytes::new(),
            Kind::Write => Bytes::copy_from_slice(self.workload.value()),
        }
    }
}

async fn call(kv: &mut KvClient<Channel>, operation: Operation, value: Bytes, recorder: &Recorder) {
    let sent = Instant::now();
    let key = Bytes::copy_from_slice(&key(operation.key));
    let result: Result<(), Status> = match operation.kind {
        Kind::Read => {
            let request = RangeRequest { key, serializable: false };
            kv.range(request).await.map(|_| ())
        }
        Kind::Write => kv.put(PutRequest { key, value }).await.map(|_| ()),
    };
    match result {
        Ok(()) => recorder.success(operation.kind, sent),
        Err(status) => {
            recorder.error(|| format!("{:?}: {}", status.code(), status.message()));
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }
}
