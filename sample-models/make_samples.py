"""Draws the bundled road-sign pictures and trains the two bundled networks on pictures of the same kind.

Run:  pip install torch==2.15.0 onnx==1.23.2 onnxruntime==1.32.0 safetensors==0.8.0 numpy==2.4.6 pillow==13.0.0
      python sample-models/make_samples.py            everything (about fifteen minutes on two cores)
      python sample-models/make_samples.py pictures   only signs/eval and signs/calib
      python sample-models/make_samples.py resnet     only that network (or: mobilenet)

Every picture is drawn from its own seed, so the pictures come out the same byte for byte with the versions above.
Weights depend on the processor's arithmetic too: another machine trains a network as good, not the same one.
Nothing is downloaded; the digits and letters are in Pillow's built-in font (Aileron, CC0).
"""

import io
import math
import multiprocessing
import shutil
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
SIZE = 32  # pixels a side of a finished picture
SCENE = 96  # pixels a side while drawing
PLATE = 192  # pixels a side of a drawn sign
TRAIN_PER_CLASS, CALIB_PER_CLASS, EVAL_PER_CLASS = 1000, 12, 36
SEEDS = {"train": 1, "calib": 2, "eval": 3}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

RED, BLUE, YELLOW, WHITE, BLACK = (196, 30, 40), (20, 80, 170), (245, 200, 30), (245, 245, 240), (25, 25, 30)


# ---- signs -----------------------------------------------------------------------------------------------------------
# A sign is drawn in a unit square, (0, 0) top left, and its shape doubles as its transparency.


class Plate:
    """A transparent canvas addressed in the unit square."""

    def __init__(self):
        self.side = 4 * PLATE
        self.image = Image.new("RGBA", (self.side, self.side))
        self.draw = ImageDraw.Draw(self.image)

    def at(self, points):
        return [(x * self.side, y * self.side) for x, y in points]

    def polygon(self, points, colour):
        self.draw.polygon(self.at(points), fill=colour)

    def disc(self, x, y, radius, colour):
        self.draw.ellipse(self.at([(x - radius, y - radius), (x + radius, y + radius)]), fill=colour)

    def bar(self, x0, y0, x1, y1, colour):
        self.draw.rectangle(self.at([(x0, y0), (x1, y1)]), fill=colour)

    def line(self, points, width, colour):
        self.draw.line(self.at(points), fill=colour, width=round(width * self.side), joint="curve")

    def arc(self, x, y, radius, start, end, width, colour):
        box = self.at([(x - radius, y - radius), (x + radius, y + radius)])
        self.draw.arc(box, start, end, fill=colour, width=round(width * self.side))

    def text(self, text, height, colour, y=0.5):
        font = ImageFont.load_default(height * self.side)
        self.draw.text(self.at([(0.5, y)])[0], text, font=font, fill=colour, anchor="mm", stroke_width=self.side // 90, stroke_fill=colour)

    def ring(self, inside=WHITE):
        self.disc(0.5, 0.5, 0.48, RED)
        self.disc(0.5, 0.5, 0.36, inside)

    def warning(self):
        self.polygon([(0.5, 0.04), (0.98, 0.9), (0.02, 0.9)], RED)
        self.polygon([(0.5, 0.23), (0.82, 0.8), (0.18, 0.8)], WHITE)

    def person(self, x, y, s, colour):
        self.disc(x, y, 0.06 * s, colour)
        self.line([(x, y + 0.05 * s), (x - 0.01 * s, y + 0.24 * s)], 0.08 * s, colour)
        self.line([(x - 0.12 * s, y + 0.4 * s), (x - 0.01 * s, y + 0.22 * s), (x + 0.1 * s, y + 0.4 * s)], 0.055 * s, colour)
        self.line([(x - 0.12 * s, y + 0.2 * s), (x, y + 0.1 * s), (x + 0.12 * s, y + 0.2 * s)], 0.045 * s, colour)

    def car(self, x, y, colour):
        self.bar(x - 0.1, y, x + 0.1, y + 0.1, colour)
        self.polygon([(x - 0.07, y), (x - 0.05, y - 0.08), (x + 0.05, y - 0.08), (x + 0.07, y)], colour)
        self.bar(x - 0.09, y + 0.1, x - 0.05, y + 0.14, colour)
        self.bar(x + 0.05, y + 0.1, x + 0.09, y + 0.14, colour)


def rotated(points, degrees):
    """Turns points about the middle of the plate, clockwise on the screen."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(0.5 + c * (x - 0.5) - s * (y - 0.5), 0.5 + s * (x - 0.5) + c * (y - 0.5)) for x, y in points]


def arrow(plate, degrees):
    plate.disc(0.5, 0.5, 0.48, BLUE)
    plate.polygon(rotated([(0.44, 0.8), (0.44, 0.45), (0.28, 0.45), (0.5, 0.17), (0.72, 0.45), (0.56, 0.45), (0.56, 0.8)], degrees), WHITE)


def speed(plate, number):
    plate.ring()
    plate.text(number, 0.46 if len(number) == 2 else 0.34, BLACK)


def caution(plate):
    plate.warning()
    plate.bar(0.46, 0.37, 0.54, 0.62, BLACK)
    plate.disc(0.5, 0.71, 0.05, BLACK)


def crossroads(plate):
    plate.warning()
    plate.line([(0.37, 0.48), (0.63, 0.74)], 0.07, BLACK)
    plate.line([(0.63, 0.48), (0.37, 0.74)], 0.07, BLACK)


def no_entry(plate):
    plate.disc(0.5, 0.5, 0.48, RED)
    plate.bar(0.16, 0.41, 0.84, 0.59, WHITE)


def no_overtaking(plate):
    plate.ring()
    plate.car(0.36, 0.5, RED)
    plate.car(0.64, 0.5, BLACK)


def no_parking(plate):
    plate.ring(BLUE)
    plate.line([(0.24, 0.24), (0.76, 0.76)], 0.1, RED)


def pedestrian_crossing(plate):
    plate.bar(0.04, 0.04, 0.96, 0.96, BLUE)
    plate.polygon([(0.5, 0.12), (0.88, 0.84), (0.12, 0.84)], WHITE)
    plate.person(0.5, 0.38, 1.0, BLACK)


def pedestrians_prohibited(plate):
    plate.ring()
    plate.person(0.5, 0.3, 1.1, BLACK)


def priority_road(plate):
    plate.polygon([(0.5, 0.01), (0.99, 0.5), (0.5, 0.99), (0.01, 0.5)], WHITE)
    plate.polygon([(0.5, 0.15), (0.85, 0.5), (0.5, 0.85), (0.15, 0.5)], YELLOW)


def roundabout(plate):
    plate.disc(0.5, 0.5, 0.48, BLUE)
    for turn in (0, 120, 240):
        plate.arc(0.5, 0.5, 0.3, turn, turn + 75, 0.09, WHITE)
        plate.polygon(rotated([(0.86, 0.5), (0.65, 0.5), (0.755, 0.66)], turn + 70), WHITE)


def stop(plate):
    plate.polygon([(0.5 + 0.5 * math.cos(math.radians(a)), 0.5 + 0.5 * math.sin(math.radians(a))) for a in np.arange(22.5, 360, 45)], RED)
    plate.text("STOP", 0.3, WHITE)


def yield_(plate):
    plate.polygon([(0.02, 0.1), (0.98, 0.1), (0.5, 0.96)], RED)
    plate.polygon([(0.2, 0.2), (0.8, 0.2), (0.5, 0.75)], WHITE)


SIGNS = {
    "ahead-only": lambda p: arrow(p, 0),
    "caution": caution,
    "crossroads": crossroads,
    "no-entry": no_entry,
    "no-overtaking": no_overtaking,
    "no-parking": no_parking,
    "no-vehicles": lambda p: p.ring(),
    "pedestrian-crossing": pedestrian_crossing,
    "pedestrians-prohibited": pedestrians_prohibited,
    "priority-road": priority_road,
    "roundabout": roundabout,
    "speed-030": lambda p: speed(p, "30"),
    "speed-050": lambda p: speed(p, "50"),
    "speed-060": lambda p: speed(p, "60"),
    "speed-080": lambda p: speed(p, "80"),
    "speed-100": lambda p: speed(p, "100"),
    "speed-120": lambda p: speed(p, "120"),
    "stop": stop,
    "turn-left": lambda p: arrow(p, -90),
    "turn-right": lambda p: arrow(p, 90),
    "yield": yield_,
}
CLASSES = sorted(SIGNS)


@lru_cache(maxsize=None)
def plate_of(name):
    """The clean sign, antialiased."""
    plate = Plate()
    SIGNS[name](plate)
    return plate.image.resize((PLATE, PLATE), Image.Resampling.BOX)


# ---- pictures --------------------------------------------------------------------------------------------------------


def colour(rng, low=20, high=235):
    return tuple(int(v) for v in rng.integers(low, high, 3))


def background(rng):
    """A vertical gradient with a few shapes in front: sky, walls, leaves."""
    top, bottom = np.array(colour(rng, 60, 240)), np.array(colour(rng, 20, 180))
    ramp = np.linspace(0, 1, SCENE)[:, None, None]
    image = Image.fromarray(np.broadcast_to(top * (1 - ramp) + bottom * ramp, (SCENE, SCENE, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 9)):
        x, y = rng.uniform(-20, SCENE, 2)
        w, h = rng.uniform(6, 70, 2)
        shape = rng.integers(4)
        if shape == 0:
            draw.rectangle([x, y, x + w, y + h], fill=colour(rng))
        elif shape == 1:
            draw.ellipse([x, y, x + w, y + h], fill=colour(rng))
        elif shape == 2:
            draw.line([x, y, *rng.uniform(0, SCENE, 2)], fill=colour(rng), width=int(rng.integers(2, 8)))
        else:
            draw.polygon([tuple(p) for p in rng.uniform(0, SCENE, (3, 2))], fill=colour(rng))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))


def perspective(source, target):
    """Coefficients for `Image.transform`: takes each target corner back to its source corner."""
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows), np.array(values))


def placed(plate, rng):
    """The sign on a transparent scene: scaled, turned, tilted and shifted."""
    half = SCENE * rng.uniform(0.27, 0.47)
    angle = math.radians(rng.normal(0, 9))
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    corners *= [rng.uniform(0.75, 1), rng.uniform(0.88, 1)]
    corners += rng.uniform(-0.12, 0.12, (4, 2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    target = half * corners @ turn.T + SCENE / 2 + rng.uniform(-0.09, 0.09, 2) * SCENE
    source = [(0, 0), (PLATE, 0), (PLATE, PLATE), (0, PLATE)]
    return plate.transform((SCENE, SCENE), Image.Transform.PERSPECTIVE, perspective(source, target), Image.Resampling.BICUBIC)


def obstructed(image, rng):
    """Leaves, posts or stickers in front of the sign, and a shadow across it."""
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.45:
        shade = colour(rng, 10, 200)
        x, y = rng.uniform(0.15, 0.85, 2) * SCENE
        for _ in range(rng.integers(1, 6)):
            dx, dy = rng.normal(0, 9, 2)
            r = rng.uniform(3, 10)
            draw.ellipse([x + dx - r, y + dy - r, x + dx + r, y + dy + r], fill=shade)
    if rng.random() < 0.15:
        draw.line([tuple(p) for p in rng.uniform(0, SCENE, (2, 2))], fill=colour(rng), width=int(rng.integers(4, 12)))
    if rng.random() < 0.4:
        shadow = Image.new("L", image.size, 255)
        points = [tuple(p) for p in rng.uniform(-0.3, 1.3, (4, 2)) * SCENE]
        ImageDraw.Draw(shadow).polygon(points, fill=int(rng.integers(90, 200)))
        image = ImageChops.multiply(image, shadow.filter(ImageFilter.GaussianBlur(2)).convert("RGB"))
    return image


def camera(image, rng):
    """Focus, motion, light and sensor: the last steps of a picture."""
    image = image.filter(ImageFilter.GaussianBlur(abs(rng.normal(0, 2.0))))
    if rng.random() < 0.3:
        dx, dy = rng.normal(0, 3.5, 2)
        image = Image.blend(image, ImageChops.offset(image, round(dx), round(dy)), 0.5)
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.35, 1.25))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.45, 1.3))
    x = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32)
    x = x * rng.uniform(0.5, 1.25) * rng.normal(1, 0.07, 3) + rng.normal(0, 8)
    x += rng.normal(0, 1, x.shape) * rng.uniform(1, 13)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def picture(split, label, index):
    """One finished picture [SIZE, SIZE, 3], the same for the same arguments."""
    rng = np.random.default_rng([SEEDS[split], label, index])
    scene = background(rng)
    sign = placed(plate_of(CLASSES[label]), rng)
    scene.paste(sign, (0, 0), sign)
    return camera(obstructed(scene, rng), rng)


def pictures_of(job):
    split, label, count = job
    return np.stack([picture(split, label, k) for k in range(count)])


def draw_split(split, per_class):
    """All pictures of a split, class after class, and their labels."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        x = np.concatenate(pool.map(pictures_of, [(split, k, per_class) for k in range(len(CLASSES))]))
    return x, np.repeat(np.arange(len(CLASSES)), per_class)


def write_pictures():
    """Writes signs/eval and signs/calib, one folder for each class."""
    for split, per_class in (("eval", EVAL_PER_CLASS), ("calib", CALIB_PER_CLASS)):
        root = HERE / "signs" / split
        shutil.rmtree(root, ignore_errors=True)
        for label, name in enumerate(CLASSES):
            (root / name).mkdir(parents=True)
            for index in range(per_class):
                Image.fromarray(picture(split, label, index)).save(root / name / f"{index:03}.png", optimize=True)


# ---- networks --------------------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A of He et al. 2015, section 4.2)."""

    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.widen = (planes - inputs) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.widen:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.widen, self.widen))
        return functional.relu(y + x)


class ResNet(nn.Module):
    """The CIFAR residual network with half the usual channels; parameters are named as in most PyTorch versions of it."""

    WIDTHS = (8, 16, 32)

    def __init__(self, blocks, classes):
        super().__init__()
        first, second, third = self.WIDTHS
        self.conv1 = nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = self.stage(first, first, blocks, 1)
        self.layer2 = self.stage(first, second, blocks, 2)
        self.layer3 = self.stage(second, third, blocks, 2)
        self.linear = nn.Linear(third, classes)

    @staticmethod
    def stage(inputs, planes, blocks, stride):
        return nn.Sequential(BasicBlock(inputs, planes, stride), *[BasicBlock(planes, planes, 1) for _ in range(blocks - 1)])

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class SeparableBlock(nn.Module):
    """A depthwise 3x3 and a pointwise 1x1 convolution, each with BatchNorm and ReLU (Howard et al. 2017, section 3.1)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = functional.relu(self.bn1(self.depthwise(x)))
        return functional.relu(self.bn2(self.pointwise(x)))


class MobileNet(nn.Module):
    """A narrow MobileNetV1 for 32x32 pictures."""

    BLOCKS = [(16, 24, 1), (24, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1), (48, 96, 2), (96, 96, 1)]

    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*[SeparableBlock(*b) for b in self.BLOCKS])
        self.linear = nn.Linear(self.BLOCKS[-1][1], classes)

    def forward(self, x):
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def normalised(x):
    """u8 pictures [N, H, W, 3] as the networks see them, f32 [N, 3, H, W]."""
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255
    return ((x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)).contiguous()


def train(network, x, y, epochs, rate, batch=64):
    """Trains by SGD with a one-cycle rate; pictures are shifted by up to two pixels at random."""
    network.train()
    steps = len(x) // batch
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * steps, pct_start=0.25)
    rng = np.random.default_rng(0)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    start = time.monotonic()
    for epoch in range(epochs):
        order, total = rng.permutation(len(x)), 0.0
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            dx, dy = rng.integers(0, 5, 2)
            images = normalised(padded[chosen, dy : dy + SIZE, dx : dx + SIZE])
            loss = functional.cross_entropy(network(images), torch.from_numpy(y[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"  epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {time.monotonic() - start:.0f} s", flush=True)
    return network.eval()


def export(network, name):
    """Writes name.onnx by PyTorch's exporter and name.safetensors, and returns the ONNX bytes."""
    buffer = io.BytesIO()
    torch.onnx.export(
        network, (torch.zeros(1, 3, SIZE, SIZE),), buffer, dynamo=False, opset_version=17, input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}})
    model = onnx.load_model_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    onnx.helper.set_model_props(model, {"classes": ",".join(CLASSES), "preprocessing": "imagenet"})
    onnx.save_model(model, HERE / f"{name}.onnx")
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(state, HERE / f"{name}.safetensors", metadata={"format": "pt"})


def top1(name):
    """Accuracy of the written ONNX file on the written pictures, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(HERE / f"{name}.onnx")
    hits = total = 0
    for label, folder in enumerate(CLASSES):
        files = sorted((HERE / "signs" / "eval" / folder).glob("*.png"))
        x = np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files])
        logits = session.run(None, {"image": normalised(x).numpy()})[0]
        hits, total = hits + int((logits.argmax(1) == label).sum()), total + len(files)
    return hits / total


def main():
    wanted = sys.argv[1:] or ["pictures", "resnet", "mobilenet"]
    if "pictures" in wanted:
        write_pictures()
    recipes = {"resnet": (lambda: ResNet(2, len(CLASSES)), 6, 0.1), "mobilenet": (lambda: MobileNet(len(CLASSES)), 12, 0.1)}
    x = y = None
    for kind, (build, epochs, rate) in recipes.items():
        if kind not in wanted:
            continue
        if x is None:
            x, y = draw_split("train", TRAIN_PER_CLASS)
        torch.manual_seed(0)
        print(f"signs-{kind}")
        export(train(build(), x, y, epochs, rate), f"signs-{kind}")
        print(f"  top-1 {top1(f'signs-{kind}'):.4f}")


if __name__ == "__main__":
    main()
