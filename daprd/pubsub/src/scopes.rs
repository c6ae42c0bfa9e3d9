//! Which topics of a broker this app may use: `publishingScopes`, `subscriptionScopes`, `allowedTopics` and
//! `protectedTopics` of the component (contract 9.7).

use component::Metadata;

/// The topic rules of one component, for one app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    publishing: Vec<String>,
    subscription: Vec<String>,
    allowed: Vec<String>,
    protected: Vec<String>,
}

impl Scopes {
    pub fn parse(metadata: &Metadata, app_id: &str) -> Self {
        let text = |field| metadata.text(field).unwrap_or_default();
        Self {
            publishing: scoped(text("publishingScopes"), app_id),
            subscription: scoped(text("subscriptionScopes"), app_id),
            allowed: topics(text("allowedTopics")),
            protected: topics(text("protectedTopics")),
        }
    }

    pub fn may_publish(&self, topic: &str) -> bool {
        self.allows(topic, &self.publishing)
    }

    pub fn may_subscribe(&self, topic: &str) -> bool {
        self.allows(topic, &self.subscription)
    }

    /// Without any scope for the app, every topic is open that is allowed and not protected.
    fn allows(&self, topic: &str, scoped: &[String]) -> bool {
        let among = |list: &[String]| list.iter().any(|one| one == topic);
        if !self.allowed.is_empty() && !among(&self.allowed) {
            return false;
        }
        if scoped.is_empty() && !among(&self.protected) {
            return true;
        }
        among(scoped)
    }
}

/// The topics of one app in `app1=t1,t2;app2=`.
fn scoped(text: &str, app_id: &str) -> Vec<String> {
    let text = text.replace(' ', "");
    text.split(';')
        .filter_map(|part| part.split_once('='))
        .filter(|(app, _)| *app == app_id)
        // Compat: Q-empty-scope: `app=` scopes the app to the topic without a name, that is to none.
        .flat_map(|(_, topics)| topics.split('=').next().unwrap_or_default().split(','))
        .map(str::to_owned)
        .collect()
}

fn topics(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let text = text.replace(' ', "");
    text.split(',').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(pairs: &[(&str, &str)]) -> Scopes {
        Scopes::parse(&pairs.iter().copied().collect(), "app")
    }

    #[test]
    fn topics_are_open_unless_something_is_said() {
        let all = scopes(&[]);
        assert!(all.may_publish("a") && all.may_subscribe("a"));
    }

    #[test]
    fn scopes_bind_the_named_app() {
        let some = scopes(&[("publishingScopes", "other=x; app = a, b ;app=c")]);
        assert!(some.may_publish("a") && some.may_publish("b") && some.may_publish("c"));
        assert!(!some.may_publish("x"));
        assert!(some.may_subscribe("x"));
        assert!(!scopes(&[("subscriptionScopes", "app=")]).may_subscribe("a"));
        assert!(scopes(&[("subscriptionScopes", "other=a")]).may_subscribe("b"));
    }

    #[test]
    fn allowed_and_protected_topics_bind_every_app() {
        let allowed = scopes(&[("allowedTopics", "a,b")]);
        assert!(allowed.may_publish("a") && !allowed.may_publish("c"));
        let protected = scopes(&[("protectedTopics", "a"), ("publishingScopes", "app=a")]);
        assert!(protected.may_publish("a") && !protected.may_publish("b"));
        assert!(!protected.may_subscribe("a") && protected.may_subscribe("b"));
    }
}
