//! Where the channels of a weight lie in memory.

use std::borrow::Cow;

use super::QuantError;

/// A weight seen as `[outer, channels, inner]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChannelLayout {
    outer: usize,
    channels: usize,
    inner: usize,
}

impl ChannelLayout {
    /// Splits a shape at its channel axis.
    ///
    /// # Errors
    /// [`QuantError::WeightShape`] where shape, axis and number of elements do not fit.
    pub(super) fn new(
        elements: usize,
        shape: &[usize],
        channel_axis: usize,
    ) -> Result<Self, QuantError> {
        let product = |axes: &[usize]| {
            axes.iter()
                .try_fold(1usize, |size, axis| size.checked_mul(*axis))
        };
        let fits = product(shape).is_some_and(|size| size == elements);
        let split = shape
            .get(channel_axis)
            .filter(|_| fits)
            .and_then(|channels| {
                let outer = product(shape.get(..channel_axis)?)?;
                let inner = product(shape.get(channel_axis + 1..)?)?;
                Some(Self {
                    outer,
                    channels: *channels,
                    inner,
                })
            });
        split.ok_or_else(|| QuantError::WeightShape {
            shape: shape.to_vec(),
            elements,
            channel_axis,
        })
    }

    /// Weights in one channel.
    pub(super) fn channel_len(&self) -> usize {
        self.outer * self.inner
    }

    /// Output channels.
    pub(super) fn channel_count(&self) -> usize {
        self.channels
    }

    /// The channels of values in channel order; none when there are no values.
    pub(super) fn channels<'a>(&self, by_channel: &'a [f32]) -> std::slice::Chunks<'a, f32> {
        by_channel.chunks(self.channel_len().max(1))
    }

    /// Brings weights into channel order, without a copy where they are in it.
    pub(super) fn gather<'a>(&self, weights: &'a [f32]) -> Cow<'a, [f32]> {
        if self.is_channel_order() {
            return Cow::Borrowed(weights);
        }
        let mut by_channel = vec![0.0; weights.len()];
        self.transpose(weights, &mut by_channel, self.outer, self.channels);
        Cow::Owned(by_channel)
    }

    /// Brings values from channel order back into the order of the weight.
    pub(super) fn scatter(&self, by_channel: Vec<f32>) -> Vec<f32> {
        if self.is_channel_order() {
            return by_channel;
        }
        let mut weights = vec![0.0; by_channel.len()];
        self.transpose(&by_channel, &mut weights, self.channels, self.outer);
        weights
    }

    /// The channel of a weight and its position in the channel.
    pub(super) fn position(&self, index: usize) -> (usize, usize) {
        let (block, inner) = (index / self.inner.max(1), index % self.inner.max(1));
        let (outer, channel) = (block / self.channels.max(1), block % self.channels.max(1));
        (channel, outer * self.inner + inner)
    }

    fn is_channel_order(&self) -> bool {
        self.outer <= 1 || self.channels <= 1
    }

    /// Turns `[rows, columns, inner]` into `[columns, rows, inner]`.
    fn transpose(&self, src: &[f32], dst: &mut [f32], rows: usize, columns: usize) {
        // Tiles keep the cache lines of both sides in the first-level cache.
        const TILE: usize = 32;
        let inner = self.inner;
        for row_tile in (0..rows).step_by(TILE) {
            for column_tile in (0..columns).step_by(TILE) {
                for column in column_tile..columns.min(column_tile + TILE) {
                    for row in row_tile..rows.min(row_tile + TILE) {
                        let from = (row * columns + column) * inner;
                        let to = (column * rows + row) * inner;
                        dst[to..to + inner].copy_from_slice(&src[from..from + inner]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_and_scattering_undo_each_other() {
        for shape in [
            vec![5],
            vec![4, 6],
            vec![3, 4, 5],
            vec![2, 70, 3, 3],
            vec![40, 33],
            vec![1, 1, 4],
            vec![0, 3],
            vec![3, 0],
        ] {
            let elements = shape.iter().product::<usize>();
            let weights = (0..elements).map(|i| i as f32).collect::<Vec<_>>();
            for axis in 0..shape.len() {
                let layout = ChannelLayout::new(elements, &shape, axis).unwrap();
                let by_channel = layout.gather(&weights).into_owned();
                for (channel, values) in layout.channels(&by_channel).enumerate() {
                    for (place, value) in values.iter().enumerate() {
                        assert_eq!(
                            layout.position(*value as usize),
                            (channel, place),
                            "{shape:?} axis {axis}"
                        );
                    }
                }
                assert_eq!(layout.scatter(by_channel), weights, "{shape:?} axis {axis}");
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        for (elements, shape, axis) in [
            (6, vec![2, 3], 2),
            (6, vec![2, 4], 0),
            (1, vec![], 0),
            (0, vec![usize::MAX, 2], 0),
        ] {
            assert!(
                ChannelLayout::new(elements, &shape, axis).is_err(),
                "{elements} {shape:?} {axis}"
            );
        }
    }
}
