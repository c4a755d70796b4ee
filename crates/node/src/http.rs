//! The HTTP port: metrics and health.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

use crate::shared::Shared;
use crate::storage_metrics;

/// Serves until `stop` says so.
pub(crate) async fn serve(
    listener: TcpListener,
    node: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        // The process lives and its loop turns.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(node);
    let stopped = async move {
        let _ = stop.changed().await;
    };
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopped).await {
        warn!(%error, "the HTTP server ended");
    }
}

async fn metrics(State(node): State<Arc<Shared>>) -> impl IntoResponse {
    let (open, ..) = node.registry.counts();
    node.metrics.connections.set(open as i64);
    node.metrics.keys.set(node.keys().cast_signed());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], node.metrics.text(&storage_metrics::text(&node)))
}

/// Ready means: whoever leads each group that owns slots is known here, and alive, and this node is
/// not about to stop.
async fn ready(State(node): State<Arc<Shared>>) -> impl IntoResponse {
    if node.stopping.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "the node is about to stop\n")
    } else if node.view.serving.load(Ordering::Relaxed) == 1 {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no leader is known of a group that owns slots\n")
    }
}
