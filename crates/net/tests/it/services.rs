//! A server whose store holds one key.

use bytes::Bytes;
use kontiki_net::proto::admin_server::Admin;
use kontiki_net::proto::kv_server::Kv;
use kontiki_net::proto::*;
use kontiki_net::{Failure, FailureCode};
use tonic::{Request, Response, Status};

pub struct OneKey;

type Answer<T> = Result<Response<T>, Status>;

fn no<T>() -> Answer<T> {
    Err(Failure::not_applied(FailureCode::Invalid, "only reads here").into())
}

#[tonic::async_trait]
impl Kv for OneKey {
    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        let found = request.into_inner().key == "k";
        let value = if found { Bytes::from_static(b"v") } else { Bytes::new() };
        Ok(Response::new(GetResponse { found, value, version: 1, log_time_ms: 5 }))
    }

    async fn open_session(&self, _: Request<OpenSessionRequest>) -> Answer<OpenSessionResponse> {
        no()
    }

    async fn set(&self, request: Request<SetRequest>) -> Answer<SetResponse> {
        let version = request.into_inner().value.len() as u64;
        Ok(Response::new(SetResponse { version, log_time_ms: 5 }))
    }

    async fn put_if_version(&self, _: Request<PutIfVersionRequest>) -> Answer<SetResponse> {
        Err(Failure::version_mismatch(3).into())
    }

    async fn append(&self, _: Request<AppendRequest>) -> Answer<AppendResponse> {
        no()
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        no()
    }

    async fn batch(&self, _: Request<BatchRequest>) -> Answer<BatchResponse> {
        no()
    }

    async fn transaction(&self, _: Request<TransactionRequest>) -> Answer<TransactionResponse> {
        no()
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        Ok(Response::new(StatusResponse::default()))
    }

    async fn open_view(&self, _: Request<OpenViewRequest>) -> Answer<OpenViewResponse> {
        no()
    }

    async fn read_view(&self, _: Request<ReadViewRequest>) -> Answer<ReadViewResponse> {
        no()
    }

    async fn cut_view(&self, _: Request<CutViewRequest>) -> Answer<CutViewResponse> {
        no()
    }

    async fn keep_view(&self, _: Request<KeepViewRequest>) -> Answer<KeepViewResponse> {
        no()
    }

    async fn close_view(&self, _: Request<CloseViewRequest>) -> Answer<CloseViewResponse> {
        no()
    }
}

#[tonic::async_trait]
impl Admin for OneKey {
    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Answer<ClusterStatusResponse> {
        Ok(Response::new(ClusterStatusResponse::default()))
    }

    async fn transfer(&self, _: Request<TransferRequest>) -> Answer<TransferResponse> {
        no()
    }

    async fn add_replica(&self, _: Request<AddReplicaRequest>) -> Answer<ChangeResponse> {
        no()
    }

    async fn remove_replica(&self, _: Request<RemoveReplicaRequest>) -> Answer<ChangeResponse> {
        no()
    }

    async fn slots(&self, _: Request<SlotsRequest>) -> Answer<SlotsResponse> {
        no()
    }

    async fn reshape(&self, _: Request<ReshapeRequest>) -> Answer<ReshapeResponse> {
        no()
    }

    async fn read_state(&self, _: Request<ReadStateRequest>) -> Answer<ReadStateResponse> {
        no()
    }

    async fn hello(&self, _: Request<HelloRequest>) -> Answer<HelloResponse> {
        Ok(Response::new(HelloResponse::default()))
    }
}
