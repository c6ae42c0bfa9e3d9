//! Timers that need not fire any more, because the event has come that they were to end the waiting for.

use std::collections::{HashMap, HashSet, VecDeque};

use proto::durabletask::{
    HistoryEvent, TimerCreatedEvent, history_event::EventType, timer_created_event::Origin,
};

use super::event;

/// The timers that are of no use since the events from `from` on. Each event takes the oldest timer of its name that was made before
/// it and has not fired; names differ by more than case.
pub fn cancelled(history: &[HistoryEvent], from: usize) -> Vec<i32> {
    let is_raised =
        |event: &HistoryEvent| matches!(event.event_type, Some(EventType::EventRaised(_)));
    if !history.iter().skip(from).any(is_raised) {
        return Vec::new();
    }
    let mut waiting: HashMap<String, VecDeque<i32>> = HashMap::new();
    let mut names: HashMap<i32, String> = HashMap::new();
    let mut cancelled = Vec::new();
    for (at, event) in history.iter().enumerate() {
        match &event.event_type {
            Some(EventType::TimerCreated(timer)) => {
                if let Some(name) = awaited_event(timer) {
                    let name = name.to_uppercase();
                    waiting
                        .entry(name.clone())
                        .or_default()
                        .push_back(event.event_id);
                    names.insert(event.event_id, name);
                }
            }
            Some(EventType::TimerFired(fired)) => {
                if let Some(name) = names.remove(&fired.timer_id)
                    && let Some(ids) = waiting.get_mut(&name)
                {
                    ids.retain(|id| *id != fired.timer_id);
                }
            }
            Some(EventType::EventRaised(raised)) => {
                let ids = waiting.get_mut(&raised.name.to_uppercase());
                if let Some(id) = ids.and_then(VecDeque::pop_front) {
                    names.remove(&id);
                    if at >= from {
                        cancelled.push(id);
                    }
                }
            }
            _ => {}
        }
    }
    cancelled
}

/// The timers that have been made and have not fired.
pub fn left(history: &[HistoryEvent]) -> Vec<i32> {
    let fired = |event: &HistoryEvent| match &event.event_type {
        Some(EventType::TimerFired(fired)) => Some(fired.timer_id),
        _ => None,
    };
    let fired: HashSet<i32> = history.iter().filter_map(fired).collect();
    let created = history
        .iter()
        .filter(|event| event::timer_created(event).is_some());
    let ids = created.map(|event| event.event_id);
    ids.filter(|id| !fired.contains(id)).collect()
}

/// The event whose coming a timer ends. Older workers only name it.
fn awaited_event(timer: &TimerCreatedEvent) -> Option<&str> {
    match &timer.origin {
        Some(Origin::ExternalEvent(awaited)) => Some(&awaited.name),
        None => timer.name.as_deref(),
        Some(_) => None,
    }
}
