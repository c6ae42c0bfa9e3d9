//! Who is logging in, and who has: by the cookie of the browser, in memory, so that a restart asks everybody again.

use std::collections::HashMap;

use component::outgoing::oauth2::AccessToken;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Most logins that are under way, and most users who have logged in; who would be one more takes the place of the one that was used
/// least lately. Strangers only take the places of strangers.
const MAX: usize = 10_000;

/// A login that has begun.
#[derive(Clone)]
pub struct Login {
    /// What has to come back with the code.
    pub state: String,
    /// Where the browser wanted to go.
    pub wanted: String,
    /// It is given up then.
    pub until: Instant,
}

/// What is kept, and when it was used last.
struct Used<T> {
    what: T,
    at: Instant,
}

type Kept<T> = Mutex<HashMap<String, Used<T>>>;

/// All sessions.
#[derive(Default)]
pub struct Sessions {
    logins: Kept<Login>,
    users: Kept<AccessToken>,
}

impl Sessions {
    /// A login begins.
    pub fn begin(&self, id: String, login: Login) {
        let is_on = |login: &Login, now| now < login.until;
        keep(&self.logins, id, login, is_on);
    }

    /// The login of a session, if it is still on.
    pub fn login(&self, id: &str, now: Instant) -> Option<Login> {
        let logins = self.logins.lock();
        let login = &logins.get(id)?.what;
        (now < login.until).then(|| login.clone())
    }

    /// A login has come to its end; it is of no more use. `id`: by which the user is known from now on, which nobody has heard before.
    pub fn finish(&self, login: &str, id: String, token: AccessToken) {
        self.logins.lock().remove(login);
        keep(&self.users, id, token, AccessToken::is_fresh);
    }

    /// The token of a session, while it is valid.
    pub fn token(&self, id: &str, now: Instant) -> Option<HeaderValue> {
        let mut users = self.users.lock();
        let user = users.get_mut(id)?;
        user.what.is_fresh(now).then(|| {
            user.at = now;
            user.what.header.clone()
        })
    }
}

/// Keeps one more; where there is no room, what has ended goes, or else the one that was used least lately.
fn keep<T>(kept: &Kept<T>, id: String, what: T, is_on: impl Fn(&T, Instant) -> bool) {
    let (mut kept, at) = (kept.lock(), Instant::now());
    if kept.len() >= MAX {
        kept.retain(|_, used| is_on(&used.what, at));
    }
    if kept.len() >= MAX {
        let oldest = kept.iter().min_by_key(|(_, used)| used.at);
        if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
            kept.remove(&oldest);
        }
    }
    kept.insert(id, Used { what, at });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn login(until: Instant) -> Login {
        Login {
            state: "state".to_owned(),
            wanted: "/".to_owned(),
            until,
        }
    }

    #[test]
    fn there_is_room_for_so_many() {
        let (now, sessions) = (Instant::now(), Sessions::default());
        let late = now + Duration::from_secs(600);
        for id in 0..=MAX {
            sessions.begin(id.to_string(), login(late));
        }
        assert_eq!(sessions.logins.lock().len(), MAX);
        assert!(sessions.login("0", now).is_none(), "the first has gone");
        assert!(sessions.login("1", now).is_some());
        assert!(sessions.login("1", late).is_none(), "it was too slow");
    }
}
