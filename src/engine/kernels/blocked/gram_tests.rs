//! The error that a matrix of windows foretells is the error of the convolution.

use std::sync::Arc;

use super::super::testing::{Case, Random, values};
use super::*;
use crate::engine::kernels::{Activation, parallel::undivided};
use crate::engine::kernels::{ConvGeometry, ConvWeights, conv2d};
use candle_core::{Result, Tensor};

/// `Σ y²` of a convolution.
fn convolved(x: &Tensor, weight: &[f32], bias: &[f32], case: &Case) -> Result<f64> {
    let weights = ConvWeights::pack(weight, case.weight, case.geometry.groups, Some(bias))?;
    let y = conv2d(x, &Arc::new(weights), &case.geometry, Activation::None)?;
    Ok(values(&y)?.iter().map(|y| f64::from(*y).powi(2)).sum())
}

/// Checks `⟨G, M⟩` and returns it.
#[track_caller]
fn check(case: &Case, random: &mut Random) -> Result<f64> {
    let [out, per_group, height, width] = case.weight;
    let patch = if case.geometry.groups == 1 {
        Patch::dense([height, width], per_group)
    } else {
        Patch::depthwise([height, width], out)
    };
    let images = [random.tensor(&case.input)?, random.tensor(&case.input)?];
    let weight = random.floats(case.weight.iter().product());
    let bias = random.floats(out);
    let expected =
        convolved(&images[0], &weight, &bias, case)? + convolved(&images[1], &weight, &bias, case)?;
    let blocked: Vec<Tensor> = images
        .iter()
        .map(|image| spoiled(&block_channels(image)?, case.input[1]))
        .collect::<Result<_>>()?;
    let change = patch.of_weight(&weight, out, Some(&bias))?;
    let squares: f64 = bias.iter().map(|b| f64::from(*b).powi(2)).sum();
    let windows = patch.over([case.input[2], case.input[3]], &case.geometry)?;
    let mut gram = windows.gram(&blocked[..1])?;
    gram.add(&windows.gram(&blocked[1..])?);
    let actual = gram.dot(&change) + gram.windows() as f64 * squares;
    let context = format!("{:?} {:?} {:?}", case.input, case.weight, case.geometry);
    assert!(
        (actual - expected).abs() <= 2e-5 * expected,
        "{context}: {actual} is not {expected}"
    );
    let together = windows.gram(&blocked)?;
    assert_eq!(together.windows(), gram.windows(), "{context}");
    let together = together.dot(&change);
    assert!(
        (together - gram.dot(&change)).abs() <= 1e-5 * expected,
        "{context}"
    );
    let alone = undivided(|| windows.gram(&blocked))?.dot(&change);
    assert_eq!(together.to_bits(), alone.to_bits(), "{context}");
    if patch.reads_planes() {
        let planes = windows.gram(&images)?.dot(&change);
        assert_eq!(together.to_bits(), planes.to_bits(), "{context}");
    }
    Ok(actual)
}

/// The matrix of many images at once is that of a few at a time, and the convolution agrees.
#[test]
fn many_images_together_give_the_sums_of_each_alone() -> Result<()> {
    let mut random = Random::new(51);
    let geometry = |pad| ConvGeometry {
        strides: [1, 1],
        pads: [pad; 4],
        dilations: [1, 1],
        groups: 1,
    };
    for (channels, image, kernel, pad) in [
        (16, [32, 32], 3, 1),
        (32, [16, 16], 3, 1),
        (40, [8, 8], 3, 0),
        (20, [14, 28], 3, 1),
        (17, [12, 10], 5, 2),
    ] {
        let [height, width] = image;
        let case = Case::new(
            [64, channels, height, width],
            [3, channels, kernel, kernel],
            geometry(pad),
        );
        let patch = Patch::dense([kernel; 2], channels);
        let windows = patch.over(image, &case.geometry)?;
        let context = format!("{channels} {image:?} {kernel} {pad}");
        assert!(windows.gain_together(), "{context}");
        let images = random.tensor(&case.input)?;
        let blocked = spoiled(&block_channels(&images)?, channels)?;
        let weight = random.floats(case.weight.iter().product());
        let change = patch.of_weight(&weight, 3, None)?;
        let expected = convolved(&images, &weight, &[0.0; 3], &case)?;
        let together = windows.gram(std::slice::from_ref(&blocked))?;
        let found = together.dot(&change);
        assert!((found - expected).abs() <= 2e-5 * expected, "{context}");
        let alone = undivided(|| windows.gram(std::slice::from_ref(&blocked)))?;
        assert_eq!(found.to_bits(), alone.dot(&change).to_bits(), "{context}");
        // One after another, by all distances.
        let mut few = windows.gram(&[blocked.narrow(0, 0, 1)?])?;
        for sample in 1..64 {
            few.add(&windows.gram(&[blocked.narrow(0, sample, 1)?])?);
        }
        assert_eq!(together.windows(), few.windows());
        let apart = (found - few.dot(&change)).abs();
        assert!(apart <= 1e-5 * expected, "{context}: {apart} of {expected}");
    }
    Ok(())
}

/// The lanes beyond the last channel hold no number at all.
fn spoiled(image: &Tensor, channels: usize) -> Result<Tensor> {
    let mut numbers = values(image)?;
    let (_, blocks, height, width, _) = image.dims5()?;
    for (index, pixel) in numbers.chunks_exact_mut(BLOCK).enumerate() {
        let first = index / (height * width) % blocks * BLOCK;
        for (lane, number) in pixel.iter_mut().enumerate() {
            if first + lane >= channels {
                *number = f32::NAN;
            }
        }
    }
    Tensor::from_vec(numbers, image.dims(), image.device())
}

fn geometry(strides: [usize; 2], pads: [usize; 4], dilations: [usize; 2]) -> ConvGeometry {
    ConvGeometry {
        strides,
        pads,
        dilations,
        groups: 1,
    }
}

#[test]
fn common_convolutions() -> Result<()> {
    let mut random = Random::new(3);
    for (input, weight, geometry) in [
        (
            [2, 16, 9, 9],
            [16, 16, 3, 3],
            geometry([1, 1], [1; 4], [1, 1]),
        ),
        (
            [1, 40, 5, 7],
            [20, 40, 3, 3],
            geometry([1, 1], [1; 4], [1, 1]),
        ),
        (
            [1, 32, 8, 8],
            [20, 32, 3, 3],
            geometry([2, 2], [1; 4], [1, 1]),
        ),
        (
            [2, 3, 11, 11],
            [8, 3, 3, 3],
            geometry([2, 2], [1; 4], [1, 1]),
        ),
        (
            [1, 3, 20, 20],
            [8, 3, 7, 7],
            geometry([2, 2], [3; 4], [1, 1]),
        ),
        (
            [2, 50, 6, 6],
            [7, 50, 1, 1],
            geometry([1, 1], [0; 4], [1, 1]),
        ),
        (
            [1, 50, 6, 7],
            [7, 50, 1, 1],
            geometry([2, 2], [0; 4], [1, 1]),
        ),
        (
            [1, 9, 12, 12],
            [7, 9, 3, 3],
            geometry([1, 1], [2; 4], [2, 2]),
        ),
        // Windows of which most or all lie in the padding.
        (
            [1, 12, 2, 1],
            [4, 12, 3, 5],
            geometry([1, 2], [6; 4], [2, 3]),
        ),
    ] {
        check(&Case::new(input, weight, geometry), &mut random)?;
    }
    Ok(())
}

#[test]
fn random_convolutions() -> Result<()> {
    let mut random = Random::new(17);
    for _ in 0..120 {
        let mut case = Case::random(&mut random);
        if random.between(0, 2) == 0 {
            let channels = random.between(2, 40);
            case.input[1] = channels;
            case.weight[0] = channels;
            case.weight[1] = 1;
            case.geometry.groups = channels;
        } else {
            case.geometry.groups = 1;
            case.input[1] = case.weight[1];
        }
        check(&case, &mut random)?;
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let patch = Patch::dense([3, 3], 20);
    let plain = geometry([1, 1], [1; 4], [1, 1]);
    let mut random = Random::new(1);
    let windows = patch.over([5, 5], &plain)?;
    for shape in [
        &[1, 1, 5, 5, BLOCK][..],
        &[1, 2, 5, 4, BLOCK],
        &[1, 20, 5, 5],
    ] {
        assert!(windows.gram(&[random.tensor(shape)?]).is_err(), "{shape:?}");
    }
    let unpadded = geometry([1, 1], [0; 4], [1, 1]);
    assert!(patch.over([2, 2], &unpadded).is_err());
    assert!(patch.of_weight(&[0.0; 9], 1, None).is_err());
    Ok(())
}

#[test]
fn long_sums_keep_their_digits() -> Result<()> {
    let patch = Patch::dense([1, 1], 16);
    // Each product is rounded down where a sum of them is long.
    let image = Tensor::full(0.3f32, (1, 1, 512, 512, BLOCK), &candle_core::Device::Cpu)?;
    let windows = patch.over([512, 512], &geometry([1, 1], [0; 4], [1, 1]))?;
    let gram = windows.gram(&[image])?;
    let weight: Vec<f32> = (0..16)
        .map(|channel| if channel == 0 { 1.0 } else { 0.0 })
        .collect();
    let sum = gram.dot(&patch.of_weight(&weight, 1, None)?);
    let expected = f64::from(0.3f32).powi(2) * 512.0 * 512.0;
    assert!(
        (sum - expected).abs() <= 1e-4 * expected,
        "{sum} is not {expected}"
    );
    Ok(())
}
