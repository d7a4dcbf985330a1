//! `Einsum`.
//!
//! Operands are contracted from left to right. A contraction brings both sides to the form
//! `[shared, rows, depth] · [shared, depth, columns]` and is one batched matrix product.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};

use super::Inputs;
use super::matmul::batched_product;
use super::reduce::sum_rows;
use super::strided::{View, materialize};
use crate::engine::error::OpError;

/// Axes behind an ellipsis are labelled from here on, counted from the last one.
const ELLIPSIS_LABELS: u32 = 0xE000;

/// Evaluates an equation such as `bhid,bhjd->bhij` (ONNX Einsum-12).
pub(super) fn einsum(equation: &str, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let mut operands = Vec::with_capacity(inputs.len());
    let (terms, output) = parse(equation, inputs)?;
    for (index, labels) in terms.into_iter().enumerate() {
        inputs.expect_type(index, DType::F32, "f32")?;
        operands.push(Operand::new(inputs.required(index)?, &labels)?);
    }
    let sizes = label_sizes(equation, &operands)?;
    if let Some(label) = output.iter().find(|label| !sizes.contains_key(label)) {
        return Err(malformed(equation, &format!("{label:?} is in no input")));
    }
    let mut operands = operands.into_iter();
    let Some(mut result) = operands.next() else {
        return Err(malformed(equation, "it has no inputs"));
    };
    while let Some(next) = operands.next() {
        let mut needed: BTreeSet<char> = output.iter().copied().collect();
        needed.extend(operands.as_slice().iter().flat_map(|o| &o.labels));
        result = contract(&result, &next, &needed, &sizes)?;
    }
    let result = result.summed_to(&output.iter().copied().collect(), &sizes)?;
    materialize(&result.tensor, &result.view(&output, &sizes))
}

fn malformed(equation: &str, reason: &str) -> OpError {
    OpError::Message(format!("equation {equation:?} is not valid: {reason}"))
}

type Labels = Vec<char>;

/// The labels of every input and of the output.
fn parse(equation: &str, inputs: &Inputs<'_>) -> Result<(Vec<Labels>, Labels), OpError> {
    let compact: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match compact.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (compact.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != inputs.len() {
        let reason = format!("{} terms for {} inputs", terms.len(), inputs.len());
        return Err(malformed(equation, &reason));
    }
    let mut labels = Vec::with_capacity(terms.len());
    let mut hidden = 0;
    for (index, term) in terms.into_iter().enumerate() {
        let rank = inputs.required(index)?.rank();
        let named = term.chars().filter(|c| *c != '.').count();
        let behind = rank.saturating_sub(named);
        let term = expand_ellipsis(equation, term, behind)?;
        if term.len() != rank {
            let reason = format!("term {index} does not fit an input of rank {rank}");
            return Err(malformed(equation, &reason));
        }
        hidden = hidden.max(term.iter().filter(|c| !c.is_ascii_alphabetic()).count());
        labels.push(term);
    }
    let output = match right {
        Some(right) => expand_ellipsis(equation, right, hidden)?,
        None => implicit_output(&labels, hidden),
    };
    let distinct: BTreeSet<&char> = output.iter().collect();
    if distinct.len() != output.len() {
        return Err(malformed(equation, "a label is in the output twice"));
    }
    Ok((labels, output))
}

fn expand_ellipsis(equation: &str, term: &str, behind: usize) -> Result<Labels, OpError> {
    let hidden: String = (0..behind as u32)
        .rev()
        .filter_map(|axis| char::from_u32(ELLIPSIS_LABELS + axis))
        .collect();
    let labels: Labels = term.replacen("...", &hidden, 1).chars().collect();
    let known = |c: &char| c.is_ascii_alphabetic() || hidden.contains(*c);
    match labels.iter().find(|c| !known(c)) {
        Some(unknown) => Err(malformed(equation, &format!("{unknown:?} is no label"))),
        None => Ok(labels),
    }
}

/// The axes behind the ellipsis, then every letter that is used once, in alphabetical order.
fn implicit_output(terms: &[Labels], hidden: usize) -> Labels {
    let mut uses: BTreeMap<char, usize> = BTreeMap::new();
    for label in terms.iter().flatten().filter(|c| c.is_ascii_alphabetic()) {
        *uses.entry(*label).or_default() += 1;
    }
    let behind = (0..hidden as u32).rev();
    behind
        .filter_map(|axis| char::from_u32(ELLIPSIS_LABELS + axis))
        .chain(
            uses.iter()
                .filter(|(_, n)| **n == 1)
                .map(|(label, _)| *label),
        )
        .collect()
}

type Sizes = BTreeMap<char, usize>;

/// The length of every label; 1 gives way to any other.
fn label_sizes(equation: &str, operands: &[Operand]) -> Result<Sizes, OpError> {
    let mut sizes = Sizes::new();
    for operand in operands {
        for (&label, &length) in operand.labels.iter().zip(operand.tensor.dims()) {
            let known = sizes.entry(label).or_insert(length);
            if *known == 1 {
                *known = length;
            } else if length != 1 && length != *known {
                return Err(OpError::Shape(format!(
                    "label {label:?} of equation {equation:?} has lengths {known} and {length}"
                )));
            }
        }
    }
    Ok(sizes)
}

/// A contiguous tensor whose axes have distinct labels.
struct Operand {
    tensor: Tensor,
    labels: Labels,
}

impl Operand {
    /// Takes the diagonal where a label is repeated.
    fn new(x: &Tensor, labels: &[char]) -> Result<Self, OpError> {
        let whole = View::of(x.dims());
        let mut distinct = Labels::new();
        let mut diagonal = View {
            shape: Vec::new(),
            strides: Vec::new(),
            offset: 0,
        };
        for ((&label, &length), &stride) in labels.iter().zip(&whole.shape).zip(&whole.strides) {
            match distinct.iter().position(|known| *known == label) {
                None => {
                    distinct.push(label);
                    diagonal.shape.push(length);
                    diagonal.strides.push(stride);
                }
                Some(axis) if diagonal.shape[axis] == length => diagonal.strides[axis] += stride,
                Some(axis) => {
                    return Err(OpError::Shape(format!(
                        "label {label:?} has lengths {} and {length} in one input",
                        diagonal.shape[axis]
                    )));
                }
            }
        }
        Ok(Self {
            tensor: materialize(x, &diagonal)?,
            labels: distinct,
        })
    }

    /// The axes in the order of `labels`, each of which the operand has; length 1 is repeated.
    fn view(&self, labels: &[char], sizes: &Sizes) -> View {
        let whole = View::of(self.tensor.dims());
        let axes = labels.iter().filter_map(|label| {
            let axis = self.labels.iter().position(|own| own == label)?;
            let size = *sizes.get(label)?;
            let repeats = whole.shape[axis] != size;
            Some((size, if repeats { 0 } else { whole.strides[axis] }))
        });
        let (shape, strides) = axes.unzip();
        View {
            shape,
            strides,
            offset: 0,
        }
    }

    /// Sums over all labels that are not `needed`.
    fn summed_to(&self, needed: &BTreeSet<char>, sizes: &Sizes) -> Result<Self, OpError> {
        let (kept, dropped): (Labels, Labels) =
            self.labels.iter().partition(|label| needed.contains(label));
        if dropped.is_empty() {
            return Ok(Self {
                tensor: self.tensor.clone(),
                labels: self.labels.clone(),
            });
        }
        let rows = materialize(
            &self.tensor,
            &self.view(&[&kept[..], &dropped[..]].concat(), sizes),
        )?;
        Ok(Self {
            tensor: sum_rows(
                &rows,
                lengths(&dropped, sizes).iter().product(),
                &lengths(&kept, sizes),
            )?,
            labels: kept,
        })
    }
}

fn lengths(labels: &[char], sizes: &Sizes) -> Vec<usize> {
    labels
        .iter()
        .filter_map(|label| sizes.get(label))
        .copied()
        .collect()
}

/// Multiplies two operands and sums over the labels that are not `needed`.
fn contract(
    a: &Operand,
    b: &Operand,
    needed: &BTreeSet<char>,
    sizes: &Sizes,
) -> Result<Operand, OpError> {
    let with = |other: &Operand| needed.iter().chain(&other.labels).copied().collect();
    let (a, b) = (a.summed_to(&with(b), sizes)?, b.summed_to(&with(a), sizes)?);
    let (both, rows): (Labels, Labels) = a.labels.iter().partition(|l| b.labels.contains(l));
    let (shared, depth): (Labels, Labels) = both.iter().partition(|l| needed.contains(l));
    let columns: Labels = b
        .labels
        .iter()
        .copied()
        .filter(|label| !a.labels.contains(label))
        .collect();
    let count = |labels: &[char]| lengths(labels, sizes).iter().product::<usize>();
    let matrices = |operand: &Operand, order: [&[char]; 3]| -> Result<Tensor, OpError> {
        let view = operand.view(&order.concat(), sizes);
        let shape = order.map(count);
        Ok(materialize(&operand.tensor, &view)?.reshape(&shape[..])?)
    };
    let product = batched_product(
        &matrices(&a, [&shared, &rows, &depth])?,
        &matrices(&b, [&shared, &depth, &columns])?,
    )?;
    let labels = [shared, rows, columns].concat();
    Ok(Operand {
        tensor: product.reshape(lengths(&labels, sizes))?,
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use candle_core::Tensor;

    use crate::model::Op;

    fn op(equation: &str) -> Op {
        Op::Einsum {
            equation: equation.to_owned(),
        }
    }

    fn ramp(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
        f32s(shape, &values)
    }

    #[test]
    fn products_of_two_operands() {
        let (x, y) = (ramp(&[2, 3, 4]), ramp(&[2, 5, 4]));
        let product = x.matmul(&y.t().expect("transposes")).expect("multiplies");
        let cases = [
            ("bid,bjd->bij", product.clone()),
            (" b i d , b j d -> b i j ", product.clone()),
            (
                "bid,bjd->jbi",
                product.permute((2, 0, 1)).expect("permutes"),
            ),
            ("bid,bjd", product.sum(0).expect("sums")),
            ("...id,...jd->...ij", product.clone()),
            ("...id,...jd", product),
        ];
        for (equation, expected) in cases {
            let result = run(&op(equation), &[x.clone(), y.clone()]);
            assert_close(&result, &expected.contiguous().expect("copies"));
        }
    }

    #[test]
    fn one_operand_is_permuted_summed_or_cut_diagonally() {
        let x = f32s(&[2, 2], &[1., 2., 3., 4.]);
        for (equation, expected) in [
            ("ij->ji", f32s(&[2, 2], &[1., 3., 2., 4.])),
            ("ij->i", f32s(&[2], &[3., 7.])),
            ("ij->", f32s(&[], &[10.])),
            ("ii->i", f32s(&[2], &[1., 4.])),
            ("ii", f32s(&[], &[5.])),
            ("ba", f32s(&[2, 2], &[1., 3., 2., 4.])),
        ] {
            assert_close(&run(&op(equation), std::slice::from_ref(&x)), &expected);
        }
    }

    #[test]
    fn outer_element_wise_and_triple_products() {
        let (a, b) = (f32s(&[2], &[2., 3.]), f32s(&[2], &[5., 7.]));
        for (equation, expected) in [
            ("i,j->ij", f32s(&[2, 2], &[10., 14., 15., 21.])),
            ("i,i->i", f32s(&[2], &[10., 21.])),
            ("i,i->", f32s(&[], &[31.])),
            ("i,j->j", f32s(&[2], &[25., 35.])),
            ("i,j->", f32s(&[], &[60.])),
        ] {
            assert_close(&run(&op(equation), &[a.clone(), b.clone()]), &expected);
        }
        let triple = run(&op("i,j,i->ji"), &[a.clone(), b, a]);
        assert_close(&triple, &f32s(&[2, 2], &[20., 45., 28., 63.]));
    }

    #[test]
    fn bad_equations_are_explained() {
        let x = ramp(&[2, 3]);
        for (equation, part) in [
            ("ij,jk->ik", "2 terms for 1 inputs"),
            ("ijk->i", "term 0 does not fit an input of rank 2"),
            ("ij->k", "'k' is in no input"),
            ("ij->ii", "a label is in the output twice"),
            ("i1->i", "'1' is no label"),
            ("ii->i", "label 'i' has lengths 2 and 3"),
        ] {
            let error = fail(&op(equation), std::slice::from_ref(&x)).to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = fail(&op("ij,ij->ij"), &[x, ramp(&[2, 4])]).to_string();
        assert!(
            error.contains("'j'") && error.contains("lengths 3 and 4"),
            "{error}"
        );
    }
}
