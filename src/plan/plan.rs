//! The plan itself: one choice per layer, in the order of the network.

use super::error::PlanError;
use super::fingerprint::Fingerprint;
use super::pattern::Assignment;
use super::rounding::{Corrections, Rounding};
use super::widths::Widths;
use crate::model::{Layer, LayerId};
use crate::quant::{Calibrator, Granularity, NumberFormat, QuantSpec, Scheme};

/// What is chosen for one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerPlan {
    /// How the weight is quantized.
    pub weight: QuantSpec,
    /// How the layer's input activation is quantized.
    pub activation: QuantSpec,
    /// How the levels of the weight are chosen.
    pub rounding: Rounding,
    /// What else is corrected on calibration data.
    pub corrections: Corrections,
    /// Presets and searches leave a locked layer as it is.
    pub locked: bool,
}

impl LayerPlan {
    /// Default schemes at the given widths: symmetric per-channel weights, asymmetric per-tensor activations.
    pub fn with_widths(widths: Widths) -> Self {
        Self {
            weight: QuantSpec::weight(widths.weight),
            activation: QuantSpec::activation(widths.activation),
            rounding: Rounding::Nearest,
            corrections: Corrections::NONE,
            locked: false,
        }
    }

    /// Whether the weight depends on calibration data.
    pub fn rounds_on_data(&self) -> bool {
        let corrects = self.corrections.bias || self.corrections.refit;
        self.weight.format != NumberFormat::F32 && (self.rounding != Rounding::Nearest || corrects)
    }

    /// Chooses how levels are found, and with it how ranges are: all but `nearest` and `auto` search
    /// them for the error of the output (`mse`), where nothing but the full range (`minmax`) was chosen before.
    pub fn choose_rounding(&mut self, rounding: Rounding) {
        let calibrator = &mut self.weight.calibrator;
        let searched = (self.rounding.searches_ranges(), rounding.searches_ranges());
        match searched {
            (false, true) if *calibrator == Calibrator::MinMax => *calibrator = Calibrator::Mse,
            (true, false) if *calibrator == Calibrator::Mse => *calibrator = Calibrator::MinMax,
            _ => {}
        }
        self.rounding = rounding;
    }

    /// The same choice with nothing taken from calibration data but ranges.
    #[must_use]
    pub fn nearest(&self) -> Self {
        let mut nearest = self.clone();
        nearest.choose_rounding(Rounding::Nearest);
        nearest.corrections = Corrections::NONE;
        nearest
    }

    /// The two widths.
    pub fn widths(&self) -> Widths {
        Widths {
            weight: self.weight.format,
            activation: self.activation.format,
        }
    }

    /// Whether neither weight nor activation is quantized.
    pub fn is_float(&self) -> bool {
        self.widths() == Widths::FLOAT
    }
}

/// Every layer's choice, indexed by [`LayerId`].
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    layers: Vec<LayerPlan>,
}

impl Plan {
    /// The same widths and default schemes for every layer.
    pub fn uniform(layer_count: usize, widths: Widths) -> Self {
        Self {
            layers: vec![LayerPlan::with_widths(widths); layer_count],
        }
    }

    /// A plan from one choice per layer, in layer order.
    pub fn from_layers(layers: Vec<LayerPlan>) -> Self {
        Self { layers }
    }

    /// The choices in layer order.
    pub fn layers(&self) -> &[LayerPlan] {
        &self.layers
    }

    /// The choice for one layer; `None` if the plan has fewer layers.
    pub fn layer(&self, id: LayerId) -> Option<&LayerPlan> {
        self.layers.get(id.index())
    }

    /// The choice for one layer, to change it.
    pub fn layer_mut(&mut self, id: LayerId) -> Option<&mut LayerPlan> {
        self.layers.get_mut(id.index())
    }

    /// Sets the weight format of the given layers, locked ones included.
    pub fn set_weight_format(&mut self, ids: &[LayerId], format: NumberFormat) {
        self.edit(ids, |layer| layer.weight.format = format);
    }

    /// Sets the activation format of the given layers, locked ones included.
    pub fn set_activation_format(&mut self, ids: &[LayerId], format: NumberFormat) {
        self.edit(ids, |layer| layer.activation.format = format);
    }

    /// Applies a change to the given layers; unknown ids are passed over.
    pub fn edit(&mut self, ids: &[LayerId], mut change: impl FnMut(&mut LayerPlan)) {
        for id in ids {
            if let Some(layer) = self.layers.get_mut(id.index()) {
                change(layer);
            }
        }
    }

    /// Applies assignments in order, so that a later one wins.
    ///
    /// # Errors
    /// [`PlanError::NoMatch`] if a glob selects no layer.
    pub fn assign(
        &mut self,
        layers: &[Layer],
        assignments: &[Assignment],
    ) -> Result<(), PlanError> {
        for assignment in assignments {
            let mut matched = false;
            for (layer, choice) in layers.iter().zip(&mut self.layers) {
                if assignment.matches(&layer.name) {
                    choice.weight.format = assignment.widths.weight;
                    choice.activation.format = assignment.widths.activation;
                    matched = true;
                }
            }
            if !matched {
                return Err(PlanError::NoMatch {
                    glob: assignment.glob().to_owned(),
                    example: layers.first().map(|l| l.name.clone()).unwrap_or_default(),
                });
            }
        }
        Ok(())
    }

    /// The same schemes and locks with these widths, in layer order.
    pub fn with_widths(&self, widths: &[Widths]) -> Self {
        let mut changed = self.clone();
        for (layer, widths) in changed.layers.iter_mut().zip(widths) {
            layer.weight.format = widths.weight;
            layer.activation.format = widths.activation;
        }
        changed
    }

    /// The widths of every layer, in layer order.
    pub fn widths(&self) -> Vec<Widths> {
        self.layers.iter().map(LayerPlan::widths).collect()
    }

    /// Sets the scheme of every weight.
    pub fn set_weight_scheme(&mut self, scheme: Scheme) {
        for layer in &mut self.layers {
            layer.weight.scheme = scheme;
        }
    }

    /// Sets the granularity of every weight.
    pub fn set_weight_granularity(&mut self, granularity: Granularity) {
        for layer in &mut self.layers {
            layer.weight.granularity = granularity;
        }
    }

    /// Sets the calibrator of every activation.
    pub fn set_activation_calibrator(&mut self, calibrator: Calibrator) {
        for layer in &mut self.layers {
            layer.activation.calibrator = calibrator;
        }
    }

    /// Sets the calibrator of every weight.
    pub fn set_weight_calibrator(&mut self, calibrator: Calibrator) {
        for layer in &mut self.layers {
            layer.weight.calibrator = calibrator;
        }
    }

    /// Sets how the levels of every weight are chosen.
    pub fn set_rounding(&mut self, rounding: Rounding) {
        for layer in &mut self.layers {
            layer.rounding = rounding;
        }
    }

    /// Whether any weight depends on calibration data, or is equalized with others.
    pub fn is_tuned(&self) -> bool {
        let tuned = |layer: &LayerPlan| layer.rounds_on_data() || layer.corrections.equalize;
        self.layers.iter().any(tuned)
    }

    /// The same plan with nothing taken from calibration data but ranges.
    #[must_use]
    pub fn nearest(&self) -> Self {
        Self::from_layers(self.layers.iter().map(LayerPlan::nearest).collect())
    }

    /// Sets what is corrected in every layer.
    pub fn set_corrections(&mut self, corrections: Corrections) {
        for layer in &mut self.layers {
            layer.corrections = corrections;
        }
    }

    /// Identifies what this plan computes; locks do not change it.
    pub fn fingerprint(&self) -> Fingerprint {
        let parts: Vec<String> = self
            .layers
            .iter()
            .map(|layer| {
                let LayerPlan {
                    weight,
                    activation,
                    rounding,
                    corrections,
                    locked: _,
                } = layer;
                format!("{weight:?}|{activation:?}|{rounding}|{corrections}")
            })
            .collect();
        Fingerprint::of_parts(parts.iter().map(|part| part.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;

    fn widths(text: &str) -> Widths {
        text.parse().unwrap()
    }

    #[test]
    fn later_assignments_win() {
        let layers = layers_named(&["conv1", "conv2", "fc"]);
        let mut plan = Plan::uniform(3, widths("8/8"));
        let assignments = ["conv*=4/8", "conv2=2/f32"].map(|text| text.parse().unwrap());
        plan.assign(&layers, &assignments).unwrap();
        let got: Vec<String> = plan
            .layers()
            .iter()
            .map(|layer| layer.widths().to_string())
            .collect();
        assert_eq!(got, ["4/8", "2/f32", "8/8"]);
    }

    #[test]
    fn a_glob_that_matches_nothing_is_an_error_that_names_a_layer() {
        let layers = layers_named(&["conv1"]);
        let mut plan = Plan::uniform(1, widths("8/8"));
        let error = plan
            .assign(&layers, &["head*=4/8".parse().unwrap()])
            .unwrap_err();
        assert!(error.to_string().contains("\"conv1\""), "{error}");
    }

    #[test]
    fn ranges_follow_the_rounding_unless_they_were_chosen() {
        for (calibrator, rounding, expected) in [
            (Calibrator::MinMax, Rounding::Gptq, Calibrator::Mse),
            (Calibrator::MinMax, Rounding::Auto, Calibrator::MinMax),
            (
                Calibrator::Percentile(99.9),
                Rounding::Descent,
                Calibrator::Percentile(99.9),
            ),
            (Calibrator::Mse, Rounding::Auto, Calibrator::Mse),
        ] {
            let mut layer = LayerPlan::with_widths(widths("4/8"));
            layer.weight.calibrator = calibrator;
            layer.choose_rounding(rounding);
            assert_eq!(layer.weight.calibrator, expected, "{rounding}");
        }
        let before = Plan::uniform(1, widths("4/8"));
        let mut after = before.clone();
        after.edit(&[LayerId(0)], |layer| {
            layer.choose_rounding(Rounding::Descent);
            layer.corrections.bias = true;
        });
        assert!(after.is_tuned() && !before.is_tuned());
        assert_eq!(after.nearest(), before);
    }

    #[test]
    fn the_fingerprint_follows_the_arithmetic_and_ignores_locks() {
        let plan = Plan::uniform(2, widths("8/8"));
        let mut locked = plan.clone();
        locked.edit(&[LayerId(0)], |layer| layer.locked = true);
        assert_eq!(plan.fingerprint(), locked.fingerprint());
        let mut other = plan.clone();
        other.set_weight_format(&[LayerId(1)], "4".parse().unwrap());
        assert_ne!(plan.fingerprint(), other.fingerprint());
    }
}
