//! Who is logging in, and who has: by the cookie of the browser, in memory, so that a restart asks everybody again.

use std::{collections::HashMap, time::Instant};

use component::outgoing::oauth2::AccessToken;
use http::HeaderValue;
use parking_lot::Mutex;

/// Most sessions that are kept; who would be one more takes the place of the one that was used least lately.
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

enum Step {
    Login(Login),
    Done(AccessToken),
}

struct Session {
    step: Step,
    used: Instant,
}

/// All sessions.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// A login begins.
    pub fn begin(&self, id: String, login: Login) {
        let mut sessions = self.0.lock();
        if sessions.len() >= MAX {
            make_room(&mut sessions, Instant::now());
        }
        let session = Session {
            step: Step::Login(login),
            used: Instant::now(),
        };
        sessions.insert(id, session);
    }

    /// The login of a session, if it is still on.
    pub fn login(&self, id: &str, now: Instant) -> Option<Login> {
        match &self.0.lock().get(id)?.step {
            Step::Login(login) if now < login.until => Some(login.clone()),
            _ => None,
        }
    }

    /// A login has come to its end.
    pub fn finish(&self, id: &str, token: AccessToken) {
        if let Some(session) = self.0.lock().get_mut(id) {
            session.step = Step::Done(token);
            session.used = Instant::now();
        }
    }

    /// The token of a session, while it is valid.
    pub fn token(&self, id: &str, now: Instant) -> Option<HeaderValue> {
        let mut sessions = self.0.lock();
        let session = sessions.get_mut(id)?;
        match &session.step {
            Step::Done(token) if token.is_fresh(now) => {
                session.used = now;
                Some(token.header.clone())
            }
            _ => None,
        }
    }
}

/// Drops what has ended, or else the one that was used least lately.
fn make_room(sessions: &mut HashMap<String, Session>, now: Instant) {
    sessions.retain(|_, session| match &session.step {
        Step::Login(login) => now < login.until,
        Step::Done(token) => token.is_fresh(now),
    });
    if sessions.len() >= MAX {
        let oldest = sessions.iter().min_by_key(|(_, session)| session.used);
        if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
            sessions.remove(&oldest);
        }
    }
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
        assert_eq!(sessions.0.lock().len(), MAX);
        assert!(sessions.login("0", now).is_none(), "the first has gone");
        assert!(sessions.login("1", now).is_some());
        assert!(sessions.login("1", late).is_none(), "it was too slow");
    }
}
