//! Borders of windows: explicit numbers of elements, `SAME` and `VALID`.

use super::schema::WindowPadding;
use crate::model::Padding;

/// Elements before and after one spatial axis.
pub(super) type Border = [usize; 2];

/// A window along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct AxisWindow {
    /// Length of the input.
    pub input: usize,
    /// Elements of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Distance of the window's elements.
    pub dilation: usize,
}

impl AxisWindow {
    /// The border that `SAME` means.
    ///
    /// ```text
    /// out = ceil(in / stride),  total = max((out − 1)·stride + (kernel − 1)·dilation + 1 − in, 0)
    /// before = floor(total / 2),  after = total − before
    /// ```
    /// (`ComputePaddingHeightWidth` in `tensorflow/lite/kernels/padding.h`; the same as `SAME_UPPER`.)
    pub(super) fn same(self) -> Border {
        let stride = self.stride.max(1);
        let out = self.input.div_ceil(stride);
        let reach = self.kernel.saturating_sub(1) * self.dilation + 1;
        let total = (out.saturating_sub(1) * stride + reach).saturating_sub(self.input);
        [total / 2, total - total / 2]
    }
}

/// The borders of both axes, as numbers.
pub(super) fn borders(padding: &Padding, windows: [AxisWindow; 2]) -> [Border; 2] {
    match padding {
        Padding::Explicit(pads) => {
            let pad = |index: usize| pads.get(index).copied().unwrap_or(0);
            [[pad(0), pad(2)], [pad(1), pad(3)]]
        }
        Padding::SameUpper => windows.map(AxisWindow::same),
        Padding::SameLower => windows.map(|window| {
            let [before, after] = window.same();
            [after, before]
        }),
    }
}

/// How borders are said in a file; `None` if only by a `PAD` before the operator.
pub(super) fn implicit(borders: [Border; 2], windows: [AxisWindow; 2]) -> Option<WindowPadding> {
    if borders == [[0, 0]; 2] {
        return Some(WindowPadding::Valid);
    }
    (borders == windows.map(AxisWindow::same)).then_some(WindowPadding::Same)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(input: usize, kernel: usize, stride: usize) -> AxisWindow {
        AxisWindow {
            input,
            kernel,
            stride,
            dilation: 1,
        }
    }

    #[test]
    fn borders_are_told_from_each_other() {
        let explicit = |pads: [usize; 4]| Padding::Explicit(pads.to_vec());
        struct Case {
            padding: Padding,
            window: AxisWindow,
            border: Border,
            implicit: Option<WindowPadding>,
        }
        for case in [
            // A step of 1 with an odd window has equal sides, as PyTorch writes them.
            Case {
                padding: explicit([1, 1, 1, 1]),
                window: window(32, 3, 1),
                border: [1, 1],
                implicit: Some(WindowPadding::Same),
            },
            // A step of 2 over an even length has its odd element at the end, PyTorch's does not.
            Case {
                padding: explicit([1, 1, 1, 1]),
                window: window(32, 3, 2),
                border: [1, 1],
                implicit: None,
            },
            Case {
                padding: Padding::SameUpper,
                window: window(32, 3, 2),
                border: [0, 1],
                implicit: Some(WindowPadding::Same),
            },
            Case {
                padding: Padding::SameLower,
                window: window(32, 3, 2),
                border: [1, 0],
                implicit: None,
            },
            Case {
                padding: explicit([1, 1, 1, 1]),
                window: window(33, 3, 2),
                border: [1, 1],
                implicit: Some(WindowPadding::Same),
            },
            Case {
                padding: Padding::Explicit(Vec::new()),
                window: window(8, 8, 8),
                border: [0, 0],
                implicit: Some(WindowPadding::Valid),
            },
        ] {
            let windows = [case.window; 2];
            let found = borders(&case.padding, windows);
            assert_eq!(found, [case.border; 2], "{:?}", case.padding);
            assert_eq!(implicit(found, windows), case.implicit, "{:?}", case.window);
        }
    }

    #[test]
    fn rows_and_columns_keep_their_own_border() {
        let padding = Padding::Explicit(vec![1, 2, 3, 4]);
        let found = borders(&padding, [window(9, 3, 1); 2]);
        assert_eq!(found, [[1, 3], [2, 4]], "top and bottom, left and right");
    }

    proptest! {
        /// `SAME` gives `ceil(in / stride)` windows, and the fewest elements that do.
        #[test]
        fn same_gives_the_length_that_it_promises(
            input in 1usize..70, kernel in 1usize..9, stride in 1usize..5, dilation in 1usize..4,
        ) {
            let window = AxisWindow { input, kernel, stride, dilation };
            let [before, after] = window.same();
            let reach = (kernel - 1) * dilation + 1;
            let padded = input + before + after;
            prop_assert!(padded >= reach);
            prop_assert!((padded - reach) / stride + 1 >= input.div_ceil(stride));
            if before + after > 0 {
                prop_assert_eq!((padded - reach) / stride + 1, input.div_ceil(stride));
                prop_assert!(after == before || after == before + 1);
            }
        }
    }
}
