//! Sets of small numbers: which pending operations a configuration has yet to do.

/// A set of small numbers. Equal sets are equal values: no trailing zero word is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn contains(&self, number: usize) -> bool {
        self.0
            .get(number / 64)
            .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }

    pub(super) fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub(super) fn is_subset_of(&self, other: &Self) -> bool {
        self.0.iter().enumerate().all(|(at, word)| {
            let others = other.0.get(at).copied().unwrap_or(0);
            word & !others == 0
        })
    }

    /// The numbers, rising.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_its_numbers_and_no_trailing_words() {
        let mut bits = Bits::default();
        for number in [3, 64, 200, 3] {
            bits.insert(number);
        }
        assert_eq!(bits.iter().collect::<Vec<_>>(), [3, 64, 200]);
        let mut small = Bits::default();
        small.insert(3);
        assert!(small.is_subset_of(&bits) && !bits.is_subset_of(&small));
        bits.remove(200);
        bits.remove(64);
        assert_eq!(bits, small);
        assert!(!bits.contains(200) && bits.contains(3));
    }
}
