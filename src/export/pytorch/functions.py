def same_padding(x, kernel, stride, dilation, upper, value=0.0):
    """Pads so that a window gives ceil(length / stride) results; the odd element lies at the end if upper."""
    pads = []
    for length, k, s, d in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), reversed(dilation)):
        total = max((-(-length // s) - 1) * s + (k - 1) * d + 1 - length, 0)
        less, more = total // 2, total - total // 2
        pads += [less, more] if upper else [more, less]
    return F.pad(x, pads, value=value)


def average_pool(x, kernel, stride, pads, ceil_mode, count_padding):
    """Means of windows with padding that may differ at both ends of an axis."""
    function = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[x.dim()]
    sums = function(F.pad(x, pads), kernel, stride, 0, ceil_mode)
    ones = torch.ones((1, 1) + tuple(x.shape[2:]), dtype=x.dtype, device=x.device)
    counted = F.pad(ones, pads, value=1.0 if count_padding else 0.0)
    return sums / function(counted, kernel, stride, 0, ceil_mode)


def flatten_from(x, axis):
    """A matrix whose rows run over the axes before `axis`."""
    return x.reshape(math.prod(x.shape[:axis]), -1)


def softmax_from(x, axis, function):
    """The softmax of opsets before 13: all axes from `axis` on are one."""
    return function(flatten_from(x, axis), dim=-1).reshape(x.shape)


def numbers(x):
    """The elements of a tensor of integers, or of a list of them."""
    return [int(value) for value in (x.flatten().tolist() if torch.is_tensor(x) else x)]


def reshape(x, shape, allow_zero):
    """Reshapes; a length of 0 keeps that axis unless it is allowed as such."""
    lengths = numbers(shape)
    if not allow_zero:
        lengths = [x.shape[axis] if length == 0 else length for axis, length in enumerate(lengths)]
    return x.reshape(lengths)


def expand(x, shape):
    """Broadcasts both ways."""
    return x.broadcast_to(torch.broadcast_shapes(x.shape, tuple(numbers(shape))))


def gather(x, indices, axis):
    """Slices of `x` along an axis; negative indices count from the end."""
    axis = axis % x.dim()
    indices = torch.as_tensor(indices, device=x.device)
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    picked = x.index_select(axis, indices.flatten())
    return picked.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def slice_axes(x, starts, ends, axes=None, steps=None):
    """Parts of axes as in Python; negative steps run backwards."""
    starts, ends = numbers(starts), numbers(ends)
    axes = list(range(len(starts))) if axes is None else numbers(axes)
    steps = [1] * len(starts) if steps is None else numbers(steps)
    for start, end, axis, step in zip(starts, ends, axes, steps):
        length = x.shape[axis]
        # What is below the beginning means the beginning, and not an offset from the end.
        end = None if step < 0 and end < -length else end
        places = range(*slice(start, end, step).indices(length))
        x = x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))
    return x


def split(x, parts, axis):
    """Parts of equal length, the last one shorter if need be."""
    return x.split(-(-x.shape[axis] // parts), axis)


def divide(a, b):
    """Divides; integers towards zero."""
    integers = not any(torch.is_floating_point(torch.as_tensor(one)) for one in (a, b))
    return torch.div(a, b, rounding_mode="trunc") if integers else a / b


def gemm(a, b, c, alpha, beta, trans_a, trans_b):
    """alpha * a @ b + beta * c, each factor transposed or not."""
    product = alpha * ((a.T if trans_a else a) @ (b.T if trans_b else b))
    return product if c is None else product + beta * c


def arange(start, limit, delta):
    """Numbers from `start` to before `limit`."""
    start, limit, delta = (torch.as_tensor(one).item() for one in (start, limit, delta))
    return torch.arange(start, limit, delta)


def same_average_pool(x, kernel, stride, upper, count_padding):
    """Means of windows with padding that gives ceil(length / stride) results."""
    function = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[x.dim()]
    ones = torch.ones((1, 1) + tuple(x.shape[2:]), dtype=x.dtype, device=x.device)
    no_gaps = (1,) * len(kernel)
    counted = same_padding(ones, kernel, stride, no_gaps, upper, 1.0 if count_padding else 0.0)
    padded = same_padding(x, kernel, stride, no_gaps, upper)
    return function(padded, kernel, stride) / function(counted, kernel, stride)
