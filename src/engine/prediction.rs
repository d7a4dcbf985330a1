//! What single layers tell about a plan before it is run.

use super::local_error::LocalErrors;
use super::sensitivity::{Protocol, Sensitivity, Subject};
use crate::plan::{LayerPlan, Plan};
use crate::quant::NumberFormat;

/// A predicted number, and what it stands on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// The number.
    pub value: f64,
    /// Quantized weights and inputs of the plan whose effect is known.
    pub known: usize,
    /// All quantized weights and inputs of the plan.
    pub parts: usize,
}

/// A sweep with the plan that gave its schemes and calibrators.
#[derive(Debug)]
pub struct Known<'a, T> {
    /// What was measured.
    pub found: &'a T,
    /// The plan that it was measured for; its widths do not matter.
    pub plan: &'a Plan,
}

/// A weight or an input at a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Weight,
    Activation,
    Both,
}

/// Predicts the SQNR of the network's outputs in dB; `None` if nothing is known of the plan.
///
/// Noise of single layers adds:
///
/// ```text
/// 1/sqnr = Σ 1/sqnr_l    over layers l, sqnr as a ratio of powers
/// ```
/// where `sqnr_l` is that of the outputs when only layer `l` is quantized. Where no sweep tells that,
/// the weight's error at the output of the layer alone stands in, as if later layers kept the ratio.
/// Widths between two measured ones are interpolated in dB. Parts of which nothing is known add
/// nothing and are left out of [`Predicted::known`]. A plan in float has no noise.
pub fn predict_sqnr_db(
    plan: &Plan,
    sensitivity: Option<&Known<'_, Sensitivity>>,
    local_errors: Option<&Known<'_, LocalErrors>>,
) -> Option<Predicted> {
    let swept = |layer: usize, part: Part| {
        let sweep = sensitivity?;
        if !applies(sweep.found, sweep.plan, plan, layer, part) {
            return None;
        }
        let cells = sweep.found.cells.get(layer)?;
        let noise = cells.iter().map(|cell| {
            let outputs = cell.comparison.outputs;
            (outputs.count > 0).then(|| outputs.noise / outputs.signal)
        });
        let width = width_of(plan.layers().get(layer)?, part);
        at_width(width, &sweep.found.request.widths, noise, in_decibel)
    };
    let alone = |layer: usize, part: Part| {
        let errors = local_errors?;
        let choice = plan.layers().get(layer)?;
        let is_of_weights = part == Part::Weight && errors.found.subject == Subject::Weights;
        if !is_of_weights
            || !choice
                .weight
                .same_but_format(&errors.plan.layers().get(layer)?.weight)
        {
            return None;
        }
        let noise = errors.found.cells.get(layer)?.iter();
        let noise = noise.map(|sum| (sum.count > 0).then(|| sum.noise / sum.signal));
        at_width(
            choice.weight.format,
            &errors.found.widths,
            noise,
            in_decibel,
        )
    };
    let sum = sum_over_parts(plan, |layer, part| {
        swept(layer, part).or_else(|| alone(layer, part))
    })?;
    Some(Predicted {
        value: -10.0 * sum.value.log10(),
        ..sum
    })
}

/// Predicts the share of right answers; `None` if nothing is known of the plan.
///
/// Drops of single layers add, but the plan is never better than `float` and never below 0.
/// Widths between two measured ones are interpolated.
pub fn predict_top1(
    plan: &Plan,
    float: f64,
    sensitivity: &Known<'_, Sensitivity>,
) -> Option<Predicted> {
    let sweep = sensitivity.found;
    let sum = sum_over_parts(plan, |layer, part| {
        let choice = plan.layers().get(layer)?;
        if !applies(sweep, sensitivity.plan, plan, layer, part) {
            return None;
        }
        let cells = sweep.cells.get(layer)?.iter();
        let drops = cells.map(|cell| Some(cell.spread.accuracy_drop()?.value));
        at_width(
            width_of(choice, part),
            &sweep.request.widths,
            drops,
            linearly,
        )
    })?;
    Some(Predicted {
        value: (float - sum.value).clamp(0.0, float),
        ..sum
    })
}

/// Adds what is known of every quantized part; `None` if there are parts and none is known.
fn sum_over_parts(plan: &Plan, effect: impl Fn(usize, Part) -> Option<f64>) -> Option<Predicted> {
    let mut sum = Predicted {
        value: 0.0,
        known: 0,
        parts: 0,
    };
    for (layer, choice) in plan.layers().iter().enumerate() {
        let parts: Vec<Part> = [Part::Weight, Part::Activation]
            .into_iter()
            .filter(|part| width_of(choice, *part) != NumberFormat::F32)
            .collect();
        sum.parts += parts.len();
        let together = (parts.len() == 2)
            .then(|| effect(layer, Part::Both))
            .flatten();
        if let Some(effect) = together {
            sum.value += effect;
            sum.known += 2;
            continue;
        }
        for effect in parts.into_iter().filter_map(|part| effect(layer, part)) {
            sum.value += effect;
            sum.known += 1;
        }
    }
    (sum.known > 0 || sum.parts == 0).then_some(sum)
}

/// The width of a part; weight and input together have one only where they are equal.
fn width_of(choice: &LayerPlan, part: Part) -> NumberFormat {
    match part {
        Part::Weight | Part::Both => choice.weight.format,
        Part::Activation => choice.activation.format,
    }
}

/// Whether a sweep measured this part of a layer with the schemes that the plan has.
fn applies(sweep: &Sensitivity, of: &Plan, plan: &Plan, layer: usize, part: Part) -> bool {
    let (Some(then), Some(now)) = (of.layers().get(layer), plan.layers().get(layer)) else {
        return false;
    };
    let weight = then.weight.same_but_format(&now.weight);
    let activation = then.activation.same_but_format(&now.activation);
    let fits = match (sweep.request.subject, part) {
        (Subject::Weights, Part::Weight) => weight,
        (Subject::Activations, Part::Activation) => activation,
        (Subject::Both, Part::Both) => {
            weight && activation && now.weight.format == now.activation.format
        }
        _ => false,
    };
    fits && sweep.request.protocol == Protocol::OnlyOne
}

/// The effect at a width, from the effects at measured widths; the widest stands in for wider ones.
fn at_width(
    width: NumberFormat,
    widths: &[NumberFormat],
    effects: impl Iterator<Item = Option<f64>>,
    between: fn(f64, f64, f64) -> f64,
) -> Option<f64> {
    let known: Vec<(NumberFormat, f64)> = widths
        .iter()
        .copied()
        .zip(effects)
        .filter_map(|(width, effect)| Some((width, effect.filter(|effect| effect.is_finite())?)))
        .collect();
    if let Some((_, effect)) = known.iter().find(|(other, _)| *other == width) {
        return Some(*effect);
    }
    let bits = integer_bits(width)?;
    let integers = || {
        known
            .iter()
            .filter_map(|(width, effect)| Some((integer_bits(*width)?, *effect)))
    };
    let (below, low) = integers()
        .filter(|(other, _)| *other < bits)
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    let above = integers()
        .filter(|(other, _)| *other > bits)
        .min_by(|a, b| a.0.total_cmp(&b.0));
    Some(match above {
        Some((above, high)) => between(low, high, (bits - below) / (above - below)),
        None => low,
    })
}

fn integer_bits(width: NumberFormat) -> Option<f64> {
    match width {
        NumberFormat::Int(bits) => Some(f64::from(bits.get())),
        _ => None,
    }
}

fn linearly(low: f64, high: f64, at: f64) -> f64 {
    low + (high - low) * at
}

/// Interpolates ratios of powers in dB; where there is no noise, which has no dB, linearly.
fn in_decibel(low: f64, high: f64, at: f64) -> f64 {
    if low > 0.0 && high > 0.0 {
        linearly(low.ln(), high.ln(), at).exp()
    } else {
        linearly(low, high, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Classification, Comparison, SensitivityCell, SensitivityRequest, Spread};
    use crate::plan::Widths;
    use crate::quant::{Calibrator, ErrorSum};

    /// A sweep over 100 samples of which float has 90 right; `cells` are (noise, right answers).
    fn sweep(subject: Subject, cells: &[[(f64, u64); 2]]) -> Sensitivity {
        let counts = |hits| Classification {
            labelled: 100,
            top1_hits: hits,
            ..Classification::default()
        };
        let cell = |(noise, hits): (f64, u64)| SensitivityCell {
            metrics: counts(hits),
            comparison: Comparison {
                samples: 100,
                outputs: ErrorSum {
                    signal: 1000.0,
                    noise,
                    count: 1000,
                },
                ..Comparison::default()
            },
            spread: Spread {
                labelled: 100,
                lost: 90u64.saturating_sub(hits),
                gained: hits.saturating_sub(90),
                ..Spread::default()
            },
            ..SensitivityCell::default()
        };
        Sensitivity {
            request: SensitivityRequest {
                protocol: Protocol::OnlyOne,
                subject,
                widths: ["8", "4"].map(|width| width.parse().unwrap()).to_vec(),
            },
            samples: 100,
            total: 100,
            float: counts(90),
            float_batches: 1,
            cells: cells.iter().map(|row| row.map(cell).to_vec()).collect(),
        }
    }

    fn plan(widths: [&str; 2]) -> Plan {
        let choice = |widths: &str| LayerPlan::with_widths(widths.parse::<Widths>().unwrap());
        Plan::from_layers(widths.map(choice).to_vec())
    }

    #[test]
    fn noise_and_drops_of_single_layers_add() {
        let schemes = plan(["8/8", "8/8"]);
        let of_weights = sweep(
            Subject::Weights,
            &[[(1.0, 89), (100.0, 70)], [(3.0, 90), (10.0, 85)]],
        );
        let of_both = sweep(
            Subject::Both,
            &[[(1.0, 89), (100.0, 70)], [(3.0, 90), (10.0, 85)]],
        );
        let cases = [
            // Both layers at measured widths.
            (&of_weights, ["8/f32", "4/f32"], Some((11.0, 0.84, 2, 2))),
            // 6 bits lie half-way between 4 and 8: in dB for noise, linearly for the drop.
            (&of_weights, ["6/f32", "f32/f32"], Some((10.0, 0.795, 1, 1))),
            // Nothing is known of inputs, and of widths below the narrowest measured one.
            (&of_weights, ["4/8", "3/8"], Some((100.0, 0.70, 1, 4))),
            (&of_weights, ["3/f32", "f32/8"], None),
            // Wider than measured: the widest stands in.
            (&of_weights, ["16/f32", "f32/f32"], Some((1.0, 0.89, 1, 1))),
            (&of_both, ["4/4", "8/8"], Some((103.0, 0.70, 4, 4))),
            (&of_both, ["4/8", "8/f32"], None),
            // Drops add up to no less than nothing right.
            (&of_weights, ["f32/f32", "f32/f32"], Some((0.0, 0.9, 0, 0))),
        ];
        for (sweep, widths, expected) in cases {
            let known = Known {
                found: sweep,
                plan: &schemes,
            };
            let plan = plan(widths);
            let sqnr = predict_sqnr_db(&plan, Some(&known), None);
            let top1 = predict_top1(&plan, 0.9, &known);
            let Some((noise, right, known, parts)) = expected else {
                assert_eq!((sqnr, top1), (None, None), "{widths:?}");
                continue;
            };
            let (sqnr, top1) = (sqnr.unwrap(), top1.unwrap());
            let db = 10.0 * (1000.0_f64 / noise).log10();
            assert!(sqnr.value == db || (sqnr.value - db).abs() < 1e-9);
            assert!((top1.value - right).abs() < 1e-9, "{widths:?}: {top1:?}");
            assert_eq!([sqnr.known, top1.known], [known; 2], "{widths:?}");
            assert_eq!([sqnr.parts, top1.parts], [parts; 2], "{widths:?}");
        }
    }

    #[test]
    fn the_prediction_stays_between_nothing_right_and_float() {
        let schemes = plan(["8/8", "8/8"]);
        let widths = plan(["4/f32", "4/f32"]);
        for (hits, expected) in [(10, 0.0), (95, 0.8)] {
            let sweep = sweep(Subject::Weights, &[[(1.0, 90), (1.0, hits)]; 2]);
            let known = Known {
                found: &sweep,
                plan: &schemes,
            };
            let predicted = predict_top1(&widths, 0.8, &known).unwrap();
            assert_eq!(predicted.value, expected);
        }
    }

    #[test]
    fn layers_with_other_schemes_than_the_sweep_are_not_known() {
        let mut schemes = plan(["8/8", "8/8"]);
        let sweep = sweep(Subject::Weights, &[[(1.0, 89), (100.0, 70)]; 2]);
        schemes.edit(&[crate::model::LayerId(1)], |choice| {
            choice.weight.calibrator = Calibrator::Mse;
        });
        let known = Known {
            found: &sweep,
            plan: &schemes,
        };
        let predicted = predict_sqnr_db(&plan(["4/f32", "4/f32"]), Some(&known), None).unwrap();
        assert_eq!((predicted.known, predicted.parts), (1, 2));
    }

    #[test]
    fn errors_of_layers_alone_stand_in_for_a_sweep() {
        let schemes = plan(["8/8", "8/8"]);
        let sum = |noise| ErrorSum {
            signal: 10.0,
            noise,
            count: 100,
        };
        let local = LocalErrors {
            subject: Subject::Weights,
            widths: vec!["4".parse().unwrap()],
            samples: 10,
            total: 10,
            cells: vec![vec![sum(0.1)], vec![sum(0.9)]],
        };
        let known = Known {
            found: &local,
            plan: &schemes,
        };
        let predicted = predict_sqnr_db(&plan(["4/8", "4/8"]), None, Some(&known)).unwrap();
        assert!((predicted.value - 10.0).abs() < 1e-9);
        assert_eq!((predicted.known, predicted.parts), (2, 4));
    }
}
