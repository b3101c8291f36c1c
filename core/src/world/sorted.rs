//! A map in one block of memory, sorted by key: for the many maps of a world that hold a few entries each, whose keys
//! mostly come in order. A tree takes a node of eleven places for a single entry.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sorted<K, V>(Vec<(K, V)>);

/// Bytes of memory for how many more entries a full map asks at least.
const ROOM: usize = 64;

impl<K: Ord, V> Sorted<K, V> {
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        // What comes next belongs to the newest entry, or behind it.
        match self.0.last() {
            None => Err(0),
            Some((newest, _)) => match newest.borrow().cmp(key) {
                std::cmp::Ordering::Less => Err(self.0.len()),
                std::cmp::Ordering::Equal => Ok(self.0.len() - 1),
                std::cmp::Ordering::Greater => self.0.binary_search_by(|(known, _)| known.borrow().cmp(key)),
            },
        }
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|at| (&self.0[at].0, &self.0[at].1))
    }

    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|at| &mut self.0[at].1)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    // A map that has doubled is half empty, and stays so when its task idles.
                    let few = (ROOM / size_of::<(K, V)>()).max(1);
                    self.0.reserve_exact(few.max(self.0.len() / 4));
                }
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|at| self.0.remove(at).1)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// In order of the keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Serialize + Ord, V: Serialize> Serialize for Sorted<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Sorted<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);

        impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
            type Value = Sorted<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut sorted = Sorted::default();
                while let Some((key, value)) = map.next_entry()? {
                    sorted.insert(key, value);
                }
                Ok(sorted)
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_in_order_whatever_the_order_they_came_in() {
        let mut map = Sorted::default();
        for (key, value) in [("b", 1), ("d", 2), ("a", 3), ("c", 4), ("b", 5)] {
            map.insert(key.to_owned(), value);
        }
        let all: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        assert_eq!(all, [("a", 3), ("b", 5), ("c", 4), ("d", 2)]);
        assert_eq!((map.get("c"), map.get("e"), map.get("0")), (Some(&4), None, None));
        assert_eq!((map.remove("b"), map.remove("b"), map.len()), (Some(5), None, 3));
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"a":3,"c":4,"d":2}"#);
        assert_eq!(serde_json::from_str::<Sorted<String, i32>>(&text).unwrap(), map);
    }
}
