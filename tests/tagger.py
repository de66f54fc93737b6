"""A model that answers for every token, as a user would write one: it looks one token back."""

import flax.linen as nn
import jax.numpy as jnp


class Tagger(nn.Module):
    """``[b l]`` tokens -> ``[b l v]``."""

    classes: int
    width: int
    tokens: int = 16

    @nn.compact
    def __call__(self, tokens):
        assert tokens.dtype == jnp.int32
        x = nn.Embed(self.tokens, self.width)(tokens)
        before = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return nn.Dense(self.classes)(
            nn.relu(nn.Dense(self.width)(jnp.concatenate([x, before], -1)))
        )


def tagger(classes, width=32):
    return Tagger(classes, width)
