//! Single operators on the shapes of common networks.
//!
//! Convolutions and matrix products run as networks of one layer, float and at W8A8, so that what is
//! measured is what a network pays: packed weights, bias, quantizing the input.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]

mod synthetic;

use candle_core::{Device, Tensor};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use quantscope::engine::kernels::{
    PoolGeometry, average_pool2d, fake_quantize, fake_quantize_observed, global_average_pool,
    max_pool2d,
};
use quantscope::engine::{Keep, PreparedPlan, RunOptions, calibrate, with_f32};
use quantscope::jobs::CancelToken;
use quantscope::plan::{Plan, Preset, Widths};
use quantscope::quant::{ActivationQuantizer, Observer, QuantSpec, Range};
use quantscope::session::{DataRequest, OpenData, OpenModel};
use synthetic::OnnxWriter;

fn main() {
    divan::main();
}

/// A convolution `samples × [channels, side, side] → outputs`, with `same` padding.
#[derive(Clone, Copy, Debug)]
struct Conv {
    samples: usize,
    channels: usize,
    outputs: usize,
    side: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
}

impl Conv {
    const fn new(
        samples: usize,
        channels: usize,
        outputs: usize,
        side: usize,
        kernel: usize,
    ) -> Self {
        Self {
            samples,
            channels,
            outputs,
            side,
            kernel,
            stride: 1,
            groups: 1,
        }
    }

    const fn depthwise(samples: usize, channels: usize, side: usize, stride: usize) -> Self {
        Self {
            stride,
            groups: channels,
            ..Self::new(samples, channels, channels, side, 3)
        }
    }

    fn sample_shape(self) -> Vec<usize> {
        vec![self.channels, self.side, self.side]
    }

    /// Floating-point operations of all samples.
    fn operations(self) -> usize {
        let outputs = self.outputs * (self.side / self.stride).pow(2);
        2 * self.samples * outputs * self.channels / self.groups * self.kernel.pow(2)
    }

    fn write(self, path: &std::path::Path) {
        let mut model = OnnxWriter::default();
        let shape = [
            self.outputs,
            self.channels / self.groups,
            self.kernel,
            self.kernel,
        ];
        model.weight("w", &shape, 0.1);
        model.weight("b", &[self.outputs], 0.1);
        let [kernel, stride, groups] = [self.kernel, self.stride, self.groups].map(|n| n as i64);
        let pad = kernel / 2;
        let attributes: [(&str, &[i64]); 4] = [
            ("kernel_shape", &[kernel, kernel]),
            ("strides", &[stride, stride]),
            ("pads", &[pad, pad, pad, pad]),
            ("group", &[groups]),
        ];
        model.node("Conv", "conv", &["x", "w", "b"], "y", &attributes);
        model.write(path, &self.sample_shape());
    }
}

impl std::fmt::Display for Conv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            samples,
            channels,
            outputs,
            side,
            kernel,
            stride,
            groups,
        } = self;
        write!(
            f,
            "{kernel}x{kernel} n{samples} c{channels}-{outputs} {side}² s{stride} g{groups}"
        )
    }
}

const CONVOLUTIONS: [Conv; 11] = [
    Conv::new(8, 64, 64, 56, 3),
    Conv::new(8, 128, 128, 28, 3),
    Conv::new(8, 256, 256, 14, 3),
    Conv::new(8, 64, 256, 56, 1),
    Conv::new(8, 128, 128, 14, 1),
    Conv::new(64, 16, 16, 32, 3),
    Conv::new(64, 64, 64, 8, 3),
    Conv {
        stride: 2,
        ..Conv::new(16, 3, 8, 224, 3)
    },
    Conv::depthwise(8, 144, 56, 1),
    Conv::depthwise(8, 384, 14, 1),
    Conv::depthwise(16, 64, 56, 2),
];

/// A network of one layer with its input, float and at W8A8.
struct OneLayer {
    model: OpenModel,
    data: OpenData,
    float: PreparedPlan,
    plan: PreparedPlan,
}

impl OneLayer {
    fn new(samples: usize, sample_shape: &[usize], write: impl Fn(&std::path::Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer.onnx");
        write(&path);
        let data = synthetic::random_data(folder.path(), samples, sample_shape);
        let model = OpenModel::open(&path).unwrap();
        let request = DataRequest {
            calibration: Some(data.clone()),
            calibration_samples: samples,
            batch_size: Some(samples),
            ..DataRequest::new(data)
        };
        let mut data = OpenData::open(&model, request).unwrap();
        data.evaluation = data.evaluation.in_memory().unwrap();
        let cancel = CancelToken::default();
        let ranges = calibrate(&model.executor, &data.evaluation, &cancel, &mut |_| {}).unwrap();
        let eight = Preset::by_name("W8A8").unwrap();
        let plan = eight.apply(&Plan::uniform(1, Widths::FLOAT));
        Self {
            float: model.executor.prepare_float().unwrap(),
            plan: model.executor.prepare(&plan, Some(&ranges)).unwrap(),
            model,
            data,
        }
    }

    fn run(&self, prepared: &PreparedPlan) {
        let cancel = CancelToken::default();
        for batch in self.data.evaluation.iter() {
            let options = RunOptions {
                keep: Keep::Outputs,
                cancel: &cancel,
                tap: None,
            };
            let fed = batch.unwrap().fed;
            divan::black_box(self.model.executor.run(prepared, &fed, options).unwrap());
        }
    }
}

#[divan::bench(args = CONVOLUTIONS)]
fn convolution(bencher: Bencher<'_, '_>, conv: Conv) {
    let layer = OneLayer::new(conv.samples, &conv.sample_shape(), |path| conv.write(path));
    bencher
        .counter(ItemsCount::new(conv.operations()))
        .bench_local(|| layer.run(&layer.float));
}

#[divan::bench(args = CONVOLUTIONS)]
fn convolution_w8a8(bencher: Bencher<'_, '_>, conv: Conv) {
    let layer = OneLayer::new(conv.samples, &conv.sample_shape(), |path| conv.write(path));
    bencher
        .counter(ItemsCount::new(conv.operations()))
        .bench_local(|| layer.run(&layer.plan));
}

/// Rows, inner and outer length of a product with a constant weight.
const PRODUCTS: [(usize, usize, usize); 4] = [
    (1024, 1024, 1024),
    (256, 768, 3072),
    (64, 256, 1000),
    (1, 1024, 1024),
];

fn product(shape: (usize, usize, usize)) -> OneLayer {
    let (rows, inner, outer) = shape;
    OneLayer::new(rows, &[inner], |path| {
        let mut model = OnnxWriter::default();
        model.weight("w", &[inner, outer], 0.1);
        model.node("MatMul", "product", &["x", "w"], "y", &[]);
        model.write(path, &[inner]);
    })
}

#[divan::bench(args = PRODUCTS)]
fn matmul(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let layer = product(shape);
    bencher
        .counter(ItemsCount::new(2 * shape.0 * shape.1 * shape.2))
        .bench_local(|| layer.run(&layer.float));
}

#[divan::bench(args = PRODUCTS)]
fn matmul_w8a8(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let layer = product(shape);
    bencher
        .counter(ItemsCount::new(2 * shape.0 * shape.1 * shape.2))
        .bench_local(|| layer.run(&layer.plan));
}

fn random(shape: &[usize]) -> Tensor {
    let elements: usize = shape.iter().product();
    let values: Vec<f32> = (0..elements as u32)
        .map(|i| i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 * 4.0 - 2.0)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Activations of a middle layer of a ResNet.
const ACTIVATION: [usize; 4] = [16, 64, 56, 56];

fn activation_bytes() -> BytesCount {
    BytesCount::of_many::<f32>(ACTIVATION.iter().product::<usize>())
}

fn quantizer(width: &str) -> ActivationQuantizer {
    let spec = QuantSpec::activation(width.parse().unwrap());
    ActivationQuantizer::from_range(&spec, Range::new(-2.0, 2.0).unwrap()).unwrap()
}

#[divan::bench(args = ["8", "4", "f16"])]
fn fake_quantized(bencher: Bencher<'_, '_>, width: &str) {
    let (x, quantizer) = (random(&ACTIVATION), quantizer(width));
    bencher
        .counter(activation_bytes())
        .bench_local(|| fake_quantize(&x, &quantizer).unwrap());
}

#[divan::bench]
fn fake_quantized_and_measured(bencher: Bencher<'_, '_>) {
    let (x, quantizer) = (random(&ACTIVATION), quantizer("8"));
    bencher
        .counter(activation_bytes())
        .bench_local(|| fake_quantize_observed(&x, &quantizer).unwrap());
}

#[divan::bench]
fn histogram_observed(bencher: Bencher<'_, '_>) {
    let x = random(&ACTIVATION);
    let mut observer = Observer::new();
    bencher.counter(activation_bytes()).bench_local(|| {
        with_f32(&x, |values| {
            observer.observe(values);
            Ok(())
        })
        .unwrap();
    });
}

/// Window, step and padding of a pool over [`ACTIVATION`].
const POOLS: [(usize, usize, usize); 2] = [(2, 2, 0), (3, 2, 1)];

fn pool_geometry((kernel, stride, pad): (usize, usize, usize)) -> PoolGeometry {
    PoolGeometry {
        kernel: [kernel; 2],
        strides: [stride; 2],
        pads: [pad; 4],
        dilations: [1; 2],
        ceil_mode: false,
        count_include_pad: false,
    }
}

#[divan::bench(args = POOLS)]
fn max_pool(bencher: Bencher<'_, '_>, pool: (usize, usize, usize)) {
    let (x, geometry) = (random(&ACTIVATION), pool_geometry(pool));
    bencher
        .counter(activation_bytes())
        .bench_local(|| max_pool2d(&x, &geometry).unwrap());
}

#[divan::bench(args = POOLS)]
fn average_pool(bencher: Bencher<'_, '_>, pool: (usize, usize, usize)) {
    let (x, geometry) = (random(&ACTIVATION), pool_geometry(pool));
    bencher
        .counter(activation_bytes())
        .bench_local(|| average_pool2d(&x, &geometry).unwrap());
}

#[divan::bench]
fn global_average(bencher: Bencher<'_, '_>) {
    let x = random(&ACTIVATION);
    bencher
        .counter(activation_bytes())
        .bench_local(|| global_average_pool(&x).unwrap());
}
