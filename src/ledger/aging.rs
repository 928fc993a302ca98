//! A map that knows in which order its values were last written, so that the oldest can make room.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map whose entries age from the moment they are put in.
pub(crate) struct Aging<K, V> {
    values: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Clone + Eq + Hash, V> Aging<K, V> {
    pub(crate) fn new() -> Self {
        Self { values: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.values.get(key).map(|(_, value)| value)
    }

    /// A value to be changed in place, which does not make it younger.
    pub(crate) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.values.get_mut(key).map(|(_, value)| value)
    }

    /// Puts a value in as the youngest; what stood in its place is returned.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let age = self.next;
        self.next += 1;
        self.order.insert(age, key.clone());
        let (age, before) = self.values.insert(key, (age, value))?;
        self.order.remove(&age);
        Some(before)
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (age, value) = self.values.remove(key)?;
        self.order.remove(&age);
        Some(value)
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<V> {
        let (_, key) = self.order.pop_first()?;
        self.values.remove(&key).map(|(_, value)| value)
    }

    /// Keeps what `keep` says, which may also change a value in place.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        let order = &mut self.order;
        self.values.retain(|_, (age, value)| {
            let stays = keep(value);
            if !stays {
                order.remove(age);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_one_written_longest_ago() {
        let mut map = Aging::new();
        for key in ["a", "b", "c"] {
            assert_eq!(map.insert(key, key), None);
        }
        assert_eq!(map.insert("a", "again"), Some("a"));
        assert_eq!(map.remove("b"), Some("b"));
        assert_eq!(map.pop_oldest(), Some("c"));
        assert_eq!(map.pop_oldest(), Some("again"));
        assert_eq!(map.pop_oldest(), None);
    }

    #[test]
    fn what_is_not_retained_leaves_nothing_behind() {
        let mut map: Aging<u8, u8> = Aging::new();
        for key in 0..10 {
            map.insert(key, key);
        }
        map.retain(|value| *value % 2 == 1);
        assert_eq!((map.len(), map.order.len()), (5, 5));
        assert_eq!(map.pop_oldest(), Some(1));
    }
}
