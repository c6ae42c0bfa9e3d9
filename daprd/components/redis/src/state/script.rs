//! The script that writes: checks every step against the versions as they will then be, and only then applies them all.
//! Upstream applies what comes before the step that loses. Q-redis-transactions

use component::{
    Error, ErrorKind, Result,
    state::{Concurrency, DeleteRequest, Operation, RequestMetadata, SetRequest},
};
use redis::{Pipeline, ScriptInvocation};

/// Request metadata: seconds until the key expires; -1 for never.
const TTL: &str = "ttlInSeconds";

/// One key and five arguments per step: `set` or `delete`; the version wanted (empty for any, `absent` for none); the value;
/// `1` where the key is to be marked for first-write; the lifetime (empty for as it is, 0 or below for ever).
///
/// Answers 0, or the number of the step that lost. `first-write` is written for older sidecars, which look at it.
pub const APPLY: &str = r"
local versions = {}
for i, key in ipairs(KEYS) do
  local version = versions[key]
  if version == nil then
    version = redis.pcall('HGET', key, 'version')
    if type(version) == 'table' then version = 'foreign' end
    if not version then version = '' end
  end
  local want = ARGV[i * 5 - 3]
  -- A version is wanted of a key that is there: Q-redis-absent-etag
  if want == 'absent' then
    if version ~= '' then return i end
  elseif want ~= '' and want ~= version then
    return i
  end
  if ARGV[i * 5 - 4] == 'set' then
    versions[key] = string.format('%.0f', (tonumber(version) or 0) + 1)
  else
    versions[key] = ''
  end
end
for i, key in ipairs(KEYS) do
  if ARGV[i * 5 - 4] == 'set' then
    local kind = redis.call('TYPE', key)
    if type(kind) == 'table' then kind = kind['ok'] end
    if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', key) end
    redis.call('HSET', key, 'data', ARGV[i * 5 - 2])
    redis.call('HINCRBY', key, 'version', 1)
    if ARGV[i * 5 - 1] == '1' then redis.call('HSET', key, 'first-write', 0) end
    local lifetime = ARGV[i * 5]
    if lifetime ~= '' then
      if tonumber(lifetime) > 0 then redis.call('EXPIRE', key, lifetime) else redis.call('PERSIST', key) end
    end
  else
    redis.call('DEL', key)
  end
end
return 0
";

/// What a write asks of the version that it replaces.
const ANY: &str = "";
const ABSENT: &str = "absent";

/// An operation that has been checked, ready to be sent.
#[derive(Debug)]
pub struct Step<'a> {
    key: &'a str,
    kind: &'static str,
    want: String,
    value: &'a [u8],
    first_write: bool,
    lifetime: String,
}

impl<'a> Step<'a> {
    /// Checks an operation; `lifetime` is for keys whose request has none.
    pub fn new(operation: &'a Operation, lifetime: Option<i64>) -> Result<Self> {
        match operation {
            Operation::Upsert(set) => Self::set(set, lifetime),
            Operation::Delete(delete) => Self::delete(delete),
        }
    }

    /// Checks a write.
    pub fn set(set: &'a SetRequest, lifetime: Option<i64>) -> Result<Self> {
        check_key(&set.key)?;
        let first_write = set.concurrency == Concurrency::FirstWrite;
        let want = match (set.etag.as_deref(), set.concurrency) {
            // Compat: Q-redis-last-write: whoever asks for the last write to win need not know the version.
            (_, Concurrency::LastWrite) => ANY.to_owned(),
            (Some(etag), _) if !etag.is_empty() => version(etag)?,
            // Whether the key is there decides, not how it was written before. Q-redis-first-write
            (_, Concurrency::FirstWrite) => ABSENT.to_owned(),
            _ => ANY.to_owned(),
        };
        let lifetime = own_lifetime(&set.key, &set.metadata)?.or(lifetime);
        Ok(Self {
            key: &set.key,
            kind: "set",
            want,
            value: &set.value,
            first_write,
            lifetime: lifetime.map_or_else(String::new, |seconds| seconds.to_string()),
        })
    }

    /// Checks a removal.
    pub fn delete(delete: &'a DeleteRequest) -> Result<Self> {
        check_key(&delete.key)?;
        Ok(Self {
            key: &delete.key,
            kind: "delete",
            want: match delete.etag.as_deref() {
                Some(etag) if !etag.is_empty() => version(etag)?,
                _ => ANY.to_owned(),
            },
            value: &[],
            first_write: false,
            lifetime: String::new(),
        })
    }

    /// The key it touches.
    pub fn key(&self) -> &str {
        self.key
    }

    /// Adds it to a call of [`APPLY`].
    pub fn write(&self, invocation: &mut ScriptInvocation<'_>) {
        invocation.key(self.key);
        for argument in self.arguments() {
            invocation.arg(argument);
        }
    }

    /// Calls [`APPLY`] for it alone, by its text, which the server then keeps, or by the hash of what it keeps.
    pub fn call(&self, pipeline: &mut Pipeline, hash: Option<&str>) {
        let call = match hash {
            Some(hash) => pipeline.cmd("EVALSHA").arg(hash),
            None => pipeline.cmd("EVAL").arg(APPLY),
        };
        call.arg(1).arg(self.key);
        for argument in self.arguments() {
            call.arg(argument);
        }
    }

    fn arguments(&self) -> [&[u8]; 5] {
        let first_write: &[u8] = if self.first_write { b"1" } else { b"0" };
        let lifetime = self.lifetime.as_bytes();
        [
            self.kind.as_bytes(),
            self.want.as_bytes(),
            self.value,
            first_write,
            lifetime,
        ]
    }
}

fn check_key(key: &str) -> Result<()> {
    match key.is_empty() {
        true => Err(Error::invalid_request("the key is empty")),
        false => Ok(()),
    }
}

/// Versions are numbers here; anything else was issued by another store.
fn version(etag: &str) -> Result<String> {
    match etag.parse::<i64>() {
        Ok(number) => Ok(number.to_string()),
        Err(_) => Err(Error::new(
            ErrorKind::EtagInvalid,
            format!("invalid etag value: {etag:?} is no number"),
        )),
    }
}

/// Seconds that a key lives; 0 or below for ever, nothing for as it is.
///
/// Compat: Q-redis-ttl-kept: a write that says nothing of a lifetime leaves the one that the key has.
fn own_lifetime(key: &str, metadata: &RequestMetadata) -> Result<Option<i64>> {
    let Some(text) = metadata.get(TTL).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse::<i32>() {
        Ok(seconds) if seconds >= -1 => Ok(Some(seconds.into())),
        _ => Err(Error::invalid_request(format!(
            "metadata {TTL} of key {key:?} must be a number of seconds, or -1, not {text:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(etag: Option<&str>, concurrency: Concurrency, ttl: &str) -> Operation {
        Operation::Upsert(SetRequest {
            key: "k".into(),
            etag: etag.map(str::to_owned),
            concurrency,
            metadata: RequestMetadata::from([(TTL.to_owned(), ttl.to_owned())]),
            ..SetRequest::default()
        })
    }

    #[test]
    fn what_a_write_wants_follows_from_tag_and_concurrency() {
        use Concurrency::{FirstWrite, LastWrite, Unspecified};
        for (etag, concurrency, want) in [
            (None, Unspecified, ANY),
            (Some(""), Unspecified, ANY),
            (Some("07"), Unspecified, "7"),
            (Some("7"), LastWrite, ANY),
            (Some("7"), FirstWrite, "7"),
            (None, FirstWrite, ABSENT),
        ] {
            let operation = set(etag, concurrency, "");
            assert_eq!(Step::new(&operation, None).unwrap().want, want);
        }
        let error = Step::new(&set(Some("x"), Unspecified, ""), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EtagInvalid);
    }

    #[test]
    fn a_request_overrides_the_lifetime_of_the_store() {
        let any = Concurrency::Unspecified;
        for (ttl, expected) in [("", "30"), ("5", "5"), ("-1", "-1"), ("0", "0")] {
            let operation = set(None, any, ttl);
            assert_eq!(Step::new(&operation, Some(30)).unwrap().lifetime, expected);
        }
        for ttl in ["-2", "soon", "99999999999"] {
            let error = Step::new(&set(None, any, ttl), None).unwrap_err();
            assert!(error.to_string().contains(ttl), "{error}");
        }
    }
}
