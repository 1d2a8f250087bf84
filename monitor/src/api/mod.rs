//! The agent's Unix socket: HTTP/1.1 with JSON, read-only. `docs/json.md` has the objects.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | one object |
//! | `GET /v1/connections?state=&sync=&client=&server=&port=&sort=&limit=` | JSON Lines |
//! | `GET /v1/findings?since_ns=&type=&cause=&culprit=&limit=` | JSON Lines, oldest first |
//! | `GET /v1/findings/{id}` | one object; `id` is a number, a community id or `latest` |
//! | `GET /v1/findings/follow?...` | JSON Lines without end; `since_ns` or `limit` start with the past |
//!
//! Lists carry how many matched, shown or not, in the header `whyrst-matched`. Errors are `{"error": "..."}`.

pub mod client;
pub mod query;
pub mod rows;
pub mod server;
pub mod socket;
pub mod status;

pub use client::Client;

/// How many objects match a list's filters, shown or not.
pub const MATCHED_HEADER: &str = "whyrst-matched";
/// How many objects there were to choose from.
pub const TOTAL_HEADER: &str = "whyrst-total";
/// Media type of lists.
pub const JSON_LINES: &str = "application/jsonl";
