//! Taking a step: the document before it in, the document after it out. Each is one write, after which sentry may stop for ever.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use security::SpiffeId;

use super::record::Next;
use super::{Plan, Record, Stage, Step};
use crate::ca::{self, generate};

/// The document after a step. `passed` is the time that was seen to pass in the stage before, `longest` the longest life of a
/// certificate that is signed from now on.
pub fn apply(
    step: Step,
    record: &Record,
    (sentry, plan): (&SpiffeId, &Plan),
    (passed, longest): (Duration, Duration),
    now: Timestamp,
) -> Result<Record, ca::Error> {
    let mut after = record.clone();
    after.longest = after.longest.max(longest.as_secs());
    let enter = |after: &mut Record, stage| {
        (after.stage, after.seconds) = (stage, 0);
    };
    match step {
        Step::Wait(_) => {}
        Step::Note => after.seconds = passed.as_secs(),
        Step::Issuer => issuer(&mut after, sentry, plan, now)?,
        Step::Begin => {
            begin(&mut after, sentry, plan, now)?;
            enter(&mut after, Stage::Distribute);
        }
        Step::Sign => enter(&mut after, Stage::Sign),
        Step::Own => {
            if let Some(next) = after.next.clone() {
                after.replace(|record| (record.chain, record.key) = (next.chain, next.key));
            }
            enter(&mut after, Stage::Retire);
        }
        Step::Finish => {
            if let Some(next) = after.next.take() {
                after.replace(|record| record.root = next.root);
                after.root_key = Some(next.root_key).filter(|_| plan.issuer);
            }
            after.longest = longest.as_secs();
            enter(&mut after, Stage::Idle);
        }
    }
    Ok(after)
}

/// What is made is as old as what it replaces: valid at once, whatever clocks say and whatever this one has said.
fn dates(record: &Record, plan: &Plan, now: Timestamp) -> Result<generate::Dates, ca::Error> {
    let [begin, _, root_end] = record.dates()?;
    let now = SystemTime::from(now);
    Ok(generate::Dates {
        begin: begin.min(now),
        root_end,
        issuer_end: now + plan.issuer_life,
    })
}

/// Certificates behind the new root's in a chain; peers follow six in all.
const MAX_WAY: usize = 3;

fn issuer(
    record: &mut Record,
    sentry: &SpiffeId,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), ca::Error> {
    let Some(root_key) = record.root_key.clone() else {
        return Ok(());
    };
    let mut dates = dates(record, plan, now)?;
    dates.issuer_end = dates.issuer_end.min(dates.root_end);
    let (chain, key) =
        generate::issuer(sentry, record.root.as_bytes(), root_key.as_bytes(), dates)?;
    let older = ca::certificates(record.chain.as_bytes(), "the issuer chain")?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    record.replace(|record| {
        // The root stays, and so does what an older one says for it.
        record.chain = text(chain) + &ca::pem(&older[1..]);
        record.key = text(key);
    });
    Ok(())
}

fn begin(
    record: &mut Record,
    sentry: &SpiffeId,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), ca::Error> {
    let old = dates(record, plan, now)?;
    let root_end = SystemTime::from(now) + plan.root_life;
    let made = generate::generate(
        sentry,
        generate::Dates {
            root_end,
            issuer_end: old.issuer_end.min(root_end),
            ..old
        },
    )?;
    // The old root vouches for the new one itself, as long as it lives; where its key was forgotten, its issuer does.
    let issuer = ca::certificates(record.chain.as_bytes(), "the issuer chain")?;
    // And who vouched for the old one goes on doing that, for those who know only what was before it.
    let (signer, key, end, way) = match &record.root_key {
        Some(key) => (&record.root, key, old.root_end, &issuer[1..]),
        None => {
            let end = ca::validity(&issuer[0])?.1;
            (&record.chain, &record.key, end, &issuer[..])
        }
    };
    let way = ca::pem(&way[..way.len().min(MAX_WAY)]);
    let cross = generate::cross(
        sentry,
        &made.material.root,
        signer.as_bytes(),
        key.as_bytes(),
        (old.begin, end),
    )?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let next = Next {
        chain: text(&made.material.chain) + &text(&cross) + &way,
        key: text(&made.material.key),
        root: text(&made.material.root),
        root_key: text(&made.root_key),
    };
    record.replace(|record| record.root.push_str(&next.root));
    record.next = Some(next);
    Ok(())
}
