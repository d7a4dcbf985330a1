//! `Resize` as `F.interpolate`.

use super::paths::{float, tuple};
use super::scope::{Reason, Scope};
use crate::model::{CoordinateTransform, NearestRounding, Node, Resize, ResizeMode};

/// The call that resamples.
///
/// PyTorch's nearest neighbour is that of asymmetric coordinates rounded down (`nearest`) or of the centre
/// of pixels (`nearest-exact`); its linear and cubic ones take half pixels or aligned corners, and the
/// cubic one has the coefficient −0.75.
///
/// # Errors
/// Coordinates that PyTorch does not have, or scales that are not constant.
pub(super) fn interpolate(
    scope: &mut Scope<'_>,
    node: &Node,
    resize: Resize,
) -> Result<String, Reason> {
    use CoordinateTransform as Transform;
    let x = scope.tensor(node, 0)?;
    let dims = scope.dims(node, 0).map(<[usize]>::to_vec);
    let dims = dims.ok_or_else(|| "the shape of its input is not known".to_owned())?;
    let sizes = scope
        .known_integers(node, 3)
        .filter(|sizes| !sizes.is_empty());
    let scales = scope
        .known_floats(node, 2)
        .filter(|scales| !scales.is_empty());
    let axes = dims.len().saturating_sub(2);
    let target = match (&sizes, &scales) {
        (Some(sizes), _) if sizes.len() == dims.len() => {
            format!("size={}", tuple(&sizes[2..]))
        }
        (None, Some(scales)) if scales.len() == dims.len() && scales[..2] == [1.0, 1.0] => {
            let scales = scales[2..].iter().map(|scale| float(*scale));
            format!("scale_factor={}", tuple(scales))
        }
        _ => {
            return Err(
                "its sizes are not constant, or change the batch or the channels".to_owned(),
            );
        }
    };
    let aligned = resize.coordinates == Transform::AlignCorners;
    let half = matches!(
        resize.coordinates,
        Transform::HalfPixel | Transform::PytorchHalfPixel
    );
    // Halves between two pixels are rounded up by PyTorch; factors of whole numbers have none.
    let whole = scales.iter().flatten().all(|scale| scale.fract() == 0.0) && sizes.is_none();
    let nearest = match resize.rounding {
        NearestRounding::RoundPreferCeil => true,
        NearestRounding::RoundPreferFloor => whole,
        NearestRounding::Ceil | NearestRounding::Floor => false,
    };
    let mode = match (resize.mode, axes) {
        (ResizeMode::Nearest, _)
            if resize.coordinates == Transform::Asymmetric
                && resize.rounding == NearestRounding::Floor =>
        {
            "nearest"
        }
        (ResizeMode::Nearest, _) if half && nearest => "nearest-exact",
        (ResizeMode::Linear, 1) if half || aligned => "linear",
        (ResizeMode::Linear, 2) if half || aligned => "bilinear",
        (ResizeMode::Linear, 3) if half || aligned => "trilinear",
        (ResizeMode::Cubic, 2) if half || aligned => "bicubic",
        _ => {
            return Err(format!(
                "PyTorch does not resample with {:?}, {:?} and {:?}",
                resize.mode, resize.coordinates, resize.rounding
            ));
        }
    };
    let corners = match resize.mode {
        ResizeMode::Nearest => "",
        _ if aligned => ", align_corners=True",
        _ => ", align_corners=False",
    };
    Ok(format!(
        "F.interpolate({x}, {target}, mode=\"{mode}\"{corners})"
    ))
}
