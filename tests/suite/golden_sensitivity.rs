//! Sweeps and layer errors of a real network agree with ONNX Runtime, and cheap scores with sweeps.
//!
//! The reference numbers were made by `tests/golden/make_sensitivity.py`.

use std::sync::OnceLock;

use quantscope::data::Preprocess;
use quantscope::engine::{
    Batches, Evaluation, Objective, Protocol, Ranges, SecondOrder, SecondOrderCell, Sensitivity,
    SensitivityCell, SensitivityRequest, Spread, Subject, calibrate, evaluate_plan, local_errors,
    second_order, sensitivity,
};
use quantscope::jobs::CancelToken;
use quantscope::plan::{Plan, Widths};
use quantscope::quant::{Granularity, NumberFormat, rank_correlation};
use quantscope::session::{DataRequest, OpenData, OpenModel};
use serde_json::Value;

use crate::common::{root, shared};

struct Fixture {
    model: OpenModel,
    data: OpenData,
    ranges: Ranges,
}

fn reference() -> Value {
    let path = root().join("tests/golden/resnet20_sensitivity.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The same pictures calibrate and are evaluated, as in the script.
fn fixture() -> Option<&'static Fixture> {
    static FIXTURE: OnceLock<Option<Fixture>> = OnceLock::new();
    FIXTURE
        .get_or_init(|| {
            let model = OpenModel::open(&shared("data/models/resnet20-cifar10.onnx")?).unwrap();
            let pictures = shared("data/cifar10/calib")?;
            let request = DataRequest {
                calibration: Some(pictures.clone()),
                preprocess: Some(Preprocess::IMAGENET),
                calibration_samples: 500,
                ..DataRequest::new(pictures)
            };
            let data = OpenData::open(&model, request).unwrap();
            let cancel = CancelToken::default();
            let executor = &model.executor;
            let ranges = calibrate(executor, &data.calibration, &cancel, &mut |_| {}).unwrap();
            Some(Fixture {
                model,
                data,
                ranges,
            })
        })
        .as_ref()
}

fn widths(bits: &[&str]) -> Vec<NumberFormat> {
    bits.iter().map(|bits| bits.parse().unwrap()).collect()
}

impl Fixture {
    fn plan(&self, widths: &str) -> Plan {
        let widths: Widths = widths.parse().unwrap();
        Plan::uniform(self.model.layers().len(), widths)
    }

    fn evaluate(&self, widths: &str) -> Evaluation {
        let executor = &self.model.executor;
        let prepared = executor.prepare(&self.plan(widths), Some(&self.ranges));
        evaluate_plan(
            executor,
            &prepared.unwrap(),
            &self.data.evaluation,
            None,
            usize::MAX,
            &CancelToken::default(),
            &mut |_| {},
        )
        .unwrap()
    }

    fn sweep(&self, protocol: Protocol, bits: &[&str]) -> Sensitivity {
        self.sweep_over(protocol, bits, &self.data.evaluation)
    }

    fn sweep_over(&self, protocol: Protocol, bits: &[&str], batches: &Batches) -> Sensitivity {
        self.sweep_of(&self.plan("f32/f32"), protocol, bits, batches)
    }

    fn sweep_of(
        &self,
        plan: &Plan,
        protocol: Protocol,
        bits: &[&str],
        batches: &Batches,
    ) -> Sensitivity {
        let request = SensitivityRequest {
            protocol,
            subject: Subject::Weights,
            widths: widths(bits),
        };
        sensitivity(
            &self.model.executor,
            plan,
            None,
            &request,
            batches,
            &CancelToken::default(),
            &mut |_| {},
        )
        .unwrap()
    }

    fn second_order(&self, bits: &[&str], samples: usize) -> SecondOrder {
        self.second_order_of(&self.plan("f32/f32"), bits, samples)
    }

    fn second_order_of(&self, plan: &Plan, bits: &[&str], samples: usize) -> SecondOrder {
        second_order(
            &self.model.executor,
            plan,
            None,
            Subject::Weights,
            &widths(bits),
            &self.data.calibration.first(samples),
            &CancelToken::default(),
            &mut |_| {},
        )
        .unwrap()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.model.layers().iter().map(|layer| layer.name.as_str())
    }
}

#[track_caller]
fn near(what: &str, got: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (got - expected).abs() <= tolerance,
        "{what}: {got} instead of {expected} ± {tolerance}"
    );
}

#[test]
fn all_but_one_layer_gives_the_same_accuracy_and_error() {
    let Some(fixture) = fixture() else { return };
    let (reference, bits) = (reference(), ["8", "4", "3"]);
    let sweep = fixture.sweep(Protocol::AllButOne, &bits);
    for (name, row) in fixture.names().zip(&sweep.cells) {
        for (bits, cell) in bits.iter().zip(row) {
            let expected = &reference["all_but_one_weights"][name][*bits];
            let what = format!("{name} left in float at {bits}");
            // One and a half in a thousand, as in the sweeps over all test pictures: here one picture.
            near(
                &what,
                cell.metrics.top1().unwrap(),
                &expected["top1"],
                0.002,
            );
            near(&what, cell.metrics.loss().unwrap(), &expected["loss"], 2e-3);
            near(&what, cell.comparison.kl().unwrap(), &expected["kl"], 2e-3);
            let sqnr = cell.comparison.sqnr_db().unwrap();
            near(&what, sqnr, &expected["sqnr_db"], 0.1);
        }
    }
}

#[test]
fn errors_add_up_along_the_network_as_in_the_reference() {
    let Some(fixture) = fixture() else { return };
    let reference = reference();
    for (plan, tolerance) in [("8/8", 0.3), ("4/8", 0.3), ("4/f32", 0.1)] {
        let evaluation = fixture.evaluate(plan);
        for (name, errors) in fixture.names().zip(&evaluation.layers) {
            let expected = &reference["cumulative_output_sqnr_db"][plan][name];
            let what = format!("output of {name} under {plan}");
            near(&what, errors.output.sqnr_db(), expected, tolerance);
        }
    }
}

#[test]
fn a_layer_alone_gives_the_same_error_at_its_own_output() {
    let Some(fixture) = fixture() else { return };
    let (reference, bits) = (reference(), ["4", "3"]);
    let local = local_errors(
        &fixture.model.executor,
        &fixture.plan("f32/f32"),
        None,
        Subject::Weights,
        &widths(&bits),
        &fixture.data.evaluation,
        &CancelToken::default(),
        &mut |_| {},
    )
    .unwrap();
    let sweep = fixture.sweep(Protocol::OnlyOne, &["4"]);
    for ((name, row), swept) in fixture.names().zip(&local.cells).zip(&sweep.cells) {
        for (bits, error) in bits.iter().zip(row) {
            let expected = &reference["local_output_sqnr_db"][name][*bits];
            near(name, error.sqnr_db(), expected, 0.05);
        }
        let expected = &reference["local_output_sqnr_db"][name]["4"];
        near(name, swept[0].local.sqnr_db(), expected, 0.05);
    }
}

#[test]
fn the_second_order_score_orders_layers_as_sweeps_do() {
    let Some(fixture) = fixture() else { return };
    let bits = ["4", "3"];
    let scores = fixture.second_order(&bits, 256);
    assert_eq!((scores.samples, scores.objective), (256, Objective::Labels));
    let correlation = |sweep: &Sensitivity, column: usize, pair: &Pair| {
        let cells = scores.cells.iter().zip(&sweep.cells);
        let pairs: Vec<(f64, f64)> = cells
            .map(|(score, cell)| pair(&score[column], &cell[column]))
            .collect();
        rank_correlation(&pairs).unwrap()
    };
    // The score tells how far the outputs move, on other pictures too.
    let sweep = fixture.sweep(Protocol::OnlyOne, &bits);
    for column in [0, 1] {
        let found = correlation(&sweep, column, &|score, cell| {
            (score.score().unwrap(), cell.comparison.kl().unwrap())
        });
        assert!(found >= 0.9, "KL at {}: {found}", bits[column]);
    }
    // With the first-order term it tells the change of the loss against the labels of the same pictures.
    let pictures = fixture.data.calibration.first(256);
    let sweep = fixture.sweep_over(Protocol::OnlyOne, &bits, &pictures);
    let found = correlation(&sweep, 0, &|score, cell| {
        let measured = cell.spread.loss_increase().unwrap().value;
        (score.increase().unwrap(), measured)
    });
    assert!(found >= 0.8, "loss at 4 bits: {found}");
}

#[test]
fn the_second_order_score_ranks_what_other_pictures_lose() {
    let (Some(fixture), Some(pictures)) = (fixture(), shared("data/cifar10/test")) else {
        return;
    };
    let request = DataRequest {
        preprocess: Some(Preprocess::IMAGENET),
        calibration: shared("data/cifar10/calib"),
        ..DataRequest::new(pictures)
    };
    let others = OpenData::open(&fixture.model, request).unwrap().evaluation;
    let half = others.first(others.len() / 2);
    for granularity in [Granularity::PerTensor, Granularity::PerChannel] {
        let mut plan = fixture.plan("f32/f32");
        plan.set_weight_granularity(granularity);
        let scores = fixture.second_order_of(&plan, &["4"], 256);
        let whole = fixture.sweep_of(&plan, Protocol::OnlyOne, &["4"], &others);
        let first = fixture.sweep_of(&plan, Protocol::OnlyOne, &["4"], &half);
        let rows = || {
            scores
                .cells
                .iter()
                .zip(whole.cells.iter().zip(&first.cells))
        };
        let pairs = |pair: &dyn Fn(&SecondOrderCell, &Spread, &Spread) -> (f64, f64)| {
            let each = rows().map(|(s, (w, f))| pair(&s[0], &w[0].spread, &f[0].spread));
            rank_correlation(&each.collect::<Vec<_>>()).unwrap()
        };
        // Against what float itself says, in place of labels, the increase of the loss is the divergence.
        let cells = scores.cells.iter().zip(&whole.cells);
        let divergences: Vec<(f64, f64)> = cells
            .map(|(score, cell)| {
                let measured = cell[0].comparison.kl().unwrap();
                (score[0].score().unwrap(), measured)
            })
            .collect();
        let divergence = rank_correlation(&divergences).unwrap();
        assert!(divergence >= 0.9, "{granularity}: {divergence}");
        let loss = |spread: &Spread| spread.loss_increase().unwrap().value;
        let found = [
            pairs(&|score, whole, _| (score.increase().unwrap(), loss(whole))),
            pairs(&|score, whole, _| (score.score().unwrap(), loss(whole))),
            // Two halves of the pictures agree no better than this.
            pairs(&|_, whole, first| {
                let rest = whole.loss_sum - first.loss_sum;
                (loss(first), rest / (whole.labelled - first.labelled) as f64)
            }),
        ];
        println!("{granularity}: {found:?}");
    }
}

/// What a score says of a cell, and what a sweep measured.
type Pair = dyn Fn(&SecondOrderCell, &SensitivityCell) -> (f64, f64);
