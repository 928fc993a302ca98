//! Who waits for a tenant's budget, and in which order they go.
//!
//! What is more urgent goes first. Among equals the policies take turns, so that one application's rush does not keep the
//! others out. Within a policy the last to come goes first: when there are more than can be served, somebody who has waited
//! long has no time left for the answer, and would spend the budget for nothing.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::policy::ObjectName;

/// How urgent a request is; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::auth0) enum Priority {
    /// The end of a check whose list was paid for. It may use the reserve.
    Revocation,
    /// A further page of a list that is not worth anything without it.
    NextPage,
    /// Somebody waits at a login.
    Login,
    /// A session that has its place renews itself.
    Silent,
}

impl Priority {
    const COUNT: usize = Self::Silent as usize + 1;

    pub fn uses_reserve(self) -> bool {
        self == Self::Revocation
    }
}

/// Those who wait; `T` is how one of them is told.
pub(super) struct Queue<T> {
    /// By priority; the policy whose turn it is stands in front.
    lanes: [VecDeque<Lane<T>>; Priority::COUNT],
    length: usize,
}

struct Lane<T> {
    policy: Option<ObjectName>,
    /// Oldest first.
    waiting: VecDeque<Waiting<T>>,
}

struct Waiting<T> {
    deadline: Instant,
    tell: T,
}

impl<T> Queue<T> {
    pub fn new() -> Self {
        Self { lanes: Default::default(), length: 0 }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// How many of this urgency wait.
    pub fn waiting(&self, priority: Priority) -> usize {
        self.lanes[priority as usize].iter().map(|lane| lane.waiting.len()).sum()
    }

    pub fn push(&mut self, priority: Priority, policy: Option<&ObjectName>, deadline: Instant, tell: T) {
        let lanes = &mut self.lanes[priority as usize];
        let waiting = Waiting { deadline, tell };
        match lanes.iter_mut().find(|lane| lane.policy.as_ref() == policy) {
            Some(lane) => lane.waiting.push_back(waiting),
            None => lanes.push_back(Lane { policy: policy.cloned(), waiting: VecDeque::from([waiting]) }),
        }
        self.length += 1;
    }

    /// How urgent the most urgent are.
    pub fn priority(&self) -> Option<Priority> {
        use Priority::{Login, NextPage, Revocation, Silent};
        [Revocation, NextPage, Login, Silent].into_iter().find(|priority| !self.lanes[*priority as usize].is_empty())
    }

    /// Takes out whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let lanes = &mut self.lanes[self.priority()? as usize];
        let mut lane = lanes.pop_front()?;
        let next = lane.waiting.pop_back()?;
        if !lane.waiting.is_empty() {
            lanes.push_back(lane);
        }
        self.length -= 1;
        Some(next.tell)
    }

    /// Takes out who can be spared most: the oldest of the least urgent, of the policy of which most wait.
    pub fn pop_least_urgent(&mut self) -> Option<T> {
        let lanes = self.lanes.iter_mut().rev().find(|lanes| !lanes.is_empty())?;
        let longest = (0..lanes.len()).max_by_key(|position| lanes[*position].waiting.len())?;
        let spared = lanes[longest].waiting.pop_front()?;
        if lanes[longest].waiting.is_empty() {
            lanes.remove(longest);
        }
        self.length -= 1;
        Some(spared.tell)
    }

    /// Takes out all whose deadline comes first, and all who have left.
    pub fn take_out(&mut self, before: Instant, has_left: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for lanes in &mut self.lanes {
            for lane in lanes.iter_mut() {
                let (gone, stay) = std::mem::take(&mut lane.waiting)
                    .into_iter()
                    .partition(|waiting| waiting.deadline <= before || has_left(&waiting.tell));
                lane.waiting = stay;
                out.extend(VecDeque::into_iter(gone).map(|waiting: Waiting<T>| waiting.tell));
            }
            lanes.retain(|lane| !lane.waiting.is_empty());
        }
        self.length -= out.len();
        out
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queue(waiting: &[(Priority, &str, &'static str)]) -> Queue<&'static str> {
        let mut queue = Queue::new();
        for (priority, policy, name) in waiting {
            queue.push(*priority, Some(&ObjectName::new("default", *policy)), Instant::now(), *name);
        }
        queue
    }

    fn order(mut queue: Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[tokio::test]
    async fn the_more_urgent_go_first() {
        use Priority::{Login, NextPage, Revocation, Silent};
        let queue =
            queue(&[(Silent, "a", "silent"), (Login, "a", "login"), (Revocation, "a", "end"), (NextPage, "a", "on")]);
        assert_eq!(queue.priority(), Some(Revocation));
        assert_eq!(order(queue), ["end", "on", "login", "silent"]);
    }

    #[tokio::test]
    async fn policies_take_turns_and_in_each_the_last_goes_first() {
        let login = |policy: &'static str, name| (Priority::Login, policy, name);
        let waiting = [
            login("a", "a1"),
            login("a", "a2"),
            login("a", "a3"),
            login("b", "b1"),
            login("b", "b2"),
            login("c", "c1"),
        ];
        let mut queue = queue(&waiting);
        assert_eq!((queue.pop_least_urgent(), queue.len()), (Some("a1"), 5), "the oldest where most wait");
        assert_eq!(order(queue), ["a3", "b2", "c1", "a2", "b1"]);
    }

    #[tokio::test]
    async fn who_has_left_or_would_come_too_late_is_taken_out() {
        let now = Instant::now();
        let mut queue = Queue::new();
        for (seconds, name) in [(1, "soon"), (3, "late"), (5, "left")] {
            queue.push(Priority::Login, None, now + Duration::from_secs(seconds), name);
        }
        let mut out = queue.take_out(now + Duration::from_secs(1), |name| *name == "left");
        out.sort_unstable();
        assert_eq!((out, queue.len()), (vec!["left", "soon"], 1));
        assert_eq!(order(queue), ["late"]);
    }
}
