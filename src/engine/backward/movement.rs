//! Gradients of operators that move elements without changing them.
//!
//! Run on the places of its input's elements instead of the elements, such an operator tells where each
//! element of the output came from; the gradient goes back there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};

use super::node::Passed;
use crate::engine::error::OpError;
use crate::engine::ops;
use crate::engine::slices::with_f32;
use crate::engine::value::Value;
use crate::model::{Op, PadMode, ValueId};

/// Integers up to here are exact in `f32`.
const MOST_PLACES: usize = 1 << 24;

/// Places are kept up to so many in all.
const MOST_KEPT: usize = 1 << 24;

/// Where the elements of earlier outputs came from.
///
/// A batch that goes through in pieces asks for the same places again and again.
#[derive(Debug, Default)]
pub(super) struct KnownPlaces(Mutex<HashMap<Key, Arc<Places>>>);

/// The first output of a node, and the shape of the input.
type Key = (Option<ValueId>, Vec<usize>);

/// For each output, the place of each of its elements in the input; what comes from elsewhere is beyond.
type Places = Vec<Vec<u32>>;

impl KnownPlaces {
    /// The places of a node whose other inputs are constants.
    fn get_or(
        &self,
        passed: &Passed<'_>,
        dims: &[usize],
        find: impl FnOnce() -> Result<Places, OpError>,
    ) -> Result<Arc<Places>, OpError> {
        let mut others = passed.node.inputs.iter().skip(1).flatten();
        if !others.all(|id| passed.graph.is_initializer(*id)) {
            return find().map(Arc::new);
        }
        let key = (passed.node.output(), dims.to_vec());
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(find()?);
        let count = |places: &Places| places.iter().map(Vec::len).sum::<usize>();
        let mut known = lock();
        if known.values().map(|places| count(places)).sum::<usize>() + count(&found) <= MOST_KEPT {
            known.insert(key, Arc::clone(&found));
        }
        Ok(found)
    }
}

/// The gradients of the inputs that are moved.
pub(super) fn movement(
    known: &KnownPlaces,
    passed: &Passed<'_>,
    needed: &[bool],
) -> Result<Vec<Option<Value>>, OpError> {
    match &passed.node.op {
        Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze => {
            let dims = passed.input(0)?.dims();
            let gradient = passed.gradient()?.plain()?.contiguous()?;
            Ok(vec![Some(gradient.reshape(dims)?.into())])
        }
        Op::Concat { axis } => concat(*axis, passed),
        Op::Where => {
            let parts = [1, 2].map(|index| {
                if needed.get(index) == Some(&true) {
                    by_places(known, passed, index).map(Some)
                } else {
                    Ok(None)
                }
            });
            let [first, second] = parts;
            Ok(vec![None, first?, second?])
        }
        Op::Slice
        | Op::Gather { .. }
        | Op::Split { .. }
        | Op::Expand
        | Op::Tile
        | Op::Transpose { .. }
        | Op::Resize(_)
        | Op::Pad { .. } => Ok(vec![Some(by_places(known, passed, 0)?)]),
        other => Err(OpError::Unsupported {
            reason: format!(
                "the gradient of {} is not implemented; use the measured sweep instead",
                other.name()
            ),
        }),
    }
}

fn concat(axis: i64, passed: &Passed<'_>) -> Result<Vec<Option<Value>>, OpError> {
    let gradient = passed.gradient()?.plain()?;
    let rank = gradient.rank() as i64;
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis })
        .map_err(|_| OpError::Shape(format!("axis {axis} does not exist")))?;
    let mut start = 0;
    (0..passed.node.inputs.len())
        .map(|index| {
            let dims = passed.input(index)?.dims();
            let length = dims.get(axis).copied().unwrap_or(0);
            let part = gradient.narrow(axis, start, length)?.contiguous()?;
            start += length;
            Ok(Some(part.into()))
        })
        .collect()
}

/// Takes every element of the gradient to where that of the output came from.
fn by_places(known: &KnownPlaces, passed: &Passed<'_>, index: usize) -> Result<Value, OpError> {
    let dims = passed.input(index)?.dims();
    let count: usize = dims.iter().product();
    let places = if matches!(passed.node.op, Op::Where) {
        Arc::new(places_of(passed, index, &dims)?)
    } else {
        known.get_or(passed, &dims, || places_of(passed, index, &dims))?
    };
    let mut sums = vec![0.0f32; count];
    for (moved, gradient) in places.iter().zip(passed.gradients) {
        let Some(gradient) = gradient else { continue };
        with_f32(&gradient.plain()?, |gradient| {
            for (place, value) in moved.iter().zip(gradient) {
                if let Some(sum) = sums.get_mut(*place as usize) {
                    *sum += value;
                }
            }
            Ok(())
        })?;
    }
    Ok(Tensor::from_vec(sums, dims.as_slice(), &Device::Cpu)?.into())
}

/// Runs the operator on places, counted from 1 so that 0 is what comes from elsewhere.
fn places_of(passed: &Passed<'_>, index: usize, dims: &[usize]) -> Result<Places, OpError> {
    let count: usize = dims.iter().product();
    if count > MOST_PLACES {
        return Err(OpError::TooLarge {
            shape: dims.to_vec(),
            limit: MOST_PLACES,
        });
    }
    let mut inputs = passed.plain_inputs()?;
    let places: Vec<f32> = (1..=count).map(|place| place as f32).collect();
    for (other, input) in inputs.iter_mut().enumerate() {
        let is_moved = other == 0 || matches!(passed.node.op, Op::Where);
        if let (true, Some(tensor)) = (is_moved && other != index, input.as_ref())
            && tensor.dtype() == candle_core::DType::F32
        {
            *input = Some(tensor.zeros_like()?);
        }
    }
    if matches!(
        passed.node.op,
        Op::Pad {
            mode: PadMode::Constant
        }
    ) && let Some(value) = inputs.get_mut(2)
    {
        *value = None;
    }
    inputs[index] = Some(Tensor::from_vec(places, dims, &Device::Cpu)?);
    let outputs = ops::evaluate(&passed.node.op, &inputs, passed.gradients.len())?;
    let places = |moved: &Tensor| {
        with_f32(moved, |moved| {
            Ok(moved
                .iter()
                .map(|place| (*place as u32).wrapping_sub(1))
                .collect())
        })
    };
    Ok(outputs
        .iter()
        .map(places)
        .collect::<candle_core::Result<_>>()?)
}
