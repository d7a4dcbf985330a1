//! The additive model of a plan's harm, and how measured plans correct it.

use super::score::Score;
use crate::plan::Widths;
use crate::quant::NumberFormat;

/// A weight or an input of one layer at every width that was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartEffects(Vec<(NumberFormat, f64)>);

impl PartEffects {
    /// Effects by width; float has none and need not be among them.
    pub fn new(effects: Vec<(NumberFormat, f64)>) -> Self {
        Self(effects)
    }

    /// The harm at a width; at one that was not measured that of the nearest one.
    fn at(&self, width: NumberFormat) -> f64 {
        self.place(width).map_or(0.0, |place| self.0[place].1)
    }

    fn place(&self, width: NumberFormat) -> Option<usize> {
        if width == NumberFormat::F32 {
            return None;
        }
        let distance = |place: &usize| {
            let other = self.0[*place].0;
            (other != width, other.bits().abs_diff(width.bits()))
        };
        (0..self.0.len()).min_by_key(distance)
    }
}

/// What single weights and inputs do to the outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Weights, in layer order.
    pub weights: Vec<PartEffects>,
    /// Inputs, in layer order.
    pub activations: Vec<PartEffects>,
}

/// Predicts the harm of plans:
///
/// ```text
/// harm = exp(offset + slope · ln Σ effect_l(width_l))
/// ```
/// The effects are those of single weights and inputs at first, and offset 0 and slope 1. Measured
/// plans move them: [`Model::corrected`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    effects: Effects,
    offset: f64,
    slope: f64,
}

/// Harms below this count as this, so that they have a logarithm.
const LEAST_HARM: f64 = 1e-12;
/// How often the correction goes over the measured plans.
const ROUNDS: usize = 12;
/// Part of an error that is corrected at once.
const STEP: f64 = 0.4;
/// An effect is changed by this factor at most, as a logarithm.
const LARGEST_CHANGE: f64 = 2.8;

impl Model {
    /// The additive model.
    pub fn new(effects: Effects) -> Self {
        Self {
            effects,
            offset: 0.0,
            slope: 1.0,
        }
    }

    /// Effect of a layer's weight at a width, in units of the sum.
    pub fn weight(&self, layer: usize, width: NumberFormat) -> f64 {
        let part = self.effects.weights.get(layer);
        part.map_or(0.0, |part| part.at(width))
    }

    /// Effect of a layer's input at a width, in units of the sum.
    pub fn activation(&self, layer: usize, width: NumberFormat) -> f64 {
        let part = self.effects.activations.get(layer);
        part.map_or(0.0, |part| part.at(width))
    }

    /// Sum of the effects of a plan.
    pub fn sum(&self, widths: &[Widths]) -> f64 {
        let layers = widths.iter().enumerate();
        layers
            .map(|(layer, widths)| {
                self.weight(layer, widths.weight) + self.activation(layer, widths.activation)
            })
            .sum()
    }

    /// The harm that belongs to a sum of effects.
    pub fn harm(&self, sum: f64) -> f64 {
        if sum <= 0.0 {
            return 0.0;
        }
        (self.offset + self.slope * sum.max(LEAST_HARM).ln()).exp()
    }

    /// The sum of effects at which a harm is expected.
    pub fn sum_at(&self, harm: f64) -> f64 {
        ((harm.max(LEAST_HARM).ln() - self.offset) / self.slope).exp()
    }

    /// The model after measuring plans, each with its harm.
    ///
    /// Offset and slope are fitted by least squares of the logarithms. What error is left is shared
    /// out over the effects of a plan in proportion to their part of its sum (the normalised
    /// least-mean-squares step of Widrow and Hoff, on logarithms), so that effects which many
    /// measured plans share are corrected most. The same plans in the same order give the same model.
    pub fn corrected(&self, measured: &[(&[Widths], f64)]) -> Self {
        let mut model = self.clone();
        let points: Vec<(f64, f64)> = measured
            .iter()
            .map(|(widths, harm)| (model.sum(widths), *harm))
            .filter(|(sum, _)| *sum > 0.0)
            .map(|(sum, harm)| (sum.max(LEAST_HARM).ln(), harm.max(LEAST_HARM).ln()))
            .collect();
        (model.offset, model.slope) = line(&points);
        for _ in 0..ROUNDS {
            for (widths, harm) in measured {
                model.step(self, widths, *harm);
            }
        }
        model
    }

    /// Moves the effects of one plan towards its measured harm.
    fn step(&mut self, first: &Self, widths: &[Widths], harm: f64) {
        let sum = self.sum(widths);
        if sum <= 0.0 {
            return;
        }
        let error = (self.sum_at(harm) / sum).ln().clamp(-2.0, 2.0);
        let each = |model: &Self| -> Vec<f64> {
            let layers = widths.iter().enumerate();
            layers
                .flat_map(|(layer, widths)| {
                    [
                        model.weight(layer, widths.weight),
                        model.activation(layer, widths.activation),
                    ]
                })
                .collect()
        };
        let squares: f64 = each(self).iter().map(|effect| effect * effect).sum();
        let factor = STEP * error * sum / squares;
        for (layer, widths) in widths.iter().enumerate() {
            let parts = [
                (
                    &mut self.effects.weights,
                    &first.effects.weights,
                    widths.weight,
                ),
                (
                    &mut self.effects.activations,
                    &first.effects.activations,
                    widths.activation,
                ),
            ];
            for (now, before, width) in parts {
                if let (Some(now), Some(before)) = (now.get_mut(layer), before.get(layer)) {
                    change(now, before, width, factor);
                }
            }
        }
    }
}

fn change(now: &mut PartEffects, before: &PartEffects, width: NumberFormat, factor: f64) {
    let Some(place) = now.place(width) else {
        return;
    };
    let (effect, before) = (&mut now.0[place].1, before.0[place].1);
    if before <= 0.0 {
        return;
    }
    let moved = (*effect / before).ln() + factor * *effect;
    *effect = before * moved.clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp();
}

/// Offset and slope of `y = offset + slope · x` by least squares; the slope stays near 1.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    if points.is_empty() {
        return (0.0, 1.0);
    }
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let (mut products, mut squares) = (0.0, 0.0);
    for (x, y) in points {
        products += (x - x_mean) * (y - y_mean);
        squares += (x - x_mean) * (x - x_mean);
    }
    // A few plans that are nearly alike say nothing of the slope: they are joined by some that lie on it.
    let slope = ((products + 1.0) / (squares + 1.0)).clamp(0.5, 2.0);
    (y_mean - slope * x_mean, slope)
}

/// What a harm means in other words, learned from all scores on the same samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meaning {
    /// `ln disagreement = offset + slope · ln harm`, for classifiers.
    disagreement: Option<(f64, f64)>,
    /// `ln (noise / signal) = offset + slope · ln harm`.
    noise: Option<(f64, f64)>,
    /// Accuracy lost per disagreement.
    lost_share: Option<f64>,
    /// Float accuracy on these samples.
    top1: Option<f64>,
}

/// What is predicted of a plan on the samples that the search scores on.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Prediction {
    /// What the search makes small.
    pub harm: f64,
    /// Share of samples on which float and plan agree.
    pub agreement: Option<f64>,
    /// SQNR of the outputs in dB; `None` where there is no noise or nothing is known.
    pub sqnr_db: Option<f64>,
    /// Share of right answers.
    pub top1: Option<f64>,
}

impl Meaning {
    /// Learns from scores; `float` is that of the float network.
    pub fn of(float: &Score, scores: &[Score]) -> Self {
        let log_line = |of: &dyn Fn(&Score) -> Option<f64>| {
            let points: Vec<(f64, f64)> = scores
                .iter()
                .filter_map(|score| Some((score.harm(), of(score)?)))
                .filter(|(harm, value)| *harm > LEAST_HARM && *value > 0.0 && *harm < f64::MAX)
                .map(|(harm, value)| (harm.ln(), value.ln()))
                .collect();
            (!points.is_empty()).then(|| free_line(&points))
        };
        let noise = |score: &Score| {
            (score.outputs.signal > 0.0).then(|| score.outputs.noise / score.outputs.signal)
        };
        let (mut lost, mut differ) = (0.0, 0.0);
        for score in scores {
            if let (Some(drop), Some(share)) = (score.drop(float), score.disagreement()) {
                lost += drop;
                differ += share;
            }
        }
        let top1 = float.metrics().top1();
        Self {
            disagreement: log_line(&Score::disagreement),
            noise: log_line(&noise),
            lost_share: (top1.is_some() && differ > 0.0).then(|| (lost / differ).clamp(0.0, 1.0)),
            top1,
        }
    }

    /// What a harm is expected to mean.
    pub fn prediction(&self, harm: f64) -> Prediction {
        if harm <= 0.0 {
            return Prediction {
                harm: 0.0,
                agreement: self.disagreement.map(|_| 1.0),
                sqnr_db: None,
                top1: self.top1,
            };
        }
        let on = |line: Option<(f64, f64)>| {
            line.map(|(offset, slope)| (offset + slope * harm.max(LEAST_HARM).ln()).exp())
        };
        let disagreement = on(self.disagreement).map(|share| share.min(1.0));
        let lost = disagreement.zip(self.lost_share).map(|(d, s)| d * s);
        Prediction {
            harm,
            agreement: disagreement.map(|share| 1.0 - share),
            sqnr_db: on(self.noise).map(|ratio| -10.0 * ratio.log10()),
            top1: self
                .top1
                .zip(lost)
                .map(|(float, lost)| (float - lost).max(0.0)),
        }
    }

    /// The harm at which so much accuracy is lost, or agreement where there are no labels; `None` if
    /// nothing is known of either.
    pub fn harm_at_drop(&self, drop: f64) -> Option<f64> {
        let (offset, slope) = self.disagreement?;
        let share = match (self.top1, self.lost_share) {
            (Some(_), Some(lost)) => drop / lost.max(1e-3),
            _ => drop,
        };
        Some(((share.clamp(1e-9, 1.0).ln() - offset) / slope).exp())
    }
}

/// As [`line()`], with any rising slope.
fn free_line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let x_mean = points.iter().map(|point| point.0).sum::<f64>() / count;
    let y_mean = points.iter().map(|point| point.1).sum::<f64>() / count;
    let (mut products, mut squares) = (0.0, 0.0);
    for (x, y) in points {
        products += (x - x_mean) * (y - y_mean);
        squares += (x - x_mean) * (x - x_mean);
    }
    let slope = if squares > 1e-9 {
        (products / squares).clamp(0.1, 2.0)
    } else {
        0.5
    };
    (y_mean - slope * x_mean, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widths(texts: &[&str]) -> Vec<Widths> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn part(effects: &[(&str, f64)]) -> PartEffects {
        let effects = effects.iter();
        PartEffects::new(
            effects
                .map(|(width, harm)| (width.parse().unwrap(), *harm))
                .collect(),
        )
    }

    fn model() -> Model {
        Model::new(Effects {
            weights: vec![
                part(&[("8", 0.01), ("4", 0.1)]),
                part(&[("8", 0.02), ("4", 0.3)]),
            ],
            activations: vec![part(&[("8", 0.001)]), part(&[("8", 0.002)])],
        })
    }

    #[test]
    fn effects_add_and_float_has_none() {
        let model = model();
        for (texts, expected) in [
            (["4/8", "8/f32"], 0.1 + 0.001 + 0.02),
            (["f32/f32", "f32/f32"], 0.0),
            // 5 bits were not measured: 4 is nearest.
            (["5/f32", "f32/f32"], 0.1),
        ] {
            let sum = model.sum(&widths(&texts));
            assert!((sum - expected).abs() < 1e-12, "{texts:?}: {sum}");
            assert!((model.harm(sum) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn measured_plans_correct_the_effects_that_they_share() {
        let first = model();
        let plans = [
            widths(&["4/f32", "8/f32"]),
            widths(&["8/f32", "4/f32"]),
            widths(&["4/f32", "4/f32"]),
        ];
        // In truth the first layer at 4 bits is three times as harmful.
        let truth = [0.32, 0.31, 0.6];
        let measured: Vec<(&[Widths], f64)> = plans.iter().map(Vec::as_slice).zip(truth).collect();
        let model = first.corrected(&measured);
        for (plan, truth) in plans.iter().zip(truth) {
            let error = |model: &Model| (model.harm(model.sum(plan)) / truth).ln().abs();
            assert!(error(&model) < 0.15, "{plan:?}: {}", error(&model));
        }
        let ratio = |model: &Model| {
            model.weight(0, "4".parse().unwrap()) / model.weight(1, "4".parse().unwrap())
        };
        assert!(ratio(&model) > 2.0 * ratio(&first));
    }

    #[test]
    fn a_harm_is_told_in_agreement_and_accuracy() {
        // Disagreement is the root of the harm, and half of it is lost accuracy.
        let score = |hits: u64, agreements: u64, kl: f64| Score {
            samples: 100,
            labelled: 100,
            top1_hits: hits,
            classified: 100,
            agreements,
            kl_sum: 100.0 * kl,
            ..Score::default()
        };
        let float = score(90, 100, 0.0);
        let meaning = Meaning::of(&float, &[score(85, 90, 0.01), score(80, 80, 0.04)]);
        let predicted = meaning.prediction(0.0225);
        assert!((predicted.agreement.unwrap() - 0.85).abs() < 1e-9);
        assert!((predicted.top1.unwrap() - 0.825).abs() < 1e-9);
        assert!((meaning.harm_at_drop(0.075).unwrap() - 0.0225).abs() < 1e-9);
        assert_eq!(meaning.prediction(0.0).top1, Some(0.9));
    }
}
