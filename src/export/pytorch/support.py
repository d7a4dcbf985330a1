class Store:
    """A .safetensors file: eight bytes of length, a header in JSON, the tensors one after the other."""

    TYPES = {
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I16": torch.int16,
        "I8": torch.int8,
        "U16": torch.uint16,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }

    def __init__(self, path):
        content = Path(path).read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        about = json.loads(header.pop("__metadata__")["quantscope"])
        self.layers = {layer["module"]: layer for layer in about["layers"]}
        self.tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            values = bytearray(content[start + begin : start + end])
            kind = self.TYPES[entry["dtype"]]
            flat = torch.frombuffer(values, dtype=kind) if values else torch.empty(0, dtype=kind)
            self.tensors[name] = flat.reshape(entry["shape"])


def unpack(packed, bits, count):
    """Unsigned fields of `bits` bits that lie one after the other across bytes, the lowest bit first."""
    single = (packed.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
    fields = single.reshape(-1)[: count * bits].reshape(count, bits).to(torch.int32)
    return (fields << torch.arange(bits, dtype=torch.int32)).sum(1).to(torch.int32)


class Weight(nn.Module):
    """A weight of integers: (codes - zero_point) * scale, with a grid for all, a channel or a group."""

    def __init__(self, store, path, facts):
        super().__init__()
        self.facts = facts
        self.register_buffer("codes", store.tensors[f"{path}.codes"])
        self.register_buffer("scale", store.tensors[f"{path}.scale"])
        self.register_buffer("zero_point", store.tensors.get(f"{path}.zero_point"))
        self.register_buffer("value", self.dequantized(), persistent=False)

    def integers(self):
        """The codes in the shape of the weight."""
        shape, bits = self.facts["shape"], self.facts["bits"]
        if bits in (8, 16):
            return self.codes.to(torch.int32)
        fields = unpack(self.codes, bits, math.prod(shape))
        return (fields * self.facts["step"] + self.facts["offset"]).reshape(shape)

    def by_row(self, numbers):
        """A number of each grid, spread over the weights of each channel."""
        if numbers.dim() < 2:
            return numbers.reshape(-1, 1)
        columns = math.prod(self.facts["shape"]) // numbers.shape[0]
        return numbers[:, torch.arange(columns) // self.facts["group"]]

    def levels(self, scale):
        """(codes - zero_point) * scale in the shape of the weight."""
        codes = self.integers().movedim(self.facts["axis"], 0)
        steps = codes.reshape(codes.shape[0], -1).float()
        if self.zero_point is not None:
            steps = steps - self.by_row(self.zero_point.float())
        values = (steps * self.by_row(scale)).reshape(codes.shape)
        return values.movedim(0, self.facts["axis"]).contiguous()

    def dequantized(self):
        """The numbers that the codes stand for; `value` holds them, to be computed once."""
        return self.levels(self.scale)

    def steps(self):
        """The codes in steps from zero."""
        return self.levels(torch.ones_like(self.scale))

    def forward(self):
        return self.value


class Grid(nn.Module):
    """Takes a tensor to the nearest levels of a grid (ONNX QuantizeLinear, DequantizeLinear)."""

    def __init__(self, store, path, facts):
        super().__init__()
        self.limits = facts["q_min"], facts["q_max"]
        self.register_buffer("scale", store.tensors[f"{path}.scale"])
        self.register_buffer("zero_point", store.tensors.get(f"{path}.zero_point"))
        self.zero = 0 if self.zero_point is None else int(self.zero_point)

    def steps(self, x):
        """The codes in steps from zero."""
        codes = torch.clamp(torch.round(x / self.scale) + self.zero, *self.limits)
        return codes - self.zero

    def forward(self, x):
        return self.steps(x) * self.scale


class Half(nn.Module):
    """Rounds a tensor to half precision; what is too large becomes the largest number."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        largest = torch.finfo(self.kind).max
        return x.clamp(-largest, largest).to(self.kind).float()


class Layer(nn.Module):
    """What every layer has: a weight, perhaps a bias, and what happens to its input."""

    def __init__(self, store, path, **attributes):
        super().__init__()
        self.attributes = attributes
        facts = store.layers[path]
        if facts["weight"] is None:
            self.register_buffer("weight", store.tensors[f"{path}.weight"])
        else:
            self.weight = Weight(store, facts["weight"]["tensor"], facts["weight"])
        self.register_buffer("bias", store.tensors.get(f"{path}.bias"))
        input_facts = facts["input"]
        if input_facts is None:
            self.input = nn.Identity()
        elif "type" in input_facts:
            self.input = Half(Store.TYPES[input_facts["type"]])
        else:
            self.input = Grid(store, f"{path}.input", input_facts)

    def operands(self, x, bias):
        weight = self.weight() if isinstance(self.weight, Weight) else self.weight.float()
        return self.input(x), weight, self.bias if bias is None else bias


class Conv(Layer):
    """A convolution over one, two or three axes.

    With an input and a weight of integers it adds up products of codes and scales the sums: the arithmetic
    of integer kernels. The sums are exact in float as long as they stay below 2 ** 24; codes of more than
    8 bits are taken apart, and the sums of both parts joined in double precision.
    """

    def __init__(self, store, path, **attributes):
        super().__init__(store, path, **attributes)
        on_codes = isinstance(self.weight, Weight) and self.weight.scale.dim() < 2
        self.register_buffer("steps", self.weight.steps() if on_codes else None, persistent=False)

    def forward(self, x, bias=None):
        function = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
        if self.steps is None or not isinstance(self.input, Grid):
            return function(*self.operands(x, bias), **self.attributes)
        lowest, highest = self.input.limits
        steps = self.input.steps(x)
        high = torch.floor(steps / 256) if highest - lowest > 255 else None
        low = steps if high is None else steps - 256 * high
        sums = function(low, self.steps, None, **self.attributes).double()
        if high is not None:
            sums = sums + 256 * function(high, self.steps, None, **self.attributes).double()
        channels = (-1,) + (1,) * (x.dim() - 2)
        # In double precision there is one rounding at the end, as in a fused multiply-add.
        y = sums * (self.weight.scale * self.input.scale).reshape(channels).double()
        bias = self.bias if bias is None else bias
        return (y if bias is None else y + bias.reshape(channels).double()).float()


class ConvTranspose(Layer):
    """A transposed convolution over one, two or three axes."""

    def forward(self, x, bias=None):
        function = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[x.dim()]
        return function(*self.operands(x, bias), **self.attributes)


class Linear(Layer):
    """x @ weight.T + bias."""

    def forward(self, x, bias=None):
        return F.linear(*self.operands(x, bias))


class Gemm(Layer):
    """alpha * x @ weight + beta * bias, each factor transposed or not."""

    def forward(self, x, bias=None):
        x, weight, bias = self.operands(x, bias)
        x = x.T if self.attributes["trans_a"] else x
        weight = weight.T if self.attributes["trans_b"] else weight
        product = self.attributes["alpha"] * (x @ weight)
        return product if bias is None else product + self.attributes["beta"] * bias


class MatMul(Layer):
    """x @ weight."""

    def forward(self, x):
        x, weight, _ = self.operands(x, None)
        return x @ weight


class Einsum(Layer):
    """A matrix product in Einstein's notation."""

    def forward(self, x):
        x, weight, _ = self.operands(x, None)
        return torch.einsum(self.attributes["equation"], x, weight)


class Group(nn.Module):
    """Modules under one name; those named by numbers are reached by index."""

    def __getitem__(self, index):
        return getattr(self, str(index))

    def parent(self, path):
        module, *rest = self, *path.split(".")
        for name in rest[:-1]:
            if not hasattr(module, name):
                module.add_module(name, Group())
            module = getattr(module, name)
        return module, rest[-1]

    def add(self, path, kind, **attributes):
        module, name = self.parent(path)
        module.add_module(name, kind(self.store, path, **attributes))

    def add_constant(self, path):
        module, name = self.parent(path)
        module.register_buffer(name, self.store.tensors[path])
