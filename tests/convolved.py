"""Convolutional networks written a second time: NumPy, float64, one layer after another."""

import numpy as np


def conv(x, kernel, stride=1):
    """Padded by half the kernel's size; one product of matrices for every tap of the kernel."""
    size, _, inputs, features = kernel.shape
    groups = x.shape[-1] // inputs
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    rows, columns = (-(-length // stride) for length in x.shape[1:3])
    answer = np.zeros((len(x), rows, columns, features))
    for i in range(size):
        for j in range(size):
            seen = padded[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
            parts = np.split(seen[:, :rows, :columns], groups, axis=-1)
            weights = np.split(kernel[i, j], groups, axis=-1)
            answer += np.concatenate([p @ w for p, w in zip(parts, weights, strict=True)], axis=-1)
    return answer


def pool(x):
    """The largest of 3x3 pixels at a stride of 2, without what lies outside."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    rows, columns = (-(-length // 2) for length in x.shape[1:3])
    seen = [
        padded[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2][:, :rows, :columns]
        for i in range(3)
        for j in range(3)
    ]
    return np.max(seen, axis=0)


def halved(x):
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def relu(x):
    return np.maximum(x, 0)


class Network:
    """The layers of a model's parameters by name, in training or in evaluation.

    `new` are the statistics after a step of training.
    """

    def __init__(self, params, extra, train):
        self.params, self.stats, self.train, self.new = params, extra["batch_stats"], train, {}

    def at(self, tree, path):
        for name in path.split("/"):
            tree = tree[name]
        return {name: np.asarray(leaf, np.float64) for name, leaf in tree.items()}

    def conv(self, x, path, stride=1):
        return conv(x, self.at(self.params, path)["kernel"], stride)

    def norm(self, x, path):
        layer, old = self.at(self.params, path), self.at(self.stats, path)
        mean, var = old["mean"], old["var"]
        if self.train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            pixels = x[..., 0].size
            self.new[path] = {
                "mean": 0.9 * old["mean"] + 0.1 * mean,
                "var": 0.9 * old["var"] + 0.1 * var * pixels / (pixels - 1),
            }
        return (x - mean) / np.sqrt(var + 1e-5) * layer["scale"] + layer["bias"]

    def head(self, x):
        layer = self.at(self.params, "head")
        return x.mean((1, 2)) @ layer["kernel"] + layer["bias"]

    def blocks(self, x, block, strides):
        """`block` for every block of the parameters; the first of stage i has ``strides[i]``."""
        for i, stride in enumerate(strides):
            for j in range(len(self.params[f"stages_{i}"])):
                path = f"stages_{i}/blocks_{j}"
                x = block(self, x, path, 1 if j else stride)
        return x

    def has(self, path, name):
        tree = self.params
        for part in path.split("/"):
            tree = tree[part]
        return name in tree


def residual(net, x, path, stride):
    """A block of two convolutions, or of three where there are three."""
    last = "3" if net.has(path, "conv3") else "2"
    y = net.conv(x, f"{path}/conv1", 1 if last == "3" else stride)
    y = net.conv(relu(net.norm(y, f"{path}/norm1")), f"{path}/conv2", stride if last == "3" else 1)
    y = net.norm(y, f"{path}/norm2")
    if last == "3":
        y = net.norm(net.conv(relu(y), f"{path}/conv3"), f"{path}/norm3")
    if net.has(path, "shortcut"):
        x = net.norm(net.conv(x, f"{path}/shortcut", stride), f"{path}/shortcut_norm")
    more = y.shape[-1] - x.shape[-1]
    if y.shape != x.shape:
        x = np.pad(x[:, ::stride, ::stride], ((0, 0),) * 3 + ((more // 2, more - more // 2),))
    return relu(x + y)


def resnet(net, x):
    large = len(net.params["stem"]["kernel"]) == 7
    x = relu(net.norm(net.conv(x, "stem", 2 if large else 1), "stem_norm"))
    x = pool(x) if large else x
    return net.head(net.blocks(x, residual, (1, 2, 2, 2) if large else (1, 2, 2)))


def wide(net, x, path, stride):
    y = relu(net.norm(x, f"{path}/norm1"))
    x = net.conv(y, f"{path}/shortcut", stride) if net.has(path, "shortcut") else x
    y = relu(net.norm(net.conv(y, f"{path}/conv1", stride), f"{path}/norm2"))
    return x + net.conv(y, f"{path}/conv2")


def wrn(net, x):
    x = net.blocks(net.conv(x, "stem"), wide, (1, 2, 2))
    return net.head(relu(net.norm(x, "norm")))


def vgg(net, x):
    for i in range(5):
        for j in range(len(net.params[f"stages_{i}"])):
            path = f"stages_{i}/blocks_{j}"
            x = relu(net.norm(net.conv(x, f"{path}/conv"), f"{path}/norm"))
        x = halved(x) if i < 3 else x
    return net.head(x)


def inverted(net, x, path, stride):
    y = x
    if net.has(path, "expand"):
        y = np.clip(net.norm(net.conv(y, f"{path}/expand"), f"{path}/expand_norm"), 0, 6)
    y = net.norm(net.conv(y, f"{path}/depthwise", stride), f"{path}/depthwise_norm")
    y = net.norm(net.conv(np.clip(y, 0, 6), f"{path}/project"), f"{path}/project_norm")
    return x + y if y.shape == x.shape else y


def mobilenetv2(net, x):
    """The form for small images."""
    x = np.clip(net.norm(net.conv(x, "stem", 2), "stem_norm"), 0, 6)
    x = net.blocks(x, inverted, (1, 1, 2, 2, 1, 2, 1))
    return net.head(np.clip(net.norm(net.conv(x, "last"), "last_norm"), 0, 6))
