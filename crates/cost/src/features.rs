//! The features of one operation, kept inline so that a million passes allocate nothing.

use std::ops::Deref;

use crate::Feature;

/// Most features of an operation; attention over many rows has six.
const MOST: usize = 8;

/// What the time of one operation is linear in: features with their values, in a fixed order.
///
/// Reads as a slice of `(Feature, f64)`.
#[derive(Clone, Copy)]
pub struct Features {
    len: usize,
    items: [(Feature, f64); MOST],
}

impl<const N: usize> From<[(Feature, f64); N]> for Features {
    #[inline]
    fn from(list: [(Feature, f64); N]) -> Self {
        const { assert!(N <= MOST, "more features than there is room for") };
        let mut items = [(Feature::Calls, 0.0); MOST];
        items[..N].copy_from_slice(&list);
        Self { len: N, items }
    }
}

impl Features {
    /// The same with one feature times a factor.
    pub fn scaled(&self, feature: Feature, factor: f64) -> Self {
        let mut scaled = *self;
        for (found, value) in &mut scaled.items[..self.len] {
            if *found == feature {
                *value *= factor;
            }
        }
        scaled
    }
}

impl Features {
    /// The same with another feature in the place of one.
    pub(crate) fn replaced(&self, feature: Feature, by: (Feature, f64)) -> Self {
        let mut replaced = *self;
        for item in replaced.items[..self.len].iter_mut().filter(|item| item.0 == feature) {
            *item = by;
        }
        replaced
    }
}

impl Deref for Features {
    type Target = [(Feature, f64)];

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.items[..self.len]
    }
}

impl<'a> IntoIterator for &'a Features {
    type Item = &'a (Feature, f64);
    type IntoIter = std::slice::Iter<'a, (Feature, f64)>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Features {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self[..].fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_the_list_that_it_was_made_of() {
        let features = Features::from([(Feature::Calls, 2.0), (Feature::Flop, 8.0)]);
        assert_eq!(features[..], [(Feature::Calls, 2.0), (Feature::Flop, 8.0)]);
        assert_eq!((&features).into_iter().count(), 2);
        assert_ne!(features, Features::from([(Feature::Calls, 2.0)]));
        assert_eq!(format!("{features:?}"), "[(Calls, 2.0), (Flop, 8.0)]");
    }
}
