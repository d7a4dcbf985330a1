//! What the tests of the kernels share.

use candle_core::{Device, Result, Tensor};

use super::ConvGeometry;

/// A small deterministic generator (xorshift64*).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    /// A number in `low..=high`.
    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() as usize) % (high - low + 1)
    }

    /// One of `values`.
    pub(super) fn choose<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.between(0, values.len() - 1)]
    }

    /// Floats in `[-1, 1)`.
    pub(super) fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| self.next() as f32 / (1u64 << 31) as f32 - 1.0)
            .collect()
    }

    /// A tensor of floats in `[-1, 1)`.
    pub(super) fn tensor(&mut self, shape: &[usize]) -> Result<Tensor> {
        Tensor::from_vec(self.floats(shape.iter().product()), shape, &Device::Cpu)
    }
}

/// All elements in order.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// Runs `function` on pools of one and of two threads, checks that the bits agree, and returns them.
#[track_caller]
pub(super) fn on_one_and_two_threads(
    function: impl Fn() -> Result<Tensor> + Sync,
) -> Result<Tensor> {
    let on = |threads: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(candle_core::Error::wrap)?
            .install(&function)
    };
    let (one, two) = (on(1)?, on(2)?);
    assert_eq!(one.dims(), two.dims());
    let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
        Ok(values(tensor)?.into_iter().map(f32::to_bits).collect())
    };
    assert_eq!(
        bits(&one)?,
        bits(&two)?,
        "results depend on the number of threads"
    );
    Ok(one)
}

/// Checks values against sums computed in `f64`, relative to the sum of magnitudes.
#[track_caller]
pub(super) fn assert_sums_close(actual: &[f32], expected: &[(f64, f64)], context: &str) {
    assert_eq!(actual.len(), expected.len(), "{context}");
    for (index, (actual, (sum, magnitude))) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(*actual) - sum).abs();
        assert!(
            error <= 1e-5 * magnitude + 1e-12,
            "{context}: element {index} is {actual}, expected {sum}"
        );
    }
}

/// A convolution of random numbers.
pub(super) struct Case {
    pub(super) input: [usize; 4],
    pub(super) weight: [usize; 4],
    pub(super) geometry: ConvGeometry,
}

impl Case {
    pub(super) fn new(input: [usize; 4], weight: [usize; 4], geometry: ConvGeometry) -> Self {
        Self {
            input,
            weight,
            geometry,
        }
    }

    pub(super) fn random(random: &mut Random) -> Self {
        let groups = random.choose(&[1, 1, 2, 3]);
        let group_in = random.between(1, 20);
        let weight = [
            groups * random.between(1, 15),
            group_in,
            random.between(1, 4),
            random.between(1, 4),
        ];
        let geometry = ConvGeometry {
            strides: [random.between(1, 3), random.between(1, 3)],
            pads: [(); 4].map(|()| random.between(0, 3)),
            dilations: [random.between(1, 2), random.between(1, 3)],
            groups,
        };
        let input = [
            random.between(1, 3),
            groups * group_in,
            random.between(10, 21),
            random.between(10, 21),
        ];
        Self::new(input, weight, geometry)
    }
}

/// Sum and sum of magnitudes of each output, by the definition.
pub(super) fn reference(case: &Case, x: &[f32], w: &[f32], bias: &[f32]) -> Vec<(f64, f64)> {
    let [batch, channels, height, width] = case.input;
    let [out, group_in, kernel_height, kernel_width] = case.weight;
    let ConvGeometry {
        strides,
        pads,
        dilations,
        groups,
    } = case.geometry;
    let Some([out_height, out_width]) = case
        .geometry
        .output_size([kernel_height, kernel_width], [height, width])
    else {
        return Vec::new();
    };
    let mut sums = Vec::new();
    for (n, m, i, j) in indices([batch, out, out_height, out_width]) {
        let mut sum = f64::from(bias[m]);
        let mut magnitude = sum.abs();
        for (_, c, k, l) in indices([1, group_in, kernel_height, kernel_width]) {
            let y = (i * strides[0] + k * dilations[0]).wrapping_sub(pads[0]);
            let x_ = (j * strides[1] + l * dilations[1]).wrapping_sub(pads[1]);
            if y < height && x_ < width {
                let channel = m / (out / groups) * group_in + c;
                let a = x[((n * channels + channel) * height + y) * width + x_];
                let b = w[((m * group_in + c) * kernel_height + k) * kernel_width + l];
                sum += f64::from(a) * f64::from(b);
                magnitude += (f64::from(a) * f64::from(b)).abs();
            }
        }
        sums.push((sum, magnitude));
    }
    sums
}

fn indices(shape: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let [a, b, c, d] = shape;
    (0..a * b * c * d).map(move |i| (i / (b * c * d), i / (c * d) % b, i / d % c, i % d))
}
