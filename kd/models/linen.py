"""Any Flax Linen module as a `Model`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax

from kd.core import rng
from kd.core.types import Apply, Made, Model, Outputs, PyTree
from kd.errors import KdError
from kd.models import taps
from kd.models.modes import MODES, check_statistics, flags, layers_in
from kd.models.supply import Rngs, supplied

WEIGHT = "weight"
"""The argument of a module's ``__call__`` that says how much each example counts."""
DTYPE = "dtype"
"""The argument of a module's ``__call__`` that says in which type it computes."""


def linen(module: nn.Module, *, mixed: bool = False, frozen: bool = False) -> Model:
    """Adapt a Flax Linen module that maps a batch of inputs to logits (or to `Outputs`).

    The module is told whether it trains by every name of `MODES` that is an argument of its
    ``__call__`` or one of its attributes: ``train``, ``training``, ``is_training``,
    ``deterministic``, ``use_running_average``. It is given random streams of the names that it asks
    for, and the axes that it reduces over: the batch is the global one already. Its inner features
    are taps by the paths of its modules, ``Dense_0`` or ``blocks/3/mlp``. Collections other
    than ``params``, such as batch statistics, travel in the state's `extra` and are updated in
    training only. Layers that are there in training only are initialised too. A module whose
    ``__call__`` has an argument ``weight`` is told in training how much each example counts: 0 is
    padding. One with an argument ``dtype`` is told in which type it computes.

    Args:
      module: an instance; attributes of those names are set in a copy of it.
      mixed: as in `Model`: a module whose layers keep to the type of their inputs, as those of
        `kd.models.dense` do.
      frozen: layers that are in evaluation mode while the module trains are meant to be.

    Raises:
      KdError: when it is applied and not `frozen`: a layer whose mode is not the module's, so that
        dropout drops nothing or batch statistics never move.
    """
    accepted = inspect.signature(type(module).__call__).parameters
    arguments = tuple(name for name in MODES if name in accepted)
    attributes = tuple(name for name in _switches(module) if name not in accepted)
    adapted = _Adapted(module, arguments, attributes, frozen)
    made = Made(f"{type(module).__module__}:{type(module).__qualname__}")
    return Model(
        adapted.init,
        adapted.looking(()),
        mixed,
        made,
        functools.cache(adapted.looking),
        typed=DTYPE in accepted,
        weighs=WEIGHT in accepted,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Adapted:
    """A module, and the names by which it is told whether it trains."""

    module: nn.Module
    arguments: tuple[str, ...]
    attributes: tuple[str, ...]
    frozen: bool

    def init(self, key: jax.Array, inputs: Any) -> tuple[PyTree, PyTree]:
        variables = self._draw(key, inputs, False)
        if self.arguments or self.attributes:
            trained = jax.eval_shape(functools.partial(self._draw, train=True), key, inputs)
            if not _paths(trained) <= _paths(variables):
                variables = _merged(variables, self._draw(key, inputs, True))
        return variables.pop("params", {}), variables

    def looking(self, paths: tuple[str, ...]) -> Apply:
        """The module's `apply`, whose outputs carry the features at `paths`."""

        def apply(
            params: PyTree,
            extra: PyTree,
            inputs: Any,
            train: bool = False,
            key: jax.Array | None = None,
            **more: Any,
        ) -> tuple[Outputs, PyTree]:
            network, told = self._in_mode(train)
            told |= more
            variables, mutable = {"params": params, **extra}, list(extra) if train else []
            look = _look(paths, network, variables, inputs, told)

            def run(rngs: Rngs) -> Any:
                options = {**told, **look, "mutable": [*mutable, *_collections(paths)]}
                return network.apply(variables, inputs, rngs=rngs, **options)

            with self._checked(train):
                answer, updated = supplied(run, {} if key is None else {"dropout": key})
            outputs = _outputs(answer)
            if paths:
                features = taps.taken(paths, updated.pop(taps.COLLECTION), params)
                outputs = dataclasses.replace(outputs, taps={**outputs.taps, **features})
            if not train:
                return outputs, extra
            if not self.frozen:
                check_statistics(extra, updated)
            return outputs, updated

        return apply

    def _draw(self, key: jax.Array, inputs: Any, train: bool) -> dict[str, Any]:
        network, told = self._in_mode(train)
        with self._checked(train):
            drawn = supplied(lambda rngs: network.init(rngs, inputs, **told), {"params": key})
        return dict(nn.meta.unbox(drawn))

    def _in_mode(self, train: bool) -> tuple[nn.Module, dict[str, Any]]:
        copy = self.module
        if self.attributes:
            copy = copy.clone(**flags(self.attributes, train))
        return copy, flags(self.arguments, train)

    def _checked(self, train: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self.frozen else layers_in(train)


def as_model(model: Any) -> Model:
    """A `Model` as it is, or a Flax Linen module adapted. Raises a `KdError` for anything else."""
    if isinstance(model, Model):
        return model
    if isinstance(model, nn.Module):
        return linen(model)
    raise KdError(
        f"a model must be a kd Model or an instance of a Flax Linen module, got {model!r:.80}; "
        "e.g. MyModule(10)"
    )


def _switches(module: nn.Module) -> list[str]:
    """The attributes of a module that say whether it trains."""
    own = {field.name for field in dataclasses.fields(module)}
    return [
        name for name in MODES if name in own and isinstance(getattr(module, name), bool | None)
    ]


def _paths(variables: PyTree) -> set[str]:
    return {
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)
    }


def _merged(first: Any, more: Any) -> Any:
    """`first` with what only `more` has, down to the leaves."""
    if not isinstance(first, Mapping) or not isinstance(more, Mapping):
        return first
    both = {name: _merged(value, more.get(name)) for name, value in first.items()}
    return {**more, **both}


def _collections(paths: tuple[str, ...]) -> list[str]:
    return [taps.COLLECTION] if paths else []


def _look(
    paths: tuple[str, ...], network: nn.Module, variables: PyTree, inputs: Any, told: Any
) -> dict[str, Any]:
    """What `apply` is told, so that it keeps the answers at `paths`; they are checked first."""
    if not paths:
        return {}
    keys = {"dropout": rng.key(0)}
    taps.check(
        paths,
        supplied(lambda rngs: taps.known(network, variables, inputs, rngs=rngs, **told), keys),
    )
    return {"capture_intermediates": taps.capturing(taps.layers(paths))}


def _outputs(answer: Any) -> Outputs:
    if isinstance(answer, (tuple, list, Mapping)):
        raise KdError(
            f"a model must answer with one array of logits, got a {type(answer).__name__}; return "
            "the logits"
        )
    return answer if isinstance(answer, Outputs) else Outputs(answer)
