"""A training run as a frozen, typed spec: what a config may say, and what is refused."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

from ml_collections import ConfigDict

from kd.calling import parameters
from kd.config.idle import check_idle
from kd.config.init import (
    NORMALISED,
    RESERVED,
    of_teacher,
    parse_init,
    parse_layers,
    with_place,
)
from kd.config.local_copy import LocalCopy, check_local_copy
from kd.config.source import Source
from kd.config.teacher import Part, TeacherSpec, check_teacher, here, make_parts
from kd.config.typed import build, plain
from kd.core.members import Members, make_members
from kd.core.optim import Optim
from kd.core.schedules import Schedule
from kd.core.terms import Term, check_whole_batch, term
from kd.core.types import Targets
from kd.data import Text, check_text
from kd.errors import KdError, unknown
from kd.evals import MORE_IS_BETTER
from kd.fields import later, outside_identity
from kd.hints import check_type
from kd.models import MODELS
from kd.models.normalised import check_normalisation
from kd.names import lookup
from kd.placement.mesh import MeshSpec
from kd.placement.sharding import Sharding
from kd.system.paths import anywhere


@dataclasses.dataclass(frozen=True)
class Data:
    """`train` and `eval` are splits in TFDS notation; `jitter_pixels` is the largest shift of an
    image.

    With `classes` only the examples of these labels are trained on; evaluation is on all of them.

    `image_size` makes images of any size into squares of so many pixels. With `stream` examples are
    read as they are needed and never held in memory; then `crop` takes a random part of each for
    training. `flip` turns half of them round. `mixup` mixes each image with another; a mixed image
    has no label. With `views` an example is shifted and turned round in so many ways and no others,
    the same in every run, so that a teacher's answers to them can be kept.

    The model sees the stored numbers times `scale`; None is the scale of the source: see
    `kd.data.arrays`; so is `targets`, what the labels of a file are. `class_weights` are
    "balanced", a number for each class, or a mapping from names of classes: see
    `kd.data.weigh_classes`. `text` says how files of text become tokens: see
    `kd.data.Text`. `examples` is the declared number of training examples, for planning a run where
    the data is not. `licence` is recorded with the run.
    """

    source: str = "digits"
    train: str = "train"
    eval: str = "test"
    classes: tuple[int, ...] | None = None
    data_dir: str | None = outside_identity(None)
    batch_size: int = 100
    jitter_pixels: int = 0
    stream: bool = later(False)
    image_size: int | None = later(None)
    crop: Literal["none", "random"] = later("none")
    flip: bool = later(False)
    mixup: bool = later(False)
    views: int | None = later(None)
    scale: float | None = later(None)
    targets: Targets | None = later(None)
    class_weights: str | tuple[float, ...] | Mapping[str, float] | None = later(None)
    text: Text = later(Text())
    examples: int | None = outside_identity(None)
    licence: str = outside_identity("own")

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The keys by which every epoch shows other images."""
        keys = {
            "config.data.crop": self.crop != "none",
            "config.data.flip": self.flip,
            "config.data.mixup": self.mixup,
            "config.data.jitter_pixels": self.jitter_pixels,
        }
        return tuple(name for name, on in keys.items() if on)

    @property
    def why_not_kept(self) -> str:
        """Why a teacher's answers cannot be kept for this data; "" if they can."""
        if self.augmentations and self.views is None:
            return f"every epoch shows other images ({', '.join(self.augmentations)})"
        return "the examples are streamed (config.data.stream)" if self.stream else ""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A training run, resolved.

    Give exactly one of `total_epochs` and `total_steps`. `log_steps` is also the number of steps in
    one dispatch. `population` maps ``seed``, ``init_seed`` (of the first weights alone),
    ``teacher`` (a member of it for each student), ``learning_rate``, or
    ``<term>: {weight | temperature | ...}`` to a tuple with one value per member; all members train
    in one program. `early_stopping` is None or a validation split: the result is then, for each
    member, its state with the fewest errors on that split, looked at every `eval_epochs`; or the
    best by the metric that `watch` names (by nll where labels are yes or no, by rmse where they are
    numbers). With `patience` the run ends when every member has been looked at so many times
    without getting better. `student.init` names weights to begin with, such as ``run:DIR`` or
    ``teacher``, and `student.layers` which block each of its own begins as: see
    `kd.config.init`; `student.mean` and `student.deviation` are what its inputs are normalised by.

    `teachers` names several teachers, each with a `source` and a `weight`, which teach as one: see
    `kd.config.teacher.Part`. `teacher.average` then says how they are mixed, and who they are is
    part of the identity as one teacher is.

    `accumulate` takes each batch in so many parts, one after another; `remat` computes activations
    again instead of keeping them; `compute` is the type that the student computes in, while
    parameters, sums and logits stay float32 (a teacher computes as it was trained); `ema` above 0
    makes the result a moving average of the parameters with that decay. `mesh` and `sharding` say
    where arrays live, and change nothing but speed and memory, as does `keep_compiled`: whether
    compiled programs are kept on disk for the next run (see `kd.system.kept`); so does
    `local_copy`: see `kd.config.local_copy`. `allow_code` are packages whose code the teacher's run
    may name: see `kd.config.allowed`.
    """

    seed: int = 0
    data: Data = Data()
    student: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "mlp"})
    teacher: TeacherSpec = TeacherSpec()
    teachers: Mapping[str, Any] | None = outside_identity(None)
    objective: Mapping[str, Mapping[str, Any] | None] = dataclasses.field(default_factory=dict)
    optim: Optim = Optim()
    total_epochs: float | None = None
    total_steps: int | None = None
    population: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    log_steps: int = outside_identity(50)
    early_stopping: str | None = None
    patience: int | None = later(None)
    watch: str | None = later(None)
    eval_epochs: float | None = outside_identity(None)
    checkpoint_epochs: float | None = outside_identity(None)
    local_copy: LocalCopy = outside_identity(LocalCopy())
    accumulate: int = later(1)
    remat: bool = outside_identity(False)
    compute: Literal["float32", "bfloat16"] = later("float32")
    ema: float = later(0.0)
    mesh: MeshSpec = outside_identity(MeshSpec())
    sharding: Sharding = outside_identity(Sharding())
    keep_compiled: bool = outside_identity(True)
    allow_code: tuple[str, ...] = outside_identity(())

    @functools.cached_property
    def terms(self) -> tuple[Term, ...]:
        """The objective's terms. Raises a `KdError` where there is none, or one is not
        well-formed.
        """
        return _terms(self.objective)

    @functools.cached_property
    def parts(self) -> Mapping[str, Part]:
        """The several teachers, by name. Raises a `KdError` as `make_parts` does."""
        return make_parts(self.teachers, self.teacher)

    @property
    def origins(self) -> tuple[Source, ...]:
        """Where each teacher comes from."""
        told = [self.teacher, *(part.spec for part in self.parts.values())]
        return tuple(teacher.origin for teacher in told if teacher.origin is not None)

    @functools.cached_property
    def members(self) -> Members:
        """The members of the run. Raises a `KdError` where a column does not fit."""
        return make_members(self.terms, self.population, self.optim.learning_rate, self.seed)


_LARGEST = 2**14  # pixels: of a larger image not even one fits anywhere


def base_config() -> ConfigDict:
    """A ConfigDict with every key of a run and its default, for files in configs/ to fill in."""
    return ConfigDict(plain(Spec()), type_safe=False)


def resolve(config: ConfigDict | Mapping[str, Any]) -> Spec:
    """The frozen spec of a config.

    Raises:
      KdError: an unknown key (nearest shown), a wrong type, a value out of range, both or neither
        of the two lengths, a key that changes nothing.
    """
    spec = _well_formed(config)
    check_idle(spec)
    return spec


def _well_formed(config: ConfigDict | Mapping[str, Any]) -> Spec:
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    if "seeds" in plain and "objective" not in plain:
        raise KdError(
            "this config is of an experiment, not of one run; it goes with 'kd reproduce', see "
            "'kd list'"
        )
    spec = _on_this_machine(build(Spec, plain, "config"))
    if (spec.total_epochs is None) == (spec.total_steps is None):
        raise KdError("give exactly one of config.total_epochs and config.total_steps")
    for name in ("total_epochs", "total_steps", "eval_epochs", "checkpoint_epochs", "log_steps"):
        value = getattr(spec, name)
        if value is not None and not 0 < value < 2**31:
            raise KdError(f"config.{name} must be more than 0 and below 2^31, got {value}")
    _check_switches(spec)
    check_local_copy(spec.local_copy)
    if not 0 <= spec.seed < 2**31:
        raise KdError(f"config.seed must lie in [0, 2^31), got {spec.seed}")
    if spec.early_stopping is not None and spec.eval_epochs is None:
        raise KdError(
            "config.early_stopping looks at a validation split every config.eval_epochs; set that "
            "too"
        )
    check_options(spec.student)
    parse_layers(spec.student)
    check_teacher(spec.teacher)
    for name, part in spec.parts.items():
        if part.model is not None:
            check_options(part.model, f"config.teachers.{name}.model")
    if spec.teacher.model is not None:
        check_options(spec.teacher.model, "config.teacher.model")
    _ = spec.members  # made now, so that what is wrong with them is said now
    check_whole_batch(spec.terms, spec.accumulate)
    return spec


def _on_this_machine(spec: Spec) -> Spec:
    """The spec with the paths of its folders as this machine has them."""

    def path(text: str | None, key: str) -> str | None:
        return str(anywhere(text, f"config.{key}")) if text else text

    data_dir = path(spec.data.data_dir, "data.data_dir")
    copies = path(spec.local_copy.folder, "local_copy.folder")
    student = of_teacher(spec.student, spec.teacher.origin)
    init = parse_init(student)
    if init is not None:
        student = with_place(student, init.source.place)
    return dataclasses.replace(
        spec,
        student=student,
        data=dataclasses.replace(spec.data, data_dir=data_dir),
        local_copy=dataclasses.replace(spec.local_copy, folder=copies),
        teacher=here(spec.teacher),
    )


def _check_switches(spec: Spec) -> None:
    if spec.patience is not None and not 0 < spec.patience < 2**31:
        raise KdError(f"config.patience must be 1 or more, or none, got {spec.patience}")
    if spec.watch is not None and spec.watch not in MORE_IS_BETTER:
        raise unknown("metric to watch:", spec.watch, MORE_IS_BETTER)
    if not 0 <= spec.ema < 1:
        raise KdError(
            f"config.ema is a decay and must lie in [0, 1), got {spec.ema}; 0 keeps no average"
        )
    if not 0 < spec.accumulate < 2**31:
        raise KdError(f"config.accumulate must be 1 or more, and below 2^31, got {spec.accumulate}")
    sizes = {"data": spec.data.image_size, "teacher": spec.teacher.image_size}
    for name, size in sizes.items():
        if isinstance(size, int) and not 0 < size <= _LARGEST:
            raise KdError(
                f"config.{name}.image_size must be 1 or more, and {_LARGEST} at most, got {size}"
            )
    if spec.teacher.image_size is not None and spec.data.jitter_pixels:
        raise KdError(
            "config.data.jitter_pixels shifts the student's images and not those of "
            "config.teacher.image_size; stream the images and take config.data.crop"
        )
    if spec.data.examples is not None and not 0 < spec.data.examples < 2**31:
        raise KdError(
            "config.data.examples must be 1 or more, and below 2^31, or none, got "
            f"{spec.data.examples}"
        )
    _check_views(spec.data)
    check_text(spec.data.text)
    scale = spec.data.scale
    if scale is not None and not 0 < abs(scale) < math.inf:
        raise KdError(
            "config.data.scale multiplies the inputs and must be a finite number other than 0, got "
            f"{scale}"
        )
    if spec.data.crop != "none" and spec.data.image_size is None:
        raise KdError(
            "config.data.crop needs the size of its result; set config.data.image_size, in pixels"
        )


def _check_views(data: Data) -> None:
    if data.views is None:
        return
    if not 0 < data.views < 2**31:
        raise KdError(f"config.data.views must be 1 or more, or none, got {data.views}")
    if data.stream:
        raise KdError(
            f"config.data.views={data.views} fixes what is seen of examples in memory, and "
            "config.data.stream reads others in every epoch; leave one of them out"
        )
    if data.mixup:
        raise KdError(
            f"config.data.views={data.views} fixes what is seen of each example, and "
            "config.data.mixup mixes it with others in every step; leave one of them out"
        )


def _terms(objective: Mapping[str, Mapping[str, Any] | None]) -> tuple[Term, ...]:
    if not objective:
        raise KdError(
            "config.objective is empty; set e.g. config.objective = {'hard': {'weight': 1.0}}"
        )
    terms = []
    for name, told in objective.items():
        if told is None:  # --config.objective.hard=none drops a term
            continue
        path = f"config.objective.{name}"
        if not isinstance(told, Mapping):
            raise KdError(f"{path} must be a mapping such as {{'weight': 1.0}}, got {told!r}")
        options = dict(told)
        for key in ("weight_schedule", "temperature_schedule"):
            if options.get(key) is not None:
                options[key] = build(Schedule, options[key], f"{path}.{key}")
        terms.append(term(options.pop("loss", name), name=name, **options))
    return tuple(terms)


def check_options(student: Mapping[str, Any], path: str = "config.student") -> None:
    """Raise a `KdError` unless the student's name is a model and its options are what that model
    takes.
    """
    if "name" not in student:
        for slip in difflib.get_close_matches("name", map(str, student), n=1):
            raise unknown(f"key in {path}:", slip, ["name"])
        raise KdError(f"{path}.name is missing; see 'kd list' for the models")
    model = lookup("model", student["name"], MODELS)
    accepted = parameters(model)
    hints = option_types(student)
    if "init" in student and path != "config.student":
        raise KdError(f"{path}.init changes nothing: only config.student begins with weights")
    if any(student.get(key) is not None for key in NORMALISED):
        check_normalisation(*map(student.get, NORMALISED), path=f"{path}.")
    for key, value in student.items():
        if key in RESERVED or (key == "classes" and value is None):
            continue
        if key not in accepted:
            raise unknown(f"key in {path}:", key, [*RESERVED, *accepted])
        check_type(value, hints.get(key, Any), f"{path}.{key}")


def option_types(student: Mapping[str, Any]) -> dict[str, Any]:
    """The type of every option that the student's model takes, as far as it names them, and of
    what its inputs are normalised by.
    """
    try:
        hints = typing.get_type_hints(lookup("model", student["name"], MODELS))
    except KdError:
        raise
    except Exception:  # names that are there for a type checker alone, or no function
        hints = {}
    return {**hints, **dict.fromkeys(NORMALISED, tuple[float, ...])}


def to_json(spec: Spec) -> str:
    """The resolved config as text, one key a line, for golden files and work directories."""
    return json.dumps(plain(spec), indent=2, sort_keys=True)


def from_json(text: str) -> Spec:
    """The spec that `to_json` wrote. What changes nothing is no reason to refuse what is stored."""
    return _well_formed(json.loads(text))
