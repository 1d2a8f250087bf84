//! The requests of the socket.

use super::query::{ConnectionQuery, FindingQuery};
use super::rows::ConnectionReport;
use super::status::StatusReport;
use super::{JSON_LINES, MATCHED_HEADER, TOTAL_HEADER};
use crate::expose::view::{View, ViewError};
use crate::finding::{Finding, VERSION};
use crate::snapshot::Listing;
use crate::store::{Filter, Wanted};
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Followers at once; each costs a task and a place in the feed.
const MOST_FOLLOWERS: usize = 32;
/// Bytes of a list that are made at a time.
const CHUNK: usize = 64 << 10;

pub fn router(view: View) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/connections", get(connections))
        .route("/v1/findings", get(findings))
        .route("/v1/findings/follow", get(follow))
        .route("/v1/findings/{id}", get(finding))
        .fallback(|| async { Refusal(StatusCode::NOT_FOUND, "no such request".into()) })
        .with_state(view)
}

struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<ViewError> for Refusal {
    fn from(e: ViewError) -> Refusal {
        Refusal(StatusCode::SERVICE_UNAVAILABLE, e.to_string())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(e: QueryRejection) -> Refusal {
        bad_request(e.body_text())
    }
}

fn bad_request(message: String) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, message)
}

async fn status(State(view): State<View>) -> Result<Response, Refusal> {
    let now_ns = jiff::Timestamp::now().as_nanosecond() as u64;
    Ok(Json(StatusReport::of(&view, now_ns).await?).into_response())
}

async fn connections(
    State(view): State<View>,
    query: Result<Query<ConnectionQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let Listing { rows, matched, total } = view.connections(query).await?;
    Ok(list(rows.map(|row| line(&ConnectionReport::from(row))), matched, total))
}

async fn findings(
    State(view): State<View>,
    query: Result<Query<FindingQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let filter = query?.filter().map_err(bad_request)?;
    let selection = view.store().select(&filter);
    Ok(list(selection.findings.into_iter().map(|f| line(&*f)), selection.matched, view.store().occupancy().held))
}

async fn finding(State(view): State<View>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let wanted: Wanted = id.parse().map_err(bad_request)?;
    match view.store().find(&wanted) {
        Some(finding) => Ok(Json(&*finding).into_response()),
        None => Err(Refusal(StatusCode::NOT_FOUND, absent(&wanted, &view))),
    }
}

fn absent(wanted: &Wanted, view: &View) -> String {
    let o = view.store().occupancy();
    match wanted {
        _ if o.held == 0 => "there are no findings yet: no connection was reset since the agent started".into(),
        Wanted::Latest => "there is no finding".into(),
        Wanted::Id(id) => format!(
            "there is no finding {id}: the agent holds {} of at most {}; list them with `whyrst resets`",
            o.held, o.capacity
        ),
        Wanted::CommunityId(id) => format!(
            "there is no finding about {id}; list all with `whyrst resets`, connections without one with `whyrst conns`"
        ),
    }
}

async fn follow(
    State(view): State<View>,
    query: Result<Query<FindingQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let filter = query.filter().map_err(bad_request)?;
    if view.store().followers() >= MOST_FOLLOWERS {
        return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("{MOST_FOLLOWERS} clients follow already")));
    }
    // Without a start in the past there is none, as with `tail -n 0 -f`.
    let past = query.since_ns.is_some() || query.limit.is_some();
    let (selection, feed) =
        view.store().follow(&Filter { limit: if past { filter.limit } else { Some(0) }, ..filter.clone() });
    let past = stream::iter(selection.findings.into_iter().map(|f| Ok::<_, Infallible>(line(&*f))));
    let body = stream::StreamExt::chain(past, live(feed, filter));
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(body)).into_response())
}

/// What comes after; says so where the follower was too slow.
fn live(feed: Receiver<Arc<Finding>>, filter: Filter) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((feed, filter), |(mut feed, filter)| async move {
        loop {
            match feed.recv().await {
                Ok(f) if filter.matches(&f) => return Some((Ok(line(&*f)), (feed, filter))),
                Ok(_) => {}
                Err(RecvError::Lagged(n)) => {
                    let lost = line(&json!({ "type": "lost", "version": VERSION, "findings": n }));
                    return Some((Ok(lost), (feed, filter)));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

fn line(value: &impl Serialize) -> Bytes {
    let mut out = serde_json::to_vec(value).expect("our objects have string keys only");
    out.push(b'\n');
    out.into()
}

/// JSON Lines, made in chunks: a million rows are never in memory as text.
fn list(lines: impl Iterator<Item = Bytes> + Send + 'static, matched: usize, total: usize) -> Response {
    let body = stream::unfold(lines, |mut lines| async move {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK
            && let Some(line) = lines.next()
        {
            chunk.extend_from_slice(&line);
        }
        (!chunk.is_empty()).then_some((Ok::<_, Infallible>(Bytes::from(chunk)), lines))
    });
    let headers = [
        (header::CONTENT_TYPE.as_str(), JSON_LINES.to_owned()),
        (MATCHED_HEADER, matched.to_string()),
        (TOTAL_HEADER, total.to_string()),
    ];
    (headers, Body::from_stream(body)).into_response()
}
