//! Codes by a factor and an offset in `f32`, as kernels of `OpenVINO` come to them.
//!
//! The quantizer of a file becomes a range of numbers, and the range a factor, each step rounded:
//!
//! ```text
//! low = −z · s,  high = (n − z) · s,  factor = n / (high − low),  offset = (−low · n) / (high − low)
//! ```
//! with `n` steps from the lowest code to the highest. The factor may differ from `1 / s`, and the offset
//! from `z`, in their last bits, so that codes next to the middle between two fall to the other side.
//! Found by comparing single operators of `OpenVINO` 2026.4 on x86-64 with AVX-512, code by code.

use crate::quant::Grid;

/// Which operations a kernel does to get a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorForm {
    /// Behind an integer convolution: one multiply-add, or `x · (1 / (1 / factor))` where `z` is 0.
    AfterConvolution,
    /// One multiply-add.
    Fused,
    /// `x · factor − low · factor`, every operation rounded.
    Apart,
}

/// The form of a run of channels (axis 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelForm {
    /// How many channels, or all that are left.
    pub channels: usize,
    /// Their form.
    pub form: FactorForm,
}

/// Numbers of a grid that all forms share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    steps: f32,
    low: f32,
    factor: f32,
    offset: f32,
    is_zero_lowest: bool,
}

impl Factors {
    pub(super) fn of(grid: &Grid) -> Self {
        let zero_point = (grid.zero_point() - grid.q_min()) as f32;
        let steps = (grid.q_max() - grid.q_min()) as f32;
        let (low, high) = (
            -zero_point * grid.scale(),
            (steps - zero_point) * grid.scale(),
        );
        Self {
            steps,
            low,
            factor: steps / (high - low),
            offset: (-low * steps) / (high - low),
            is_zero_lowest: zero_point == 0.0,
        }
    }

    /// The code of a number, counted from the lowest.
    pub(super) fn code(&self, form: FactorForm, x: f32) -> f32 {
        let exact = match form {
            FactorForm::AfterConvolution if self.is_zero_lowest => x * (1.0 / (1.0 / self.factor)),
            FactorForm::Apart if !self.is_zero_lowest => {
                let x = x.max(self.low);
                x * self.factor - self.low * self.factor
            }
            _ if self.is_zero_lowest => x * self.factor,
            _ => x.mul_add(self.factor, self.offset),
        };
        exact.round_ties_even().clamp(0.0, self.steps)
    }
}

/// The form of a channel.
pub(super) fn form_of(forms: &[ChannelForm], channel: usize) -> FactorForm {
    let mut first = 0usize;
    for run in forms {
        first = first.saturating_add(run.channels);
        if channel < first {
            return run.form;
        }
    }
    FactorForm::Fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_agree_but_next_to_the_middle_between_two_codes() {
        let all = [
            FactorForm::AfterConvolution,
            FactorForm::Fused,
            FactorForm::Apart,
        ];
        for zero_point in [0, 57, 200] {
            let scale = 0.037_f32;
            let grid = Grid::new(scale, zero_point, 0, 255).unwrap();
            let factors = Factors::of(&grid);
            for step in -600..600 {
                let x = step as f32 * 0.41 * scale;
                let exact = f64::from(x) / f64::from(scale) + f64::from(zero_point);
                let from_middle = (exact - exact.floor() - 0.5).abs();
                let expected = exact.round().clamp(0.0, 255.0) as f32;
                for form in all {
                    let code = factors.code(form, x);
                    assert!(
                        code == expected || from_middle < 1e-4,
                        "{form:?} {x} {code}"
                    );
                }
            }
        }
    }

    #[test]
    fn channels_take_the_form_of_their_run() {
        let run = |channels, form| ChannelForm { channels, form };
        let forms = [
            run(3, FactorForm::AfterConvolution),
            run(usize::MAX, FactorForm::Apart),
        ];
        assert_eq!(form_of(&forms, 2), FactorForm::AfterConvolution);
        assert_eq!(form_of(&forms, 3), FactorForm::Apart);
        assert_eq!(form_of(&forms, 900), FactorForm::Apart);
        assert_eq!(form_of(&[], 0), FactorForm::Fused);
    }
}
