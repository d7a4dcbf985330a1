//! `quantscope info`: what a model is made of.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Exit;
use super::args::InfoArguments;
use super::number::{Decibel, count};
use super::output;
use super::scores::ScreenReport;
use crate::engine::{LayerScreen, Screens, screen_weights};
use crate::jobs::CancelToken;
use crate::model::{Layer, ValueId};
use crate::plan::{Plan, Widths};
use crate::session::{OpenModel, Session, SessionError};

#[derive(Serialize)]
struct Info<'a> {
    model: ModelInfo<'a>,
    layers: Vec<LayerInfo<'a>>,
    coverage: Vec<CoverageInfo<'a>>,
}

#[derive(Serialize)]
struct ModelInfo<'a> {
    name: &'a str,
    format: &'static str,
    architecture: Option<&'a str>,
    sha256: &'a str,
    parameters: u64,
    macs: u64,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
}

#[derive(Serialize)]
struct ValueInfo {
    name: String,
    shape: Option<Vec<serde_json::Value>>,
    dtype: Option<&'static str>,
}

#[derive(Serialize)]
struct LayerInfo<'a> {
    name: &'a str,
    op: &'a str,
    weight_shape: &'a [usize],
    parameters: u64,
    macs: Option<u64>,
    input: String,
    output: String,
    group: Option<usize>,
    screen: Option<ScreenInfo>,
}

/// What the weight by itself says, before any data is run.
#[derive(Serialize)]
struct ScreenInfo {
    #[serde(flatten)]
    shape: Option<ScreenReport>,
    /// SQNR of the weight at each width, symmetric with one scale a channel.
    weight_sqnr_db: BTreeMap<String, Decibel>,
}

#[derive(Serialize)]
struct CoverageInfo<'a> {
    op: &'a str,
    count: usize,
    status: &'static str,
    reason: &'a str,
}

pub(super) fn run(arguments: &InfoArguments) -> Result<Exit, SessionError> {
    let model = OpenModel::open(&arguments.model)?;
    // The table does not show them, and they read every weight.
    let screens = arguments.output.json.then(|| screens(&model)).flatten();
    let info = info(&model, screens.as_ref());
    if arguments.output.json {
        output::json(&info)?;
    } else {
        print(&info);
    }
    Ok(Exit::Done)
}

/// `None` where a weight cannot be quantized; the model can still be described.
fn screens(model: &OpenModel) -> Option<Screens> {
    let plan = Plan::uniform(model.layers().len(), Widths::FLOAT);
    screen_weights(
        model.graph(),
        model.layers(),
        &plan,
        &Session::screening_widths(),
        &CancelToken::default(),
    )
    .ok()
}

fn info<'a>(model: &'a OpenModel, screens: Option<&Screens>) -> Info<'a> {
    let metadata = model.graph().metadata();
    let values = |ids: &[ValueId]| ids.iter().map(|id| value_info(model, *id)).collect();
    Info {
        model: ModelInfo {
            name: &metadata.name,
            format: metadata.format.name(),
            architecture: metadata.architecture.as_deref(),
            sha256: &metadata.sha256,
            parameters: model.parameters(),
            macs: model.macs(),
            inputs: values(model.graph().inputs()),
            outputs: values(model.graph().outputs()),
        },
        layers: model
            .layers()
            .iter()
            .enumerate()
            .map(|(index, layer)| {
                let found = screens
                    .and_then(|screens| Some(screen_info(screens, screens.layers.get(index)?)));
                layer_info(model, layer, found)
            })
            .collect(),
        coverage: model
            .coverage
            .iter()
            .map(|row| CoverageInfo {
                op: &row.op,
                count: row.count,
                status: row.status.name(),
                reason: &row.reason,
            })
            .collect(),
    }
}

fn value_info(model: &OpenModel, id: ValueId) -> ValueInfo {
    let value = model.graph().value(id);
    ValueInfo {
        name: value.name.clone(),
        shape: value.shape.as_ref().map(|shape| {
            shape
                .iter()
                .map(|dim| match dim {
                    crate::model::Dim::Fixed(length) => (*length).into(),
                    crate::model::Dim::Symbol(name) => name.clone().into(),
                })
                .collect()
        }),
        dtype: value.element_type.map(crate::model::ElementType::name),
    }
}

fn screen_info(screens: &Screens, layer: &LayerScreen) -> ScreenInfo {
    let errors = screens.widths.iter().zip(&layer.errors);
    ScreenInfo {
        shape: layer.weight.map(ScreenReport::from),
        weight_sqnr_db: errors
            .map(|(width, errors)| (width.to_string(), Decibel(Some(errors.sqnr_db()))))
            .collect(),
    }
}

fn layer_info<'a>(
    model: &'a OpenModel,
    layer: &'a Layer,
    screen: Option<ScreenInfo>,
) -> LayerInfo<'a> {
    LayerInfo {
        name: &layer.name,
        op: &layer.op,
        weight_shape: &layer.weight_shape,
        parameters: layer.parameters,
        macs: layer.macs,
        input: model.graph().value(layer.input).name.clone(),
        output: model.graph().value(layer.output).name.clone(),
        group: None,
        screen,
    }
}

fn print(info: &Info<'_>) {
    output::line(&format!(
        "{} ({}{}): {} parameters, {} MACs per sample, {} layers",
        info.model.name,
        info.model.format,
        info.model
            .architecture
            .map_or_else(String::new, |name| format!(", {name}")),
        count(info.model.parameters as f64),
        count(info.model.macs as f64),
        info.layers.len()
    ));
    for layer in &info.layers {
        output::line(&format!(
            "  {:<48} {:<14} {:<22} {:>10} parameters {:>10} MACs",
            layer.name,
            layer.op,
            format!("{:?}", layer.weight_shape),
            count(layer.parameters as f64),
            layer
                .macs
                .map_or_else(|| "?".to_owned(), |macs| count(macs as f64)),
        ));
    }
    output::line("Coverage");
    for row in &info.coverage {
        output::line(&format!(
            "  {:>4} × {:<20} {:<12} {}",
            row.count, row.op, row.status, row.reason
        ));
    }
}
