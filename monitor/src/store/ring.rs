//! The newest findings, by age and by id.

use crate::finding::Finding;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub struct Ring {
    items: VecDeque<Arc<Finding>>,
    /// Id to position, counted from the first finding ever.
    positions: HashMap<u64, u64>,
    /// Position of `items[0]`.
    first: u64,
    capacity: usize,
}

impl Ring {
    pub fn new(capacity: usize) -> Ring {
        Ring { items: VecDeque::new(), positions: HashMap::new(), first: 0, capacity }
    }

    /// Takes a finding. Gives back the one with the same id, whose place it takes.
    pub fn put(&mut self, finding: Arc<Finding>) -> Option<Arc<Finding>> {
        if let Some(index) = self.index(finding.id) {
            return Some(std::mem::replace(&mut self.items[index], finding));
        }
        if self.items.len() == self.capacity
            && let Some(oldest) = self.items.pop_front()
        {
            self.positions.remove(&oldest.id);
            self.first += 1;
        }
        self.positions.insert(finding.id, self.first + self.items.len() as u64);
        self.items.push_back(finding);
        None
    }

    pub fn by_id(&self, id: u64) -> Option<Arc<Finding>> {
        self.index(id).map(|i| self.items[i].clone())
    }

    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<Finding>> {
        self.items.iter().rev()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn index(&self, id: u64) -> Option<usize> {
        self.positions.get(&id).map(|position| (position - self.first) as usize)
    }
}
