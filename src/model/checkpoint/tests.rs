use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::model::graph::Dim;
use crate::model::layer::{Layer, layers};
use crate::model::load;
use crate::model::shape_inference::infer_shapes;

/// A state dict of zeros that take no memory.
#[derive(Default)]
struct Synthetic {
    tensors: BTreeMap<String, Initializer>,
}

impl Synthetic {
    fn put(&mut self, name: &str, shape: &[usize]) -> &mut Self {
        let zero = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        self.tensors
            .insert(name.to_owned(), zero.broadcast_as(shape).unwrap().into());
        self
    }

    fn conv(&mut self, name: &str, out: usize, per_group: usize, kernel: usize) -> &mut Self {
        self.put(&format!("{name}.weight"), &[out, per_group, kernel, kernel])
    }

    fn batch_norm(&mut self, name: &str, channels: usize) -> &mut Self {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            self.put(&format!("{name}.{part}"), &[channels]);
        }
        self
    }

    fn linear(&mut self, name: &str, out: usize, features: usize) -> &mut Self {
        self.put(&format!("{name}.weight"), &[out, features])
            .put(&format!("{name}.bias"), &[out])
    }

    fn build(&self) -> Result<(String, Graph), LoadErrorKind> {
        let state = StateDict::new(self.tensors.clone());
        let (name, builder) = build(&state)?;
        let metadata = Metadata {
            name: "test.pth".to_owned(),
            format: ModelFormat::Pth,
            sha256: String::new(),
            producer: None,
            opset: None,
            architecture: Some(name.clone()),
        };
        Ok((name, builder.finish(metadata)?))
    }
}

fn torchvision_resnet(
    blocks: [usize; 4],
    bottleneck: bool,
    groups: usize,
    base: usize,
) -> Synthetic {
    let mut state = Synthetic::default();
    state.conv("conv1", 64, 3, 7).batch_norm("bn1", 64);
    let mut channels = 64;
    for (stage, count) in blocks.into_iter().enumerate() {
        let planes = 64 << stage;
        let out = if bottleneck { planes * 4 } else { planes };
        let width = planes * base / 64 * groups;
        for block in 0..count {
            let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            if bottleneck {
                state
                    .conv(&name("conv1"), width, channels, 1)
                    .batch_norm(&name("bn1"), width);
                state
                    .conv(&name("conv2"), width, width / groups, 3)
                    .batch_norm(&name("bn2"), width);
                state
                    .conv(&name("conv3"), out, width, 1)
                    .batch_norm(&name("bn3"), out);
            } else {
                state
                    .conv(&name("conv1"), out, channels, 3)
                    .batch_norm(&name("bn1"), out);
                state
                    .conv(&name("conv2"), out, out, 3)
                    .batch_norm(&name("bn2"), out);
            }
            if channels != out {
                state.conv(&name("downsample.0"), out, channels, 1);
                state.batch_norm(&name("downsample.1"), out);
            }
            channels = out;
        }
    }
    state.linear("fc", 1000, channels);
    state
}

fn cifar_resnet(blocks: usize, head: &str, shortcut: Option<&str>) -> Synthetic {
    let mut state = Synthetic::default();
    state.conv("conv1", 16, 3, 3).batch_norm("bn1", 16);
    let mut channels = 16;
    for stage in 0..3 {
        let out = 16 << stage;
        for block in 0..blocks {
            let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            state
                .conv(&name("conv1"), out, channels, 3)
                .batch_norm(&name("bn1"), out);
            state
                .conv(&name("conv2"), out, out, 3)
                .batch_norm(&name("bn2"), out);
            if let Some(shortcut) = shortcut.filter(|_| channels != out) {
                state.conv(&name(&format!("{shortcut}.0")), out, channels, 1);
                state.batch_norm(&name(&format!("{shortcut}.1")), out);
            }
            channels = out;
        }
    }
    state.linear(head, 10, 64);
    state
}

fn torchvision_mobilenet_v2() -> Synthetic {
    let mut state = Synthetic::default();
    state
        .conv("features.0.0", 32, 3, 3)
        .batch_norm("features.0.1", 32);
    let (mut channels, mut index) = (32, 1);
    for (expansion, out, count) in [
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ] {
        for _ in 0..count {
            let name = |part: &str| format!("features.{index}.conv.{part}");
            let hidden = channels * expansion;
            let mut at = 0;
            if expansion > 1 {
                state
                    .conv(&name("0.0"), hidden, channels, 1)
                    .batch_norm(&name("0.1"), hidden);
                at = 1;
            }
            state.conv(&name(&format!("{at}.0")), hidden, 1, 3);
            state.batch_norm(&name(&format!("{at}.1")), hidden);
            state.conv(&name(&format!("{}", at + 1)), out, hidden, 1);
            state.batch_norm(&name(&format!("{}", at + 2)), out);
            channels = out;
            index += 1;
        }
    }
    state
        .conv("features.18.0", 1280, 320, 1)
        .batch_norm("features.18.1", 1280);
    state.linear("classifier.1", 1000, 1280);
    state
}

fn torchvision_vgg16(batch_norm: bool) -> Synthetic {
    let mut state = Synthetic::default();
    let (mut index, mut channels) = (0, 3);
    for out in [
        64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0,
    ] {
        if out == 0 {
            index += 1;
            continue;
        }
        let name = format!("features.{index}");
        state
            .conv(&name, out, channels, 3)
            .put(&format!("{name}.bias"), &[out]);
        if batch_norm {
            state.batch_norm(&format!("features.{}", index + 1), out);
        }
        index += 2 + usize::from(batch_norm);
        channels = out;
    }
    state.linear("classifier.0", 4096, 25088);
    state
        .linear("classifier.3", 4096, 4096)
        .linear("classifier.6", 1000, 4096);
    state
}

fn cifar_mobilenet_v1() -> Synthetic {
    let mut state = Synthetic::default();
    state.conv("conv1", 32, 3, 3).batch_norm("bn1", 32);
    let mut channels = 32;
    let widths = [
        64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024,
    ];
    for (block, out) in widths.into_iter().enumerate() {
        let name = |part: &str| format!("layers.{block}.{part}");
        state
            .conv(&name("conv1"), channels, 1, 3)
            .batch_norm(&name("bn1"), channels);
        state
            .conv(&name("conv2"), out, channels, 1)
            .batch_norm(&name("bn2"), out);
        channels = out;
    }
    state.linear("linear", 10, 1024);
    state
}

/// Builds a network and compares its name, layers, MACs and input `[N, 3, side, side]`.
#[track_caller]
fn check(state: &Synthetic, name: &str, count: usize, macs: f64, side: usize) {
    let (found, graph) = state
        .build()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(found, name);
    let layers = layers(&graph);
    assert_eq!(layers.len(), count, "{name}");
    let total: u64 = layers.iter().map(|layer| layer.macs.expect(name)).sum();
    assert!(
        (total as f64 / macs - 1.0).abs() < 0.004,
        "{name}: {total} MACs"
    );
    let input = graph.value(graph.inputs()[0]);
    let lengths = [3, side, side].map(Dim::Fixed);
    assert_eq!(input.shape.as_ref().unwrap()[1..], lengths, "{name}");
    let shapes = infer_shapes(&graph, 2);
    assert_eq!(shapes.problems, [], "{name}");
    let classes = if side == 224 { 1000 } else { 10 };
    let output = graph.outputs()[0];
    assert_eq!(shapes.get(output), Some(&[2, classes][..]), "{name}");
}

/// MACs as published for torchvision's models.
#[test]
fn torchvision_families_have_the_published_costs() {
    let resnet = torchvision_resnet;
    let (small, large) = ([2, 2, 2, 2], [3, 4, 6, 3]);
    let resnext = "ResNeXt-50 32x4d";
    let wide = "Wide ResNet-50-2";
    check(&resnet(small, false, 1, 64), "ResNet-18", 21, 1.814e9, 224);
    check(&resnet(large, false, 1, 64), "ResNet-34", 37, 3.664e9, 224);
    check(&resnet(large, true, 1, 64), "ResNet-50", 54, 4.089e9, 224);
    check(&resnet(large, true, 32, 4), resnext, 54, 4.230e9, 224);
    check(&resnet(large, true, 1, 128), wide, 54, 11.398e9, 224);
    let mobilenet = torchvision_mobilenet_v2();
    check(&mobilenet, "MobileNetV2", 53, 0.3008e9, 224);
    check(&torchvision_vgg16(false), "VGG-16", 16, 15.47e9, 224);
    check(&torchvision_vgg16(true), "VGG-16-BN", 16, 15.47e9, 224);
}

/// MACs as counted by hand.
#[test]
fn cifar_families_have_the_costs_of_their_layers() {
    let resnet = cifar_resnet;
    let name = "ResNet-20 (CIFAR)";
    check(
        &resnet(1, "linear", None),
        "ResNet-8 (CIFAR)",
        8,
        12.239e6,
        32,
    );
    check(&resnet(3, "linear", None), name, 20, 40.55e6, 32);
    check(
        &resnet(18, "fc", None),
        "ResNet-110 (CIFAR)",
        110,
        252.9e6,
        32,
    );
    check(
        &resnet(3, "linear", Some("shortcut")),
        name,
        22,
        40.81e6,
        32,
    );
    check(&resnet(3, "fc", Some("downsample")), name, 22, 40.81e6, 32);
    let name = "MobileNetV1, 13 blocks (32×32)";
    check(&cifar_mobilenet_v1(), name, 28, 46.35e6, 32);
}

#[test]
fn wrappers_and_folded_batch_norm_are_accepted() {
    let mut wrapped = Synthetic::default();
    for (name, tensor) in cifar_resnet(3, "linear", None).tensors {
        wrapped.tensors.insert(format!("module.{name}"), tensor);
    }
    let (_, graph) = wrapped.build().unwrap();
    assert!(
        graph
            .nodes()
            .iter()
            .any(|node| node.name == "layer1.0.conv1")
    );

    let mut folded = cifar_resnet(3, "linear", None);
    let channels: Vec<(String, usize)> = folded
        .tensors
        .iter()
        .filter(|(_, tensor)| tensor.rank() == 4)
        .map(|(name, tensor)| (name.replace("weight", "bias"), tensor.dims()[0]))
        .collect();
    folded.tensors.retain(|name, _| !name.contains("bn"));
    for (name, channels) in channels {
        folded.put(&name, &[channels]);
    }
    let (_, graph) = folded.build().unwrap();
    assert!(
        graph
            .nodes()
            .iter()
            .all(|node| node.op.name() != "BatchNormalization")
    );
    assert!(layers(&graph).iter().all(|layer| layer.bias.is_some()));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let message = |change: &dyn Fn(&mut Synthetic)| {
        let mut state = cifar_resnet(3, "linear", None);
        change(&mut state);
        state.build().map(|(name, _)| name).unwrap_err().to_string()
    };
    let extra = message(&|state| {
        state.put("layer1.0.se.fc1.weight", &[4, 16]);
    });
    assert!(
        extra.contains("\"layer1.0.se.fc1.weight\"") && extra.contains("torch.onnx.export"),
        "{extra}"
    );
    let missing = message(&|state| {
        state.tensors.remove("layer2.1.bn2.running_var");
    });
    assert!(
        missing.contains("\"layer2.1.bn2.running_var\" is missing"),
        "{missing}"
    );
    let shape = message(&|state| {
        state.conv("layer2.1.conv2", 32, 7, 3);
    });
    assert!(shape.contains("[32, 7, 3, 3]"), "{shape}");
    let channels = message(&|state| {
        state
            .conv("layer1.1.conv2", 24, 16, 3)
            .batch_norm("layer1.1.bn2", 24);
    });
    assert!(channels.contains("\"layer1.2.conv1.weight\""), "{channels}");
    let mut resnet = torchvision_resnet([2, 2, 2, 2], false, 1, 64);
    resnet
        .tensors
        .retain(|name, _| !name.contains("downsample"));
    let shortcut = resnet
        .build()
        .map(|(name, _)| name)
        .unwrap_err()
        .to_string();
    assert!(
        shortcut.contains("\"layer2.0.downsample.0.weight\" is missing"),
        "{shortcut}"
    );
    let unknown = message(&|state| {
        state.tensors.remove("conv1.weight");
    });
    assert!(
        unknown.contains("of 96 floating-point tensors") && unknown.contains("MobileNetV2"),
        "{unknown}"
    );
}

fn models() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/models");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not there", folder.display());
    None
}

/// What must be equal between two readers of one network: operator, weight, MACs and result.
type Outline = (String, Vec<usize>, Option<u64>, Option<Vec<usize>>);

fn outline(layers: &[Layer]) -> Vec<Outline> {
    layers
        .iter()
        .map(|layer| {
            let weight = layer.weight_shape.clone();
            (
                layer.op.clone(),
                weight,
                layer.macs,
                layer.output_shape.clone(),
            )
        })
        .collect()
}

/// Folded weights and biases of the layers, in order.
fn parameters(graph: &Graph) -> Vec<Vec<f32>> {
    let ids = layers(graph)
        .into_iter()
        .flat_map(|layer| [Some(layer.weight), layer.bias]);
    ids.flatten()
        .filter_map(|id| graph.initializer(id))
        .map(|tensor| tensor.flatten_all().unwrap().to_vec1().unwrap())
        .collect()
}

/// Number of nodes of each operator that computes something.
fn operators(graph: &Graph) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in graph.nodes().iter().map(|node| node.op.name()) {
        if [
            "Add",
            "Clip",
            "Conv",
            "Gemm",
            "LeakyRelu",
            "MaxPool",
            "Pad",
            "Relu",
        ]
        .contains(&name)
        {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts
}

/// One network from a checkpoint and from ONNX: same layers, operators, weights and biases.
#[track_caller]
fn check_equal(checkpoint: &Path, onnx: &Path) {
    let name = checkpoint.display();
    let checkpoint = load(checkpoint).unwrap_or_else(|error| panic!("{error}"));
    let onnx = load(onnx).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        outline(&layers(&checkpoint)),
        outline(&layers(&onnx)),
        "{name}"
    );
    assert_eq!(operators(&checkpoint), operators(&onnx), "{name}");
    let (found, expected) = (parameters(&checkpoint), parameters(&onnx));
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{name}: parameter {index}");
        let largest = expected
            .iter()
            .fold(0f32, |largest, x| largest.max(x.abs()));
        let error = found
            .iter()
            .zip(expected)
            .fold(0f32, |error, (a, b)| error.max((a - b).abs()));
        // The exporter folds BatchNorm in another order of operations.
        assert!(
            error <= 1e-5 * largest,
            "{name}: parameter {index}: {error} of {largest}"
        );
    }
}

#[test]
fn checkpoints_equal_their_onnx_file() {
    let Some(folder) = models() else { return };
    let file = |name: &str| folder.join(name);
    let resnet = layers(&load(&file("resnet20-cifar10.onnx")).unwrap());
    assert_eq!(resnet.len(), 20);
    let macs: u64 = resnet.iter().filter_map(|layer| layer.macs).sum();
    assert_eq!(macs, 40_551_040);
    for extension in ["safetensors", "pth"] {
        let checkpoint = file(&format!("resnet20-cifar10.{extension}"));
        check_equal(&checkpoint, &file("resnet20-cifar10.onnx"));
    }
    check_equal(
        &file("mobilenetv1-025-imagenet.safetensors"),
        &file("mobilenetv1-025-imagenet.onnx"),
    );
}

#[test]
fn sample_checkpoints_equal_their_onnx_file() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sample-models");
    let files = std::fs::read_dir(&folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.sort();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "safetensors")
    });
    for path in paths {
        check_equal(&path, &path.with_extension("onnx"));
    }
}

#[test]
fn every_value_of_the_real_models_has_a_shape() {
    let Some(folder) = models() else { return };
    for name in [
        "dscnn-kws",
        "mobilenetv1-025-imagenet",
        "resnet20-cifar10",
        "vit-mnist",
        "wnet-drive",
        "yolox-nano-coco",
    ] {
        let graph = load(&folder.join(format!("{name}.onnx"))).unwrap();
        for batch in [1, 3] {
            let shapes = infer_shapes(&graph, batch);
            assert_eq!(shapes.problems, [], "{name}");
            for node in graph.nodes() {
                for output in &node.outputs {
                    assert!(shapes.get(*output).is_some(), "{name}: {node:?}");
                }
            }
        }
        assert!(
            layers(&graph).iter().all(|layer| layer.macs.is_some()),
            "{name}"
        );
    }
}

#[test]
fn damaged_and_old_files_are_errors_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let message = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let read = if name.ends_with("pth") {
            read_pth
        } else {
            read_safetensors
        };
        read(&path).unwrap_err().to_string()
    };
    assert!(message("a.pth", b"").contains("save the state dict again"));
    assert!(message("a.pth", &[0x80; 1000]).contains("save the state dict again"));
    let legacy = [
        0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
    ];
    assert!(message("a.pth", &legacy).contains("torch.save(torch.load("));
    assert!(message("a.safetensors", b"").contains("save it again"));
    assert!(message("a.safetensors", &[0xff; 64]).contains("save it again"));
    let Some(models) = models() else { return };
    for name in ["resnet20-cifar10.pth", "resnet20-cifar10.safetensors"] {
        let bytes = std::fs::read(models.join(name)).unwrap();
        for cut in [10, 1000, bytes.len() / 2, bytes.len() - 30] {
            message(name, &bytes[..cut]);
        }
        // A changed byte in the structure is an error or another value, but no panic.
        for at in (0..20_000)
            .step_by(97)
            .chain(bytes.len() - 9_000..bytes.len())
        {
            if at % 89 == 0 {
                let mut changed = bytes.clone();
                changed[at] ^= 0xff;
                let path = folder.path().join(name);
                std::fs::write(&path, changed).unwrap();
                let read = if name.ends_with("pth") {
                    read_pth
                } else {
                    read_safetensors
                };
                read(&path).ok();
            }
        }
    }
    let legacy = read_pth(&models.join("resnet20-cifar10-legacy-pickle.th")).unwrap_err();
    assert!(legacy.to_string().contains("before 1.6"), "{legacy}");
}
