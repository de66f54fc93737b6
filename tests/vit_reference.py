"""Hugging Face's ViT and DeiT again, in float64 NumPy from their papers, by the names of their
arrays.
"""

import math

import numpy as np

_ERF = np.vectorize(math.erf)


def vit(arrays, config, images):
    """Logits ``[b v]`` of images ``[b h w c]`` that are normalised already; arrays by PyTorch's
    names, ``config`` as in config.json.
    """
    arrays = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    model = config["model_type"]
    eps, heads = config["layer_norm_eps"], config["num_attention_heads"]

    def linear(x, name):
        return x @ arrays[f"{name}.weight"].T + arrays.get(f"{name}.bias", 0.0)

    def norm(x, name):
        middle, spread = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        unit = (x - middle) / np.sqrt(spread + eps)
        return unit * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]

    def attention(x, name):
        def split(part):
            projected = linear(x, f"{name}.attention.{part}")
            return np.moveaxis(projected.reshape(*x.shape[:2], heads, -1), 2, 1)

        query, key, value = map(split, ("query", "key", "value"))
        scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        seen = np.moveaxis(weights @ value, 1, 2).reshape(x.shape)
        return linear(seen, f"{name}.output.dense")

    x = tokens(arrays, f"{model}.embeddings", config["patch_size"], images)
    for i in range(config["num_hidden_layers"]):
        layer = f"{model}.encoder.layer.{i}"
        x = x + attention(norm(x, f"{layer}.layernorm_before"), f"{layer}.attention")
        hidden = linear(norm(x, f"{layer}.layernorm_after"), f"{layer}.intermediate.dense")
        hidden = hidden * (1 + _ERF(hidden / math.sqrt(2))) / 2
        x = x + linear(hidden, f"{layer}.output.dense")
    x = norm(x, f"{model}.layernorm")
    if "distillation_classifier.weight" not in arrays:
        return linear(x[:, 0], "classifier")
    return (linear(x[:, 0], "cls_classifier") + linear(x[:, 1], "distillation_classifier")) / 2


def tokens(arrays, name, size, images):
    """The tokens before the patches, the patches, and the position of each."""
    kernel = arrays[f"{name}.patch_embeddings.projection.weight"]
    rows = []
    for top in range(0, images.shape[1], size):
        for left in range(0, images.shape[2], size):
            patch = images[:, top : top + size, left : left + size]
            rows.append(np.einsum("bhwc,dchw->bd", patch, kernel))
    patches = np.stack(rows, axis=1) + arrays[f"{name}.patch_embeddings.projection.bias"]
    before = [
        np.broadcast_to(arrays[f"{name}.{token}"], (len(images), 1, patches.shape[-1]))
        for token in ("cls_token", "distillation_token")
        if f"{name}.{token}" in arrays
    ]
    return np.concatenate([*before, patches], axis=1) + arrays[f"{name}.position_embeddings"]
