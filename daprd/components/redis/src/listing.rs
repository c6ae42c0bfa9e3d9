//! All keys that match a pattern, of the only server or of every server of a cluster, looked at step by step: a server answers
//! others in between.

use component::{Error, Result};
use redis::{Cmd, FromRedisValue};

use crate::{
    client::{Client, Request, failure},
    metadata::{Address, Topology},
};

/// Keys looked at by one step of a listing.
const SCAN_COUNT: u32 = 1000;

/// Most keys that one listing gathers before it puts them in order.
const MOST_LISTED: usize = 1_000_000;

/// Where a listing goes on, 0 at its end, and keys.
type Page = (u64, Vec<Vec<u8>>);

/// The keys that match, in no order, some perhaps twice.
pub async fn keys(client: &Client, glob: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut step = scan(0, glob);
    if client.settings().topology == Topology::Cluster {
        // Positions belong to one server, so the first answers also say which servers there are.
        let begun: Vec<(String, Page)> = page(client, Request::Everywhere(&step)).await?;
        for (server, first) in begun {
            let server = Address::of_server(&server)?;
            let mut cursor = gather(first, &mut found)?;
            while cursor != 0 {
                step = scan(cursor, glob);
                cursor = gather(page(client, Request::At(&step, &server)).await?, &mut found)?;
            }
        }
        return Ok(found);
    }
    loop {
        match gather(page(client, (&step).into()).await?, &mut found)? {
            0 => return Ok(found),
            cursor => step = scan(cursor, glob),
        }
    }
}

async fn page<T: FromRedisValue>(client: &Client, request: Request<'_>) -> Result<T> {
    let answer = client.query(request).await;
    answer.map_err(|error| failure("failed to list keys", error))
}

fn scan(cursor: u64, glob: &str) -> Cmd {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor)
        .arg("MATCH")
        .arg(glob)
        .arg("COUNT")
        .arg(SCAN_COUNT);
    scan
}

fn gather((next, page): Page, found: &mut Vec<String>) -> Result<u64> {
    // Keys that are no text cannot be a sidecar's.
    let keys = page.into_iter().map(String::from_utf8);
    found.extend(keys.filter_map(std::result::Result::ok));
    match found.len() > MOST_LISTED {
        true => Err(Error::invalid_request(format!(
            "more than {MOST_LISTED} keys match, which is too many to list"
        ))),
        false => Ok(next),
    }
}
