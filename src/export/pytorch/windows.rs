//! Convolutions and poolings as expressions of PyTorch.

use std::fmt::Write as _;

use super::calls::boolean;
use super::paths::tuple;
use super::scope::{Reason, Scope};
use crate::model::{Conv, ConvTranspose, Node, Op, Padding, Pool};

/// Padding that is the same at both ends of every axis; `None` if it is not.
fn symmetric(padding: &Padding, axes: usize) -> Option<Vec<usize>> {
    match padding {
        Padding::Explicit(pads) if pads.is_empty() => Some(vec![0; axes]),
        Padding::Explicit(pads) if pads.len() == 2 * axes && pads[..axes] == pads[axes..] => {
            Some(pads[..axes].to_vec())
        }
        _ => None,
    }
}

/// Lengths as `F.pad` wants them: the last axis first, beginning and end.
fn pad_order(pads: &[usize]) -> Vec<usize> {
    let axes = pads.len() / 2;
    (0..axes)
        .rev()
        .flat_map(|axis| [pads[axis], pads[axes + axis]])
        .collect()
}

fn spatial_axes(conv: &Conv) -> usize {
    let by_padding = match &conv.padding {
        Padding::Explicit(pads) => pads.len() / 2,
        Padding::SameUpper | Padding::SameLower => 0,
    };
    conv.strides.len().max(conv.dilations.len()).max(by_padding)
}

/// Attributes that are not what PyTorch takes by itself.
pub(super) fn convolution_attributes(conv: &Conv) -> String {
    let mut parts = Vec::new();
    if conv.strides.iter().any(|stride| *stride != 1) {
        parts.push(format!("stride={}", tuple(&conv.strides)));
    }
    if let Some(pads) = symmetric(&conv.padding, spatial_axes(conv))
        && pads.iter().any(|pad| *pad != 0)
    {
        parts.push(format!("padding={}", tuple(pads)));
    }
    if conv.dilations.iter().any(|dilation| *dilation != 1) {
        parts.push(format!("dilation={}", tuple(&conv.dilations)));
    }
    if conv.groups != 1 {
        parts.push(format!("groups={}", conv.groups));
    }
    parts.join(", ")
}

/// The attributes of a transposed convolution.
///
/// # Errors
/// A padding that differs at the ends of an axis, or a forced output shape.
pub(super) fn transposed_attributes(transposed: &ConvTranspose) -> Result<String, Reason> {
    let conv = &transposed.conv;
    if transposed.output_shape.is_some() || symmetric(&conv.padding, spatial_axes(conv)).is_none() {
        return Err(
            "PyTorch transposes only convolutions with the same padding at both ends".to_owned(),
        );
    }
    let mut parts = vec![convolution_attributes(conv)];
    if transposed.output_padding.iter().any(|pad| *pad != 0) {
        parts.push(format!(
            "output_padding={}",
            tuple(&transposed.output_padding)
        ));
    }
    parts.retain(|part| !part.is_empty());
    Ok(parts.join(", "))
}

/// The input of a convolution, padded where the convolution cannot do it itself.
///
/// # Errors
/// A weight whose shape is not known.
pub(super) fn padded(
    scope: &Scope<'_>,
    node: &Node,
    conv: &Conv,
    x: &str,
) -> Result<String, Reason> {
    if symmetric(&conv.padding, spatial_axes(conv)).is_some() {
        return Ok(x.to_owned());
    }
    if let Padding::Explicit(pads) = &conv.padding {
        return Ok(format!("F.pad({x}, {})", tuple(pad_order(pads))));
    }
    let dims = scope.dims(node, 1).and_then(|dims| dims.get(2..));
    let kernel = dims.ok_or_else(|| "the shape of its weight is not known".to_owned())?;
    let or_ones = |values: &[usize]| -> Vec<usize> {
        if values.is_empty() {
            vec![1; kernel.len()]
        } else {
            values.to_vec()
        }
    };
    let (strides, dilations) = (or_ones(&conv.strides), or_ones(&conv.dilations));
    Ok(same_padding(
        x,
        kernel,
        &strides,
        &dilations,
        &conv.padding,
        None,
    ))
}

fn same_padding(
    x: &str,
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
    padding: &Padding,
    value: Option<&str>,
) -> String {
    let upper = boolean(*padding == Padding::SameUpper);
    let [kernel, strides, dilations] = [kernel, strides, dilations].map(tuple);
    let value = value.map_or_else(String::new, |value| format!(", {value}"));
    format!("same_padding({x}, {kernel}, {strides}, {dilations}, {upper}{value})")
}

/// A convolution whose weight is computed by the network.
///
/// # Errors
/// What PyTorch cannot do.
pub(super) fn convolution(scope: &mut Scope<'_>, node: &Node) -> Result<String, Reason> {
    let (x, weight) = (scope.tensor(node, 0)?, scope.tensor(node, 1)?);
    let bias = match node.input(2) {
        Some(_) => scope.tensor(node, 2)?,
        None => "None".to_owned(),
    };
    let rank = scope.rank(node, 0).or_else(|| scope.rank(node, 1));
    let axes = rank.ok_or_else(|| "the number of axes of its input is not known".to_owned())?;
    let axes = axes.saturating_sub(2);
    let (name, x, attributes) = match &node.op {
        Op::Conv(conv) => (
            "conv",
            padded(scope, node, conv, &x)?,
            convolution_attributes(conv),
        ),
        Op::ConvTranspose(conv) => ("conv_transpose", x, transposed_attributes(conv)?),
        other => return Err(format!("{} is no convolution", other.name())),
    };
    let attributes = if attributes.is_empty() {
        attributes
    } else {
        format!(", {attributes}")
    };
    Ok(format!(
        "F.{name}{axes}d({x}, {weight}, {bias}{attributes})"
    ))
}

/// `MaxPool` or `AveragePool`.
///
/// # Errors
/// What PyTorch cannot do.
pub(super) fn pool(scope: &mut Scope<'_>, node: &Node) -> Result<String, Reason> {
    let x = scope.tensor(node, 0)?;
    let (pool, is_max) = match &node.op {
        Op::MaxPool(pool) => (pool, true),
        Op::AveragePool(pool) => (pool, false),
        other => return Err(format!("{} is no pooling", other.name())),
    };
    if node.outputs.len() > 1 {
        return Err("the indices of a maximum are not written".to_owned());
    }
    let dilated = pool.dilations.iter().any(|dilation| *dilation != 1);
    if dilated && !is_max {
        return Err("PyTorch averages only over neighbouring elements".to_owned());
    }
    Ok(if is_max {
        max_pool(pool, &x)
    } else {
        average_pool(pool, &x)
    })
}

fn strides(pool: &Pool) -> Vec<usize> {
    if pool.strides.is_empty() {
        vec![1; pool.kernel.len()]
    } else {
        pool.strides.clone()
    }
}

/// Padding at both ends that PyTorch's poolings take: at most half the window.
fn own_padding(pool: &Pool) -> Option<Vec<usize>> {
    let pads = symmetric(&pool.padding, pool.kernel.len())?;
    let fits = pads
        .iter()
        .zip(&pool.kernel)
        .all(|(pad, kernel)| 2 * pad <= *kernel);
    fits.then_some(pads)
}

fn max_pool(pool: &Pool, x: &str) -> String {
    let axes = pool.kernel.len();
    let mut input = x.to_owned();
    let mut attributes = String::new();
    match (own_padding(pool), &pool.padding) {
        (Some(pads), _) if pads.iter().all(|pad| *pad == 0) => {}
        (Some(pads), _) => attributes = format!(", padding={}", tuple(pads)),
        (None, Padding::Explicit(pads)) => {
            input = format!("F.pad({x}, {}, value=-math.inf)", tuple(pad_order(pads)));
        }
        (None, padding) => {
            let dilations = if pool.dilations.is_empty() {
                vec![1; axes]
            } else {
                pool.dilations.clone()
            };
            let strides = strides(pool);
            input = same_padding(
                x,
                &pool.kernel,
                &strides,
                &dilations,
                padding,
                Some("-math.inf"),
            );
        }
    }
    if pool.dilations.iter().any(|dilation| *dilation != 1) {
        write!(attributes, ", dilation={}", tuple(&pool.dilations)).ok();
    }
    if pool.ceil_mode {
        attributes.push_str(", ceil_mode=True");
    }
    let (kernel, strides) = (tuple(&pool.kernel), tuple(strides(pool)));
    format!("F.max_pool{axes}d({input}, {kernel}, {strides}{attributes})")
}

fn average_pool(pool: &Pool, x: &str) -> String {
    let axes = pool.kernel.len();
    let (kernel, strides) = (tuple(&pool.kernel), tuple(strides(pool)));
    let (ceil, count) = (boolean(pool.ceil_mode), boolean(pool.count_include_pad));
    match (own_padding(pool), &pool.padding) {
        (Some(pads), _) => {
            let mut attributes = String::new();
            if pads.iter().any(|pad| *pad != 0) {
                attributes = format!(", padding={}, count_include_pad={count}", tuple(pads));
            }
            if pool.ceil_mode {
                attributes.push_str(", ceil_mode=True");
            }
            format!("F.avg_pool{axes}d({x}, {kernel}, {strides}{attributes})")
        }
        (None, Padding::Explicit(pads)) => {
            let pads = tuple(pad_order(pads));
            format!("average_pool({x}, {kernel}, {strides}, {pads}, {ceil}, {count})")
        }
        (None, _) => {
            let upper = boolean(pool.padding == Padding::SameUpper);
            format!("same_average_pool({x}, {kernel}, {strides}, {upper}, {count})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool_of(padding: Padding) -> Pool {
        Pool {
            kernel: vec![3, 3],
            strides: vec![2, 2],
            padding,
            dilations: Vec::new(),
            ceil_mode: false,
            count_include_pad: false,
        }
    }

    #[test]
    fn padding_that_differs_at_the_ends_is_done_before() {
        let even = pool_of(Padding::Explicit(vec![1; 4]));
        assert_eq!(
            max_pool(&even, "x"),
            "F.max_pool2d(x, (3, 3), (2, 2), padding=(1, 1))"
        );
        let uneven = pool_of(Padding::Explicit(vec![0, 1, 2, 3]));
        assert_eq!(
            max_pool(&uneven, "x"),
            "F.max_pool2d(F.pad(x, (1, 3, 0, 2), value=-math.inf), (3, 3), (2, 2))"
        );
        assert_eq!(
            average_pool(&uneven, "x"),
            "average_pool(x, (3, 3), (2, 2), (1, 3, 0, 2), False, False)"
        );
        let same = pool_of(Padding::SameUpper);
        assert!(
            max_pool(&same, "x")
                .contains("same_padding(x, (3, 3), (2, 2), (1, 1), True, -math.inf)")
        );
    }

    #[test]
    fn attributes_are_named_where_they_matter() {
        let conv = Conv {
            strides: vec![2, 2],
            padding: Padding::Explicit(vec![1; 4]),
            dilations: vec![1, 1],
            groups: 8,
        };
        assert_eq!(
            convolution_attributes(&conv),
            "stride=(2, 2), padding=(1, 1), groups=8"
        );
        let transposed = ConvTranspose {
            conv: Conv {
                padding: Padding::SameUpper,
                ..conv
            },
            output_padding: Vec::new(),
            output_shape: None,
        };
        assert!(transposed_attributes(&transposed).is_err());
    }
}
