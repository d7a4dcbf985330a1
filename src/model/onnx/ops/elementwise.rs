//! Functions of single elements.

use super::{NodeReader, Reading, Refusal};
use crate::model::onnx::tensor::element_type;
use crate::model::{Binary, ElementType, Op, Unary, Variadic};

pub(super) fn read(reader: &mut NodeReader<'_>) -> Reading {
    if let Some(op) = unary(reader)? {
        reader.expect_inputs(1, 1)?;
        return Ok(Some(Op::Unary(op)));
    }
    if let Some(op) = binary(reader)? {
        reader.expect_inputs(2, 2)?;
        return Ok(Some(Op::Binary(op)));
    }
    let op = match reader.proto.op_type.as_str() {
        "Cast" => cast(reader)?,
        "Clip" => clip(reader)?,
        "Dropout" => dropout(reader)?,
        "Identity" => {
            reader.expect_inputs(1, 1)?;
            Op::Identity
        }
        "Max" => variadic(reader, Variadic::Max)?,
        "Mean" => variadic(reader, Variadic::Mean)?,
        "Min" => variadic(reader, Variadic::Min)?,
        "Sum" => variadic(reader, Variadic::Sum)?,
        "Where" => {
            reader.expect_inputs(3, 3)?;
            Op::Where
        }
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn unary(reader: &mut NodeReader<'_>) -> Result<Option<Unary>, Refusal> {
    let attributes = &mut reader.attributes;
    Ok(Some(match reader.proto.op_type.as_str() {
        "Abs" => Unary::Abs,
        "Ceil" => Unary::Ceil,
        "Elu" => Unary::Elu {
            alpha: attributes.float_or("alpha", 1.0)?,
        },
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Floor" => Unary::Floor,
        "Gelu" => Unary::Gelu {
            tanh_approximation: match attributes.string_or("approximate", "none")?.as_str() {
                "none" => false,
                "tanh" => true,
                other => {
                    return Err(Refusal(format!(
                        "attribute \"approximate\" is {other:?}, expected \"none\" or \"tanh\""
                    )));
                }
            },
        },
        "HardSigmoid" => Unary::HardSigmoid {
            alpha: attributes.float_or("alpha", 0.2)?,
            beta: attributes.float_or("beta", 0.5)?,
        },
        "HardSwish" => Unary::HardSwish,
        "LeakyRelu" => Unary::LeakyRelu {
            alpha: attributes.float_or("alpha", 0.01)?,
        },
        "Log" => Unary::Log,
        "Neg" => Unary::Neg,
        "Not" => Unary::Not,
        "Reciprocal" => Unary::Reciprocal,
        "Relu" => Unary::Relu,
        "Round" => Unary::Round,
        "Sigmoid" => Unary::Sigmoid,
        "Sign" => Unary::Sign,
        "Softplus" => Unary::Softplus,
        "Sqrt" => Unary::Sqrt,
        "Tanh" => Unary::Tanh,
        _ => return Ok(None),
    }))
}

fn binary(reader: &mut NodeReader<'_>) -> Result<Option<Binary>, Refusal> {
    Ok(Some(match reader.proto.op_type.as_str() {
        "Add" => Binary::Add,
        "And" => Binary::And,
        "Div" => Binary::Div,
        "Equal" => Binary::Equal,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Mod" => Binary::Mod {
            fmod: reader.attributes.flag_or("fmod", false)?,
        },
        "Mul" => Binary::Mul,
        "Or" => Binary::Or,
        "Pow" => Binary::Pow,
        "PRelu" => Binary::PRelu,
        "Sub" => Binary::Sub,
        _ => return Ok(None),
    }))
}

fn variadic(reader: &NodeReader<'_>, op: Variadic) -> Result<Op, Refusal> {
    reader.expect_inputs(reader.inputs.len().max(1), usize::MAX)?;
    Ok(Op::Variadic(op))
}

fn cast(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(1, 1)?;
    let number = reader.attributes.int_or("to", 0)?;
    let unsupported = |name: String| {
        Refusal(format!(
            "attribute \"to\" is {name}, which is not supported"
        ))
    };
    let number = i32::try_from(number).map_err(|_| unsupported(number.to_string()))?;
    let to: ElementType = element_type(number).map_err(unsupported)?;
    // It concerns the float8 types alone, which are refused above.
    reader.attributes.ignore("saturate");
    Ok(Op::Cast { to })
}

/// Before opset 11 the bounds are attributes.
fn clip(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    if reader.opset < 11 {
        reader.expect_inputs(1, 1)?;
        reader.float_to_input("min", 1)?;
        reader.float_to_input("max", 2)?;
    }
    reader.expect_inputs(1, 3)?;
    Ok(Op::Clip)
}

/// Dropout passes its input through at inference; ratio and seed matter to training alone.
fn dropout(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(1, 3)?;
    if let Some(training) = reader.input(2) {
        let off = reader
            .builder
            .initializers
            .get(&training)
            .and_then(|initializer| {
                initializer
                    .tensor()
                    .ok()?
                    .flatten_all()
                    .ok()?
                    .to_vec1::<u8>()
                    .ok()
            })
            .is_some_and(|flags| flags.iter().all(|flag| *flag == 0));
        if !off {
            return Err(Refusal(
                "its input \"training_mode\" is not a constant false; export the model in inference mode"
                    .to_owned(),
            ));
        }
    }
    reader.attributes.ignore("ratio");
    reader.attributes.ignore("seed");
    reader.inputs.truncate(1);
    Ok(Op::Identity)
}
