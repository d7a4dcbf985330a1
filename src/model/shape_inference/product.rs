//! Shapes of broadcasting, matrix products and reductions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Inferred, Inputs, Stop, contradiction, normalized_axis};

/// The common shape of operands: axes are aligned at the end, and a length of 1 is repeated.
pub(super) fn broadcast(shapes: &[&[usize]]) -> Inferred<Vec<usize>> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    (0..rank)
        .map(|axis| {
            let mut common = 1;
            for shape in shapes {
                let length = (axis + shape.len())
                    .checked_sub(rank)
                    .map_or(1, |at| shape[at]);
                if length != 1 && common != 1 && length != common {
                    let shapes: Vec<String> =
                        shapes.iter().map(|shape| format!("{shape:?}")).collect();
                    return contradiction(format!(
                        "shapes {} cannot be broadcast: {common} against {length}",
                        shapes.join(" and ")
                    ));
                }
                if length != 1 {
                    common = length;
                }
            }
            Ok(common)
        })
        .collect()
}

/// Shape of a stack of matrix products, as NumPy's `matmul`.
pub(super) fn mat_mul(a: &[usize], b: &[usize]) -> Inferred<Vec<usize>> {
    let (a_batch, rows, a_inner) = match a {
        [] => return contradiction("an operand is a scalar"),
        [inner] => (&[][..], None, *inner),
        [batch @ .., rows, inner] => (batch, Some(*rows), *inner),
    };
    let (b_batch, b_inner, columns) = match b {
        [] => return contradiction("an operand is a scalar"),
        [inner] => (&[][..], *inner, None),
        [batch @ .., inner, columns] => (batch, *inner, Some(*columns)),
    };
    if a_inner != b_inner {
        return contradiction(format!(
            "{a:?} times {b:?}: the inner lengths {a_inner} and {b_inner} differ"
        ));
    }
    let mut shape = broadcast(&[a_batch, b_batch])?;
    shape.extend(rows);
    shape.extend(columns);
    Ok(shape)
}

pub(super) fn gemm(inputs: &Inputs<'_>, trans_a: bool, trans_b: bool) -> Inferred<Vec<usize>> {
    let (&[a_first, a_last], &[b_first, b_last]) = (inputs.shape(0)?, inputs.shape(1)?) else {
        return contradiction(format!(
            "expected two matrices, but the shapes are {:?} and {:?}",
            inputs.shape(0)?,
            inputs.shape(1)?
        ));
    };
    let (rows, a_inner) = if trans_a {
        (a_last, a_first)
    } else {
        (a_first, a_last)
    };
    let (b_inner, columns) = if trans_b {
        (b_last, b_first)
    } else {
        (b_first, b_last)
    };
    if a_inner != b_inner {
        return contradiction(format!(
            "the input has {a_inner} features, but the weight expects {b_inner}"
        ));
    }
    Ok(vec![rows, columns])
}

pub(super) fn reduce(
    inputs: &Inputs<'_>,
    keep_dims: bool,
    noop_with_empty_axes: bool,
) -> Inferred<Vec<usize>> {
    let shape = inputs.shape(0)?;
    let axes = inputs.optional_integers(1)?.unwrap_or(&[]);
    if axes.is_empty() && noop_with_empty_axes {
        return Ok(shape.to_vec());
    }
    let reduced: BTreeSet<usize> = if axes.is_empty() {
        (0..shape.len()).collect()
    } else {
        axes.iter()
            .map(|axis| normalized_axis(*axis, shape.len()))
            .collect::<Inferred<_>>()?
    };
    Ok(shape
        .iter()
        .enumerate()
        .filter(|(axis, _)| keep_dims || !reduced.contains(axis))
        .map(|(axis, length)| if reduced.contains(&axis) { 1 } else { *length })
        .collect())
}

/// Shape of an `Einsum`; an ellipsis stands for axes that are broadcast.
pub(super) fn einsum(inputs: &Inputs<'_>, equation: &str) -> Inferred<Vec<usize>> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (terms, output) = match equation.split_once("->") {
        Some((terms, output)) => (terms, Some(output)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = terms.split(',').collect();
    let shapes = inputs.shapes()?;
    if terms.len() != shapes.len() {
        return contradiction(format!(
            "equation {equation:?} names {} operands, but there are {}",
            terms.len(),
            shapes.len()
        ));
    }
    let mut lengths = BTreeMap::new();
    let mut ellipses = Vec::new();
    for (term, shape) in terms.iter().zip(shapes) {
        ellipses.extend(bind_term(term, shape, &mut lengths)?);
    }
    let implicit = implicit_output(&terms);
    let output = output.unwrap_or(&implicit);
    let (before, after) = match output.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (output, None),
    };
    let length_of = |letter: char| lengths.get(&letter).copied().ok_or(Stop::Unknown);
    let mut shape: Vec<usize> = before.chars().map(length_of).collect::<Inferred<_>>()?;
    if let Some(after) = after {
        shape.extend(broadcast(&ellipses)?);
        for letter in after.chars() {
            shape.push(length_of(letter)?);
        }
    }
    Ok(shape)
}

/// Notes the length of each letter of a term and returns the axes under its ellipsis.
fn bind_term<'a>(
    term: &str,
    shape: &'a [usize],
    lengths: &mut BTreeMap<char, usize>,
) -> Inferred<Option<&'a [usize]>> {
    let (before, after) = match term.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (term, None),
    };
    let letters = before.len() + after.map_or(0, str::len);
    let fits = if after.is_some() {
        letters <= shape.len()
    } else {
        letters == shape.len()
    };
    if !fits {
        return contradiction(format!("term {term:?} does not fit the shape {shape:?}"));
    }
    let (front, rest) = shape.split_at(before.len());
    let (middle, back) = rest.split_at(rest.len() - after.map_or(0, str::len));
    let letters = before.chars().chain(after.unwrap_or("").chars());
    for (letter, length) in letters.zip(front.iter().chain(back)) {
        let known = lengths.entry(letter).or_insert(*length);
        if *known == 1 {
            *known = *length;
        } else if *length != 1 && *known != *length {
            return contradiction(format!("index {letter:?} is {known} and {length} long"));
        }
    }
    Ok(after.map(|_| middle))
}

/// The output of an equation without `->`: the letters that occur once, in alphabetical order.
fn implicit_output(terms: &[&str]) -> String {
    let letters: String = terms.concat().chars().filter(|c| *c != '.').collect();
    let once: BTreeSet<char> = letters
        .chars()
        .filter(|letter| letters.matches(*letter).count() == 1)
        .collect();
    let ellipsis = if terms.iter().any(|term| term.contains("...")) {
        "..."
    } else {
        ""
    };
    ellipsis.chars().chain(once).collect()
}
