//! The statements that were sent to one follower: by when it has closed itself, if it gets no other.

/// So many heads are remembered.
const HEADS: usize = 4;

/// The last statements sent to a follower: for each head that they named, the latest `at` (milliseconds since 1970).
/// Both grow together, since a later read of the store never returns an earlier head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statements {
    /// Sorted by head.
    sent: Vec<(u64, u64)>,
    forgotten: bool,
}

impl Statements {
    /// Notes a statement that names `head`, by a read at `at`.
    pub fn note(&mut self, head: u64, at: u64) {
        let index = self.sent.partition_point(|(known, _)| *known < head);
        match self.sent.get_mut(index) {
            Some((known, latest)) if *known == head => *latest = at.max(*latest),
            _ => self.sent.insert(index, (head, at)),
        }
        if self.sent.len() > HEADS {
            self.sent.remove(0);
            self.forgotten = true;
        }
    }

    /// `at` of the last statement.
    pub fn last(&self) -> Option<u64> {
        self.sent.last().map(|(_, at)| *at)
    }

    /// The latest `at` of a statement whose head is before `number`. Where that one is forgotten, the `at` of a later
    /// one: never too early. `None`: there was no such statement.
    pub fn before(&self, number: u64) -> Option<u64> {
        let earlier = self.sent.iter().rfind(|(head, _)| *head < number);
        let forgotten = || self.sent.first().filter(|_| self.forgotten);
        earlier.or_else(forgotten).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_statement_before_a_revision_is_known_or_bounded_from_above() {
        let mut statements = Statements::default();
        assert_eq!((statements.before(5), statements.last()), (None, None));
        [(1, 10), (1, 20), (3, 30), (1, 15), (6, 60)].into_iter().for_each(|(head, at)| statements.note(head, at));
        let before: Vec<_> = [1, 2, 3, 4, 6, 7].into_iter().map(|number| statements.before(number)).collect();
        assert_eq!(before, [None, Some(20), Some(20), Some(30), Some(30), Some(60)]);
        (7..20).for_each(|head| statements.note(head, head * 10));
        assert_eq!(statements.before(4), Some(160), "forgotten: the first that is known is later");
        assert_eq!(statements.sent.len(), HEADS);
    }
}
