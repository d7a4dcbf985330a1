//! Convolutions of blocked images against the definition.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::super::testing::{
    Case, Random, assert_sums_close, on_one_and_two_threads, reference, values,
};
use super::super::{
    Activation, ConvGeometry, ConvTransposeWeights, conv_transpose2d, fake_quantize,
};
use super::*;
use crate::model::{Conv, ConvTranspose, Padding};
use crate::quant::{ActivationQuantizer, QuantSpec, Range};

fn plain_input() -> ConvInput {
    ConvInput {
        channels: 0,
        quantizer: ActivationQuantizer::Identity,
        integer: false,
    }
}

/// A random case of one group, or of one a channel.
fn random_case(random: &mut Random) -> Case {
    let mut case = Case::random(random);
    let channels = random.between(1, 40);
    case.geometry.groups = random.choose(&[1, 1, channels]);
    case.weight[1] = channels / case.geometry.groups;
    case.weight[0] = match case.geometry.groups {
        1 => random.between(1, 40),
        groups => groups,
    };
    case.input[1] = channels;
    case.input[2] = random.between(10, 40);
    case.input[3] = random.between(10, 70);
    case
}

fn network_cases() -> Vec<Case> {
    let geometry = |pad, stride, groups| ConvGeometry {
        strides: [stride; 2],
        pads: [pad; 4],
        dilations: [1, 1],
        groups,
    };
    vec![
        Case::new([5, 16, 32, 32], [16, 16, 3, 3], geometry(1, 1, 1)),
        Case::new([3, 64, 8, 8], [64, 64, 3, 3], geometry(1, 1, 1)),
        Case::new([2, 32, 16, 16], [64, 32, 3, 3], geometry(1, 2, 1)),
        Case::new([1, 3, 64, 64], [8, 3, 3, 3], geometry(1, 2, 1)),
        Case::new([2, 128, 7, 7], [256, 128, 1, 1], geometry(0, 1, 1)),
        Case::new([1, 24, 13, 13], [80, 24, 1, 1], geometry(0, 1, 1)),
        Case::new([1, 40, 30, 30], [40, 1, 3, 3], geometry(1, 2, 40)),
        Case::new([1, 3, 48, 48], [32, 3, 16, 16], geometry(0, 16, 1)),
        Case::new([2, 20, 1, 1], [5, 20, 1, 1], geometry(0, 1, 1)),
    ]
}

fn pack(case: &Case, w: &[f32], scale: Option<&[f32]>, bias: &[f32]) -> Arc<BlockedConvWeights> {
    let groups = case.geometry.groups;
    Arc::new(BlockedConvWeights::pack(w, case.weight, groups, scale, Some(bias)).unwrap())
}

#[test]
fn agrees_with_the_definition() -> Result<()> {
    let mut random = Random::new(71);
    let mut cases = network_cases();
    cases.extend((0..80).map(|_| random_case(&mut random)));
    for case in cases {
        let x = random.tensor(&case.input)?;
        let w = random.floats(case.weight.iter().product());
        let bias = random.floats(case.weight[0]);
        let expected = reference(&case, &values(&x)?, &w, &bias);
        let weights = pack(&case, &w, None, &bias);
        let context = format!("{:?} {:?} {:?}", case.input, case.weight, case.geometry);
        let in_blocks = ConvInput {
            channels: case.input[1],
            ..plain_input()
        };
        for (x, input) in [(x.clone(), plain_input()), (block_channels(&x)?, in_blocks)] {
            let y = on_one_and_two_threads(|| {
                conv2d_blocked(&x, &input, &weights, &case.geometry, ConvOutput::default())
            })?;
            let y = unblock_channels(&y, case.weight[0])?;
            assert_sums_close(&values(&y)?, &expected, &context);
        }
    }
    Ok(())
}

#[test]
fn what_follows_is_the_same_as_after_it() -> Result<()> {
    let mut random = Random::new(72);
    for _ in 0..30 {
        let case = random_case(&mut random);
        let x = block_channels(&random.tensor(&case.input)?)?;
        let input = ConvInput {
            channels: case.input[1],
            ..plain_input()
        };
        let w = random.floats(case.weight.iter().product());
        let bias = random.floats(case.weight[0]);
        let weights = pack(&case, &w, None, &bias);
        let run = |residual: Option<&Tensor>, activation| {
            conv2d_blocked(
                &x,
                &input,
                &weights,
                &case.geometry,
                ConvOutput {
                    residual,
                    activation,
                    after: None,
                },
            )
        };
        let alone = run(None, Activation::None)?;
        let residual = random.tensor(alone.dims())?;
        let sums: Vec<f32> = values(&alone)?
            .iter()
            .zip(values(&residual)?)
            .map(|(y, r)| y + r)
            .collect();
        for (activation, function) in [
            (Activation::Relu, (|v: f32| v.max(0.0)) as fn(f32) -> f32),
            (Activation::LeakyRelu(0.1), |v| {
                if v < 0.0 { v * 0.1 } else { v }
            }),
            (
                Activation::Clip {
                    min: -0.5,
                    max: 1.0,
                },
                |v| v.clamp(-0.5, 1.0),
            ),
        ] {
            let joined = values(&run(Some(&residual), activation)?)?;
            let expected: Vec<f32> = sums.iter().map(|v| function(*v)).collect();
            assert_eq!(joined, expected, "{activation:?}");
        }
        let silu = values(&run(None, Activation::Silu)?)?;
        for (found, x) in silu.iter().zip(values(&alone)?) {
            let expected = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(*found) - expected).abs() < 1e-6 * (1.0 + expected.abs()));
        }
    }
    Ok(())
}

#[test]
fn steps_give_the_numbers_of_fake_quantization_and_integers_their_bits() -> Result<()> {
    let mut random = Random::new(73);
    let mut cases = network_cases();
    cases.extend((0..40).map(|_| random_case(&mut random)));
    for case in cases {
        let x = random.tensor(&case.input)?;
        let bits = random.choose(&["8", "6", "3"]);
        let spec = QuantSpec::activation(bits.parse().unwrap());
        let range = Range::new(-0.4, 0.9).unwrap();
        let quantizer = ActivationQuantizer::from_range(&spec, range).unwrap();
        let steps: Vec<f32> = (0..case.weight.iter().product())
            .map(|_| random.between(0, 254) as f32 - 127.0)
            .collect();
        let scale: Vec<f32> = (0..case.weight[0])
            .map(|i| 0.01 + i as f32 * 1e-3)
            .collect();
        let bias = random.floats(case.weight[0]);
        let per_channel = steps.len() / scale.len();
        let w: Vec<f32> = steps
            .iter()
            .enumerate()
            .map(|(i, step)| step * scale[i / per_channel])
            .collect();
        let mut quantized = vec![0.0; x.elem_count()];
        quantizer.apply(&values(&x)?, &mut quantized);
        let expected = reference(&case, &quantized, &w, &bias);
        let weights = pack(&case, &steps, Some(&scale), &bias);
        let context = format!("{:?} {:?} {:?}", case.input, case.weight, case.geometry);
        let blocked = block_channels(&x)?;
        let run = |integer| {
            let input = ConvInput {
                channels: case.input[1],
                quantizer,
                integer,
            };
            on_one_and_two_threads(|| {
                conv2d_blocked(
                    &blocked,
                    &input,
                    &weights,
                    &case.geometry,
                    ConvOutput {
                        activation: Activation::Relu,
                        ..ConvOutput::default()
                    },
                )
            })
        };
        let float = values(&unblock_channels(&run(false)?, case.weight[0])?)?;
        let expected: Vec<(f64, f64)> = expected
            .into_iter()
            .map(|(sum, magnitude)| (sum.max(0.0), magnitude))
            .collect();
        assert_sums_close(&float, &expected, &context);
        let integer = values(&unblock_channels(&run(true)?, case.weight[0])?)?;
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&float), bits(&integer), "{context}");
    }
    Ok(())
}

#[test]
fn sums_of_eight_bit_steps_are_exact_with_and_without_dot_products() -> Result<()> {
    let mut random = Random::new(29);
    let quantizer = ActivationQuantizer::from_range(
        &QuantSpec::activation("8".parse().unwrap()),
        Range::new(0.0, 255.0).unwrap(),
    )
    .unwrap();
    for case in network_cases() {
        let whole = |random: &mut Random, len: usize, least: f32, count: usize| -> Vec<f32> {
            (0..len)
                .map(|_| least + random.between(0, count) as f32)
                .collect()
        };
        let codes = whole(&mut random, case.input.iter().product(), 0.0, 255);
        let steps = whole(&mut random, case.weight.iter().product(), -7.0, 14);
        let none = vec![0.0; case.weight[0]];
        let ones = vec![1.0; case.weight[0]];
        let expected: Vec<f32> = reference(&case, &codes, &steps, &none)
            .into_iter()
            .map(|(sum, _)| sum as f32)
            .collect();
        let weights = pack(&case, &steps, Some(&ones), &none);
        let x = Tensor::from_vec(codes, &case.input, &candle_core::Device::Cpu)?;
        for integer in [false, true] {
            let input = ConvInput {
                channels: case.input[1],
                quantizer,
                integer,
            };
            let y = conv2d_blocked(
                &block_channels(&x)?,
                &input,
                &weights,
                &case.geometry,
                ConvOutput::default(),
            )?;
            let found = values(&unblock_channels(&y, case.weight[0])?)?;
            assert_eq!(found, expected, "{:?} {:?}", case.input, case.weight);
        }
    }
    Ok(())
}

#[test]
fn wrong_shapes_are_refused() {
    let case = Case::new(
        [1, 16, 4, 4],
        [16, 16, 3, 3],
        ConvGeometry {
            strides: [1, 1],
            pads: [0; 4],
            dilations: [1, 1],
            groups: 1,
        },
    );
    let weights = pack(&case, &[0.0; 16 * 16 * 9], None, &[0.0; 16]);
    let run = |shape: &[usize]| {
        let x = Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu)?;
        let input = ConvInput {
            channels: 16,
            ..plain_input()
        };
        conv2d_blocked(&x, &input, &weights, &case.geometry, ConvOutput::default())
    };
    assert!(run(&[1, 16, 4, 4]).is_ok());
    for shape in [
        &[1, 15, 4, 4][..],
        &[1, 2, 4, 4, 16],
        &[1, 16, 2, 4],
        &[1, 16, 4],
    ] {
        assert!(run(shape).is_err(), "{shape:?}");
    }
    let groups = BlockedConvWeights::pack(&[0.0; 8], [4, 2, 1, 1], 2, None, None);
    assert!(groups.is_err());
}

#[test]
fn windows_that_do_not_overlap_are_transposed_as_by_the_plain_kernel() -> Result<()> {
    let mut random = Random::new(74);
    for _ in 0..40 {
        let [inputs, outputs] = [(); 2].map(|()| random.between(1, 40));
        let kernel = [(); 2].map(|()| random.between(1, 3));
        let (batch, height, width) = (
            random.between(1, 3),
            random.between(1, 9),
            random.between(1, 40),
        );
        let shape = [inputs, outputs, kernel[0], kernel[1]];
        let operator = ConvTranspose {
            conv: Conv {
                strides: kernel.to_vec(),
                padding: Padding::Explicit(vec![]),
                dilations: vec![],
                groups: 1,
            },
            output_padding: vec![],
            output_shape: None,
        };
        assert!(BlockedConvTransposeWeights::fits(&operator, shape));
        let x = random.tensor(&[batch, inputs, height, width])?;
        let w = random.floats(shape.iter().product());
        let bias = random.floats(outputs);
        let spec = QuantSpec::activation(random.choose(&["8", "f32"]).parse().unwrap());
        let range = Range::new(-0.4, 0.9).unwrap();
        let quantizer = ActivationQuantizer::from_range(&spec, range).unwrap();
        let plain = Arc::new(ConvTransposeWeights::pack(&w, shape, 1, Some(&bias))?);
        let (geometry, padding) =
            ConvGeometry::resolve_transposed(&operator, kernel, [height, width])?;
        let quantized = fake_quantize(&x, &quantizer)?;
        let expected = values(&conv_transpose2d(&quantized, &plain, &geometry, padding)?)?;
        let weights = Arc::new(BlockedConvTransposeWeights::pack(&w, shape, Some(&bias))?);
        let x = block_channels(&x)?;
        let y = on_one_and_two_threads(|| conv_transpose2d_blocked(&x, &quantizer, &weights))?;
        let found = values(&unblock_channels(&y, outputs)?)?;
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let close = (found - expected).abs() <= 1e-5 * (1.0 + expected.abs());
            assert!(close, "{found} {expected} {shape:?}");
        }
    }
    let mut overlapping = ConvTranspose {
        conv: Conv {
            strides: vec![2, 2],
            padding: Padding::Explicit(vec![]),
            dilations: vec![],
            groups: 1,
        },
        output_padding: vec![],
        output_shape: None,
    };
    assert!(!BlockedConvTransposeWeights::fits(
        &overlapping,
        [4, 4, 3, 3]
    ));
    overlapping.conv.padding = Padding::SameUpper;
    assert!(!BlockedConvTransposeWeights::fits(
        &overlapping,
        [4, 4, 2, 2]
    ));
    Ok(())
}
