//! The coordinator's pages: what goes on, for people, programs and Prometheus.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use tokio::net::TcpListener;

use super::core::CoreHandle;
use crate::status;

#[derive(Clone)]
struct Pages {
    core: CoreHandle,
    history: Option<Arc<PathBuf>>,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, core: CoreHandle, history: Option<PathBuf>) {
    let pages = Pages { core, history: history.map(Arc::new) };
    let routes = Router::new()
        .route("/", get(page))
        .route("/status.json", get(json))
        .route("/metrics", get(metrics))
        .route("/history/{job}", get(past))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(pages);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::warn!(%error, "the HTTP server ended");
    }
}

async fn look(pages: &Pages) -> Result<Value, Response> {
    let all = pages.core.call(|core, now| status::all(&core.scheduler, now)).await;
    all.map_err(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())
}

async fn page(State(pages): State<Pages>) -> Response {
    match look(&pages).await {
        Ok(all) => Html(status::page(&all)).into_response(),
        Err(response) => response,
    }
}

async fn json(State(pages): State<Pages>) -> Response {
    match look(&pages).await {
        Ok(all) => axum::Json(all).into_response(),
        Err(response) => response,
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let text = pages.core.call(|core, now| status::metrics(&core.scheduler, now)).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// A job that has ended, also before a restart.
async fn past(State(pages): State<Pages>, Path(job): Path<String>) -> Response {
    let job = job.trim_end_matches(".json").parse::<kontiki_schedule::JobId>();
    let Some((folder, job)) = pages.history.zip(job.ok()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match tokio::task::spawn_blocking(move || std::fs::read(folder.join(format!("{job}.json"))))
        .await
    {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
