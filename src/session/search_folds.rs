//! Which samples score a search, and which round what they score.

use std::ops::Range;

use super::open_data::OpenData;
use crate::engine::Batches;
use crate::plan::{LayerPlan, Plan, Rounding};

/// Parts of the calibration samples that are rounded without each other.
const FOLDS: usize = 2;

/// The samples of a search in the order in which they score, cut into folds.
#[derive(Debug)]
pub(super) struct SearchFolds {
    /// The samples that score.
    pub(super) batches: Batches,
    /// One or more folds, which together are all samples.
    pub(super) folds: Vec<SearchFold>,
}

/// Some of the samples that score.
#[derive(Debug)]
pub(super) struct SearchFold {
    /// The places of the samples, whole batches but at the end.
    pub(super) places: Range<usize>,
    /// The samples that weights are rounded on before these score.
    pub(super) rounding: Batches,
}

impl SearchFolds {
    /// All samples at once, unless weights are rounded on the very samples that score.
    pub(super) fn of(data: &OpenData, base: &Plan) -> Self {
        if !scores_in_folds(data, base) {
            return Self::whole(data);
        }
        let samples = data.search.len();
        let fold = samples.div_ceil(FOLDS).max(1);
        let batches = fold.div_ceil(data.search.batch_size().max(1));
        let search = data.search.in_batches_of(fold.div_ceil(batches));
        // A fixed batch stays as it is.
        let fold = batches * search.batch_size();
        let folds: Vec<SearchFold> = (0..samples)
            .step_by(fold)
            .map(|start| {
                let places = start..(start + fold).min(samples);
                let rounding = data.calibration.without(&search.part(places.clone()));
                SearchFold { places, rounding }
            })
            .collect();
        if folds.iter().any(|fold| fold.rounding.is_empty()) {
            return Self::whole(data);
        }
        Self {
            batches: search,
            folds,
        }
    }

    fn whole(data: &OpenData) -> Self {
        let fold = SearchFold {
            places: 0..data.search.len(),
            rounding: data.calibration.clone(),
        };
        Self {
            batches: data.search.clone(),
            folds: vec![fold],
        }
    }
}

/// Whether the samples of a search score in parts, each with weights that are rounded without it.
pub(crate) fn scores_in_folds(data: &OpenData, base: &Plan) -> bool {
    rounds_on_data(base) && !data.search_is_apart
}

/// Whether weights are rounded on calibration data, at whatever width.
pub(super) fn rounds_on_data(base: &Plan) -> bool {
    let rounds = |layer: &LayerPlan| {
        let corrects = layer.corrections.bias || layer.corrections.refit;
        layer.rounding != Rounding::Nearest || corrects
    };
    base.layers().iter().any(rounds)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::plan::Widths;
    use crate::session::{DataRequest, OpenModel};

    fn opened(calibration: Option<PathBuf>, batch_size: Option<usize>) -> (OpenModel, OpenData) {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-models");
        let model = OpenModel::open(&samples.join("signs-resnet.onnx")).unwrap();
        let request = DataRequest {
            calibration,
            calibration_samples: 37,
            batch_size,
            ..DataRequest::new(samples.join("signs/eval"))
        };
        let data = OpenData::open(&model, request).unwrap();
        (model, data)
    }

    fn plan(model: &OpenModel, rounding: Rounding) -> Plan {
        let mut plan = Plan::uniform(model.layers().len(), Widths::FLOAT);
        plan.set_rounding(rounding);
        plan
    }

    fn samples(batches: &Batches) -> Vec<usize> {
        let batches = batches.iter().map(|batch| batch.unwrap().samples);
        batches.flatten().collect()
    }

    #[test]
    fn samples_score_what_is_rounded_without_them() {
        for batch_size in [None, Some(1), Some(8), Some(30)] {
            let (model, data) = opened(None, batch_size);
            let parts = SearchFolds::of(&data, &plan(&model, Rounding::Gptq));
            assert_eq!(parts.folds.len(), FOLDS, "{batch_size:?}");
            let mut end = 0;
            for fold in &parts.folds {
                assert_eq!(fold.places.start, end);
                assert_eq!(end % parts.batches.batch_size(), 0);
                end = fold.places.end;
                let score: HashSet<usize> = samples(&parts.batches.part(fold.places.clone()))
                    .into_iter()
                    .collect();
                let round: HashSet<usize> = samples(&fold.rounding).into_iter().collect();
                assert!(score.is_disjoint(&round));
                assert_eq!(score.len() + round.len(), data.calibration.len());
            }
            assert_eq!(end, data.search.len());
        }
    }

    #[test]
    fn samples_that_do_not_round_score_all_at_once() {
        let (model, data) = opened(None, None);
        let nearest = plan(&model, Rounding::Nearest);
        let gptq = plan(&model, Rounding::Gptq);
        let calibration = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-models/signs/calib");
        let (_, apart) = opened(Some(calibration), None);
        for (data, base) in [(&data, nearest), (&apart, gptq)] {
            let parts = SearchFolds::of(data, &base);
            assert_eq!(parts.folds.len(), 1);
            assert_eq!(parts.folds[0].places, 0..data.search.len());
            assert_eq!(
                samples(&parts.folds[0].rounding),
                samples(&data.calibration)
            );
        }
    }
}
