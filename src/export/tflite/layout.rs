//! Order of axes: channels first in ONNX, channels last in `TFLite`.

/// How the axes of a tensor lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layout {
    /// As in the graph.
    AsInGraph,
    /// An image `[batch, channels, height, width]` as `[batch, height, width, channels]`.
    ChannelsLast,
}

/// Axes of the graph in the order of a file with channels last.
pub(super) const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];
/// Axes of a file with channels last in the order of the graph.
pub(super) const CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];

impl Layout {
    /// The lengths as they lie in the file.
    pub(super) fn lengths(self, shape: &[usize]) -> Vec<usize> {
        match self {
            Self::AsInGraph => shape.to_vec(),
            Self::ChannelsLast => permuted_shape(shape, &CHANNELS_LAST),
        }
    }

    /// Where an axis of the graph lies in the file.
    pub(super) fn axis(self, axis: usize) -> usize {
        match self {
            Self::AsInGraph => axis,
            Self::ChannelsLast => CHANNELS_FIRST.get(axis).copied().unwrap_or(axis),
        }
    }
}

/// Lengths in the order of `axes`.
pub(super) fn permuted_shape(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    axes.iter()
        .map(|axis| shape.get(*axis).copied().unwrap_or(1))
        .collect()
}

/// Elements in the order of `axes`: axis `i` of the result is axis `axes[i]` of `shape`.
///
/// `values` has as many elements as `shape`.
pub(super) fn permuted<T: Copy>(values: &[T], shape: &[usize], axes: &[usize]) -> Vec<T> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let lengths = permuted_shape(shape, axes);
    let steps: Vec<usize> = axes
        .iter()
        .map(|axis| strides.get(*axis).copied().unwrap_or(0))
        .collect();
    let mut index = vec![0usize; lengths.len()];
    let mut from = 0usize;
    let mut result = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        result.extend(values.get(from));
        for axis in (0..lengths.len()).rev() {
            index[axis] += 1;
            from += steps[axis];
            if index[axis] < lengths[axis] {
                break;
            }
            from -= steps[axis] * lengths[axis];
            index[axis] = 0;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_follow_their_axes() {
        // [batch 1, channels 2, height 2, width 3]; the number says channel, row, column.
        let values = [
            0, 1, 2, 10, 11, 12, //
            100, 101, 102, 110, 111, 112,
        ];
        let last = permuted(&values, &[1, 2, 2, 3], &CHANNELS_LAST);
        assert_eq!(last, [0, 100, 1, 101, 2, 102, 10, 110, 11, 111, 12, 112]);
        assert_eq!(Layout::ChannelsLast.lengths(&[1, 2, 2, 3]), [1, 2, 3, 2]);
        assert_eq!(
            permuted(&[1, 2, 3, 4, 5, 6], &[2, 3], &[1, 0]),
            [1, 4, 2, 5, 3, 6]
        );
    }

    #[test]
    fn axes_are_found_where_they_lie() {
        let places = [0, 1, 2, 3].map(|axis| Layout::ChannelsLast.axis(axis));
        assert_eq!(places, [0, 3, 1, 2], "batch, channels, height, width");
        for (axis, place) in (0..).zip(places) {
            assert_eq!(CHANNELS_LAST[place], axis);
        }
    }

    proptest! {
        #[test]
        fn there_and_back_is_nothing(shape in prop::collection::vec(1usize..5, 4)) {
            let count: usize = shape.iter().product();
            let values: Vec<usize> = (0..count).collect();
            let last = permuted(&values, &shape, &CHANNELS_LAST);
            let back = permuted(&last, &Layout::ChannelsLast.lengths(&shape), &CHANNELS_FIRST);
            prop_assert_eq!(back, values);
        }

        /// Every element is where its coordinates say.
        #[test]
        fn any_permutation_moves_by_coordinates(
            shape in prop::collection::vec(1usize..4, 4),
            axes in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        ) {
            let count: usize = shape.iter().product();
            let values: Vec<usize> = (0..count).collect();
            let moved = permuted(&values, &shape, &axes);
            let lengths = permuted_shape(&shape, &axes);
            let coordinates = |mut at: usize, lengths: &[usize]| {
                let mut found = vec![0; lengths.len()];
                for axis in (0..lengths.len()).rev() {
                    found[axis] = at % lengths[axis];
                    at /= lengths[axis];
                }
                found
            };
            for (at, value) in moved.iter().enumerate() {
                let here = coordinates(at, &lengths);
                let there = coordinates(*value, &shape);
                for (place, axis) in axes.iter().enumerate() {
                    prop_assert_eq!(here[place], there[*axis]);
                }
            }
        }
    }
}
