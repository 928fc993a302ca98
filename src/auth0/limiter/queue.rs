//! The requests that wait for a tenant's budget, and their order.
//!
//! More urgent requests go first. Among equally urgent ones the policies alternate, so that a rush on one application does
//! not hold up the others. Within a policy the latest request goes first: when more wait than can be sent, a request that
//! has waited long has too little time left for its answer, and would spend the budget for nothing.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::auth0::call::Priority;
use crate::policy::ObjectName;

/// The waiting requests. `T` is what takes the permit of one.
pub(super) struct WaitQueue<T> {
    /// By priority. The policy that is next is in front.
    lanes: [VecDeque<Lane<T>>; Priority::COUNT],
    length: usize,
}

/// The waiting requests of one policy and priority.
struct Lane<T> {
    policy: Option<ObjectName>,
    /// Deadline and waiter, oldest first.
    waiting: VecDeque<(Instant, T)>,
}

impl<T> WaitQueue<T> {
    pub fn new() -> Self {
        Self { lanes: Default::default(), length: 0 }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// How many requests of this priority wait.
    pub fn waiting(&self, priority: Priority) -> usize {
        self.lanes[priority as usize].iter().map(|lane| lane.waiting.len()).sum()
    }

    pub fn push(&mut self, priority: Priority, policy: Option<&ObjectName>, deadline: Instant, waiter: T) {
        let lanes = &mut self.lanes[priority as usize];
        match lanes.iter_mut().find(|lane| lane.policy.as_ref() == policy) {
            Some(lane) => lane.waiting.push_back((deadline, waiter)),
            None => lanes.push_back(Lane { policy: policy.cloned(), waiting: VecDeque::from([(deadline, waiter)]) }),
        }
        self.length += 1;
    }

    /// The priority of the most urgent request.
    pub fn priority(&self) -> Option<Priority> {
        use Priority::{Login, NextPage, Revocation, Silent};
        [Revocation, NextPage, Login, Silent].into_iter().find(|priority| !self.lanes[*priority as usize].is_empty())
    }

    /// Takes out the request that goes next.
    pub fn pop(&mut self) -> Option<T> {
        let lanes = &mut self.lanes[self.priority()? as usize];
        let mut lane = lanes.pop_front()?;
        let (_, waiter) = lane.waiting.pop_back()?;
        if !lane.waiting.is_empty() {
            lanes.push_back(lane);
        }
        self.length -= 1;
        Some(waiter)
    }

    /// Takes out the request that matters least: of the lowest priority, of the policy with most waiting requests, the
    /// oldest.
    pub fn pop_least_urgent(&mut self) -> Option<T> {
        let lanes = self.lanes.iter_mut().rev().find(|lanes| !lanes.is_empty())?;
        let longest = (0..lanes.len()).max_by_key(|position| lanes[*position].waiting.len())?;
        let (_, waiter) = lanes[longest].waiting.pop_front()?;
        if lanes[longest].waiting.is_empty() {
            lanes.remove(longest);
        }
        self.length -= 1;
        Some(waiter)
    }

    /// Takes out all requests with a deadline up to `until`, and all that were given up.
    pub fn take_out(&mut self, until: Instant, is_given_up: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for lanes in &mut self.lanes {
            for lane in lanes.iter_mut() {
                let (leaving, staying): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut lane.waiting)
                    .into_iter()
                    .partition(|(deadline, waiter)| *deadline <= until || is_given_up(waiter));
                lane.waiting = staying;
                out.extend(leaving.into_iter().map(|(_, waiter)| waiter));
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

    fn queue(waiting: &[(Priority, &str, &'static str)]) -> WaitQueue<&'static str> {
        let mut queue = WaitQueue::new();
        for (priority, policy, name) in waiting {
            queue.push(*priority, Some(&ObjectName::new("default", *policy)), Instant::now(), *name);
        }
        queue
    }

    fn order(mut queue: WaitQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[tokio::test]
    async fn more_urgent_requests_go_first() {
        use Priority::{Login, NextPage, Revocation, Silent};
        let queue =
            queue(&[(Silent, "a", "silent"), (Login, "a", "login"), (Revocation, "a", "end"), (NextPage, "a", "on")]);
        assert_eq!(queue.priority(), Some(Revocation));
        assert_eq!(order(queue), ["end", "on", "login", "silent"]);
    }

    #[tokio::test]
    async fn policies_alternate_and_in_each_the_latest_goes_first() {
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
    async fn late_or_given_up_requests_are_taken_out() {
        let now = Instant::now();
        let mut queue = WaitQueue::new();
        for (seconds, name) in [(1, "soon"), (3, "late"), (5, "left")] {
            queue.push(Priority::Login, None, now + Duration::from_secs(seconds), name);
        }
        let mut out = queue.take_out(now + Duration::from_secs(1), |name| *name == "left");
        out.sort_unstable();
        assert_eq!((out, queue.len()), (vec!["left", "soon"], 1));
        assert_eq!(order(queue), ["late"]);
    }
}
