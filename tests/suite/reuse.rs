//! Evaluations that reuse what did not change give the numbers of evaluations from nothing.

use std::path::Path;

use proptest::prelude::*;
use quantscope::engine::{
    ActivationCache, Evaluation, FloatReference, Ranges, RunError, calibrate, evaluate_float,
    evaluate_plan, evaluate_plan_cached,
};
use quantscope::jobs::CancelToken;
use quantscope::model::LayerId;
use quantscope::plan::{Plan, Widths};
use quantscope::session::{DataRequest, OpenData, OpenModel};

use crate::common::{sample, shared};

/// Samples whose layer errors are measured: the first batches, but not all.
const LAYER_ERROR_SAMPLES: usize = 40;

struct Opened {
    model: OpenModel,
    data: OpenData,
    ranges: Ranges,
    float: FloatReference,
}

fn open_sample(model: &str) -> Opened {
    let request = DataRequest {
        calibration: Some(sample("signs/calib")),
        calibration_samples: 16,
        limit: Some(72),
        batch_size: Some(32),
        ..DataRequest::new(sample("signs/eval"))
    };
    open(&sample(model), request)
}

fn open(model: &Path, request: DataRequest) -> Opened {
    let model = OpenModel::open(model).unwrap();
    let data = OpenData::open(&model, request).unwrap();
    let cancel = CancelToken::default();
    let ranges = calibrate(&model.executor, &data.calibration, &cancel, &mut |_| {}).unwrap();
    let float = evaluate_float(&model.executor, &data.evaluation, &cancel, &mut |_| {}).unwrap();
    Opened {
        model,
        data,
        ranges,
        float,
    }
}

impl Opened {
    fn cold(&self, plan: &Plan) -> Evaluation {
        let executor = &self.model.executor;
        let prepared = executor.prepare(plan, Some(&self.ranges)).unwrap();
        evaluate_plan(
            executor,
            &prepared,
            &self.data.evaluation,
            None,
            LAYER_ERROR_SAMPLES,
            &CancelToken::default(),
            &mut |_| {},
        )
        .unwrap()
    }

    /// Evaluates until `batches` are done; `None` where that stops it before the end.
    fn warm(&self, cache: &ActivationCache, plan: &Plan, batches: usize) -> Option<Evaluation> {
        let executor = &self.model.executor;
        let prepared = executor.prepare(plan, Some(&self.ranges)).unwrap();
        let cancel = CancelToken::default();
        let mut done = 0;
        let float = Some(&self.float);
        let result = evaluate_plan_cached(executor, &prepared, cache, float, &cancel, &mut |_| {
            done += 1;
            if done == batches {
                cancel.cancel();
            }
        });
        if result.as_ref().is_err_and(RunError::is_cancelled) {
            return None;
        }
        Some(result.unwrap())
    }

    fn cache(&self, budget_bytes: usize) -> ActivationCache {
        ActivationCache::new(
            &self.model.executor,
            &self.data.evaluation,
            LAYER_ERROR_SAMPLES,
            budget_bytes,
        )
    }
}

/// Every number but the seconds, to the last bit.
fn numbers(evaluation: &Evaluation) -> String {
    let timeless = Evaluation {
        float_secs: 0.0,
        plan_secs: 0.0,
        ..evaluation.clone()
    };
    format!("{timeless:?}")
}

/// One change: a layer, what becomes of it, and how far the evaluation gets before the next.
type Edit = (usize, &'static str, usize);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let widths = prop::sample::select(vec!["8/8", "4/8", "8/f32", "f32/f32", "3/4", "f32/8"]);
    let batches = prop_oneof![Just(usize::MAX), Just(1), Just(2)];
    prop::collection::vec((any::<usize>(), widths, batches), 1..6)
}

/// Tries random edits under budgets with room for everything, for a part, for little and for nothing.
fn try_edits(opened: &Opened, cases: u32) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        ..ProptestConfig::default()
    });
    let budgets = prop::sample::select(vec![1 << 30, 24 << 20, 3 << 20, 100 << 10, 0]);
    runner
        .run(&(edits(), budgets), |(edits, budget_bytes)| {
            changed_layers_in_any_order(opened, &edits, budget_bytes);
            Ok(())
        })
        .unwrap();
}

fn changed_layers_in_any_order(opened: &Opened, edits: &[Edit], budget_bytes: usize) {
    let cache = opened.cache(budget_bytes);
    let layers = opened.model.layers().len();
    let mut plan = Plan::uniform(layers, "8/8".parse().unwrap());
    for (layer, widths, batches) in edits {
        let widths: Widths = widths.parse().unwrap();
        let id = LayerId((layer % layers) as u32);
        plan.edit(&[id], |choice| {
            choice.weight.format = widths.weight;
            choice.activation.format = widths.activation;
        });
        if let Some(warm) = opened.warm(&cache, &plan, *batches) {
            assert_eq!(numbers(&warm), numbers(&opened.cold(&plan)));
        }
        assert!(cache.used_bytes() <= budget_bytes);
    }
    let warm = opened.warm(&cache, &plan, usize::MAX).unwrap();
    assert_eq!(numbers(&warm), numbers(&opened.cold(&plan)));
}

#[test]
fn changed_layers_of_every_sample_give_the_numbers_of_a_cold_evaluation() {
    // A residual network, and one with depthwise layers.
    for model in ["signs-resnet.onnx", "signs-mobilenet.onnx"] {
        try_edits(&open_sample(model), 8);
    }
}

#[test]
fn changed_layers_of_real_networks_give_the_numbers_of_a_cold_evaluation() {
    // Attention, a small network on arrays, and a detector with many branches and outputs.
    for (model, data, limit) in [
        ("vit-mnist.onnx", "mnist/test", 72),
        ("dscnn-kws.onnx", "kws", 72),
        ("yolox-nano-coco.onnx", "coco128/images", 3),
    ] {
        let files = (
            shared(&format!("data/models/{model}")),
            shared(&format!("data/{data}")),
        );
        if let (Some(model), Some(data)) = files {
            let request = DataRequest {
                calibration_samples: 2,
                limit: Some(limit),
                batch_size: Some(if limit > 32 { 32 } else { 2 }),
                ..DataRequest::new(data)
            };
            try_edits(&open(&model, request), 3);
        }
    }
}

#[test]
fn a_changed_layer_runs_only_what_lies_downstream() {
    let opened = open_sample("signs-resnet.onnx");
    let cache = opened.cache(1 << 30);
    let layers = opened.model.layers().len();
    let mut plan = Plan::uniform(layers, "8/8".parse().unwrap());
    opened.warm(&cache, &plan, usize::MAX).unwrap();
    assert!(cache.used_bytes() > 0);
    let decoded = opened.data.evaluation.decode_secs();
    plan.set_weight_format(&[LayerId(layers as u32 - 1)], "4".parse().unwrap());
    opened.warm(&cache, &plan, usize::MAX).unwrap();
    assert_eq!(opened.data.evaluation.decode_secs(), decoded);
}
