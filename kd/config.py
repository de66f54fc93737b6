"""From a ConfigDict to frozen, typed specs: units turned into steps, unknown keys refused, a
fingerprint.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import hashlib
import inspect
import json
import pathlib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ml_collections import ConfigDict

from kd.errors import KdError, unknown
from kd.mesh import MeshSpec
from kd.models import MODELS
from kd.objective import Term, term
from kd.optim import Optim
from kd.population import check_population
from kd.registry import lookup, source_fingerprint
from kd.schedules import Schedule
from kd.sharding import Sharding


@dataclasses.dataclass(frozen=True)
class Data:
    """`train` and `eval` are splits in TFDS notation; `jitter_pixels` is the largest shift of an
    image.

    With `classes` only the examples of these labels are trained on; evaluation is on all of them.

    With `stream` examples are read as they are needed and never held in memory; then `image_size`
    makes images of any size into squares of so many pixels, `crop` takes a random part of each for
    training, and `flip` turns half of them round. `mixup` mixes each image with another; a mixed
    image has no label. `examples` is the declared number of training examples, for planning a run
    where the data is not.
    """

    source: str = "digits"
    train: str = "train"
    eval: str = "test"
    classes: tuple[int, ...] | None = None
    data_dir: str | None = None
    batch_size: int = 100
    jitter_pixels: int = 0
    stream: bool = False
    image_size: int | None = None
    crop: Literal["none", "random"] = "none"
    flip: bool = False
    mixup: bool = False
    examples: int | None = None


@dataclasses.dataclass(frozen=True)
class TeacherSpec:
    """`workdir` of a finished run, one model or a population; `precompute` its logits on the
    transfer set or not.

    `model` is its architecture, spelled as `student` is, and `members` how many of them an ensemble
    has, for planning a run whose teacher is not trained yet; where there is a workdir, what is in
    it counts.
    """

    workdir: str | None = None
    average: Literal["arithmetic", "geometric", "per_member"] = "arithmetic"
    precompute: bool = True
    model: Mapping[str, Any] | None = None
    members: int | None = None


@dataclasses.dataclass(frozen=True)
class Spec:
    """A training run, resolved.

    Give exactly one of `total_epochs` and `total_steps`. `log_steps` is also the number of steps in
    one dispatch. `population` maps ``seed``, ``init_seed`` (of the first weights alone),
    ``teacher`` (a member of it for each student), ``learning_rate``, or
    ``<term>: {weight | temperature | ...}`` to a tuple with one value per member; all members train
    in one program. `early_stopping` is None or a validation split: the result is then, for each
    member, its state with the fewest errors on that split, looked at every `eval_epochs`.

    `accumulate` takes each batch in so many parts, one after another; `remat` computes activations
    again instead of keeping them; `compute` is the type that student and teacher compute in, while
    parameters, sums and logits stay float32; `ema` above 0 makes the result a moving average of the
    parameters with that decay. `mesh` and `sharding` say where arrays live, and change nothing but
    speed and memory.
    """

    seed: int = 0
    data: Data = Data()
    student: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "mlp"})
    teacher: TeacherSpec = TeacherSpec()
    objective: Mapping[str, Mapping[str, Any] | None] = dataclasses.field(default_factory=dict)
    optim: Optim = Optim()
    total_epochs: float | None = None
    total_steps: int | None = None
    population: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    log_steps: int = 50
    early_stopping: str | None = None
    eval_epochs: float | None = None
    checkpoint_epochs: float | None = None
    accumulate: int = 1
    remat: bool = False
    compute: Literal["float32", "bfloat16"] = "float32"
    ema: float = 0.0
    mesh: MeshSpec = MeshSpec()
    sharding: Sharding = Sharding()


# What may change between two starts of the same run without making it another run.
_CADENCE = ("log_steps", "eval_epochs", "checkpoint_epochs", "mesh", "sharding", "remat")
_LARGEST = 2**14  # pixels: of a larger image not even one fits anywhere
# Switches that came later. Off, they are no part of who a run is: its folder still belongs to it.
_OFF = {
    "accumulate": 1,
    "compute": "float32",
    "ema": 0.0,
    "data.stream": False,
    "data.image_size": None,
    "data.crop": "none",
    "data.flip": False,
    "data.mixup": False,
    "optim.clip_norm": 0.0,
}


def base_config() -> ConfigDict:
    """A ConfigDict with every key of a run and its default, for files in configs/ to fill in."""
    return ConfigDict(_plain(Spec()), type_safe=False)


def resolve(config: ConfigDict | Mapping[str, Any]) -> Spec:
    """The frozen spec of a config.

    Raises:
      KdError: an unknown key (nearest shown), a wrong type, a value out of range, both or neither
        of the two lengths.
    """
    given = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    if "seeds" in given and "objective" not in given:
        raise KdError(
            "this config is of an experiment, not of one run; it goes with 'kd reproduce', see "
            "'kd list'"
        )
    spec = build(Spec, given, "config")
    if (spec.total_epochs is None) == (spec.total_steps is None):
        raise KdError("give exactly one of config.total_epochs and config.total_steps")
    for name in ("total_epochs", "total_steps", "eval_epochs", "checkpoint_epochs", "log_steps"):
        value = getattr(spec, name)
        if value is not None and not 0 < value < 2**31:
            raise KdError(f"config.{name} must be more than 0 and below 2^31, got {value}")
    _check_switches(spec)
    if not 0 <= spec.seed < 2**31:
        raise KdError(f"config.seed must lie in [0, 2^31), got {spec.seed}")
    if spec.early_stopping is not None and spec.eval_epochs is None:
        raise KdError(
            "config.early_stopping looks at a validation split every config.eval_epochs; set that "
            "too"
        )
    if spec.early_stopping == spec.data.eval and spec.data.eval.startswith("test"):
        raise KdError(
            "config.early_stopping would choose the state by the test set that it is measured "
            f"on, '{spec.data.eval}'; "
            "name another one, e.g. a part of the training set"
        )
    check_options(spec.student)
    if spec.teacher.model is not None:
        check_options(spec.teacher.model, "config.teacher.model")
    if spec.teacher.members is not None:
        _check_members(spec)
    check_population(spec.population, make_terms(spec))
    return spec


def _check_members(spec: Spec) -> None:
    if not 0 < (spec.teacher.members or 0) < 2**31:
        raise KdError(
            f"config.teacher.members must be 1 or more, got {spec.teacher.members}; none is a "
            "single model"
        )
    if spec.teacher.model is None:
        raise KdError(
            "config.teacher.members counts models and config.teacher.model declares none; declare "
            "it too"
        )


def _check_switches(spec: Spec) -> None:
    if not 0 <= spec.ema < 1:
        raise KdError(
            f"config.ema is a decay and must lie in [0, 1), got {spec.ema}; 0 keeps no average"
        )
    if not 0 < spec.accumulate < 2**31:
        raise KdError(f"config.accumulate must be 1 or more, and below 2^31, got {spec.accumulate}")
    if spec.data.image_size is not None and not 0 < spec.data.image_size <= _LARGEST:
        raise KdError(
            f"config.data.image_size must be 1 or more, and {_LARGEST} at most, got "
            f"{spec.data.image_size}"
        )
    if spec.data.examples is not None and not 0 < spec.data.examples < 2**31:
        raise KdError(
            "config.data.examples must be 1 or more, and below 2^31, or none, got "
            f"{spec.data.examples}"
        )
    read = {
        "image_size": spec.data.image_size is not None,
        "crop": spec.data.crop != "none",
        "flip": spec.data.flip,
    }
    for name in [name for name, on in read.items() if on]:
        if not spec.data.stream:
            raise KdError(
                f"config.data.{name} is done while images are read; set config.data.stream=true too"
            )
    if spec.data.crop != "none" and spec.data.image_size is None:
        raise KdError(
            "config.data.crop needs the size of its result; set config.data.image_size, in pixels"
        )


def make_terms(spec: Spec) -> list[Term]:
    """The objective's terms. Raises a `KdError` when there is none, or one is not well-formed."""
    if not spec.objective:
        raise KdError(
            "config.objective is empty; set e.g. config.objective = {'hard': {'weight': 1.0}}"
        )
    terms = []
    for name, given in spec.objective.items():
        if given is None:  # --config.objective.hard=none drops a term
            continue
        path = f"config.objective.{name}"
        if not isinstance(given, Mapping):
            raise KdError(f"{path} must be a mapping such as {{'weight': 1.0}}, got {given!r}")
        options = dict(given)
        for key in ("weight_schedule", "temperature_schedule"):
            if options.get(key) is not None:
                options[key] = build(Schedule, options[key], f"{path}.{key}")
        terms.append(term(options.pop("loss", name), name=name, **options))
    return terms


def check_options(student: Mapping[str, Any], path: str = "config.student") -> None:
    """Raise a `KdError` unless the student's name is a model and its options are what that model
    takes.
    """
    if "name" not in student:
        for slip in difflib.get_close_matches("name", map(str, student), n=1):
            raise unknown(f"key in {path}:", slip, ["name"])
        raise KdError(f"{path}.name is missing; see 'kd list' for the models")
    model = lookup("model", student["name"], MODELS)
    accepted = inspect.signature(model).parameters
    hints = typing.get_type_hints(model)
    for key, value in student.items():
        if key == "name" or (key == "classes" and value is None):
            continue
        if key not in accepted:
            raise unknown(f"key in {path}:", key, ["name", *accepted])
        _check_type(value, hints.get(key, Any), f"{path}.{key}")


def fingerprint_of(value: Any) -> str:
    """Hash of anything JSON can hold: 12 hexadecimal digits."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def identity(spec: Spec, teacher_fingerprint: str = "") -> dict[str, Any]:
    """What makes this run this run: everything but cadence, mesh and folders; the teacher by its
    fingerprint.
    """
    # when it looks is part of what it finds
    matters = () if spec.early_stopping is None else ("eval_epochs",)
    plain = {
        key: value for key, value in _plain(spec).items() if key not in _CADENCE or key in matters
    }
    plain["data"] = {
        key: value for key, value in plain["data"].items() if key not in ("data_dir", "examples")
    }
    plain["teacher"] = {**plain["teacher"], "workdir": teacher_fingerprint}
    for declared in ("model", "members"):  # its fingerprint says more
        del plain["teacher"][declared]
    for path, off in _OFF.items():
        *parents, leaf = path.split(".")
        part = plain[parents[0]] if parents else plain
        if part[leaf] == off:
            del part[leaf]
    names = [
        spec.student.get("name"),
        spec.data.source,
        *((t or {}).get("loss") for t in spec.objective.values()),
    ]
    plain["code"] = {name: source_fingerprint(name) for name in names if isinstance(name, str)}
    return plain


def to_json(spec: Spec) -> str:
    """The resolved config as text, one key a line, for golden files and work directories."""
    return json.dumps(_plain(spec), indent=2, sort_keys=True)


def from_json(text: str) -> Spec:
    """The spec that `to_json` wrote."""
    return resolve(json.loads(text))


def load_config(
    path: str | pathlib.Path, argument: str = "", overrides: Iterable[str] = ()
) -> ConfigDict:
    """``get_config(argument)`` of a Python file, with ``key.subkey=value`` overrides applied.

    Values are Python literals; what is not a literal is text. An override may name any key that
    `resolve` knows.

    Raises:
      KdError: no such file, one that is not Python or has no ``get_config``, an argument it does
        not take, an unknown key on the way. What the file itself raises is its own.
    """
    if not pathlib.Path(path).is_file():
        raise KdError(f"no config file {path}; the ones that ship are in configs/")
    module: dict[str, Any] = {"__name__": pathlib.Path(path).stem, "__file__": str(path)}
    try:
        code = compile(pathlib.Path(path).read_text("utf-8"), str(path), "exec")
    except SyntaxError as error:
        raise KdError(
            f"config file {path} is not Python: line {error.lineno}: {error.msg}; mend that line"
        ) from error
    except (OSError, ValueError) as error:  # not readable, or bytes that are not text
        raise KdError(f"cannot read config file {path}: {error}; give a Python file") from error
    exec(code, module)
    if "get_config" not in module:
        raise KdError(f"{path} has no function get_config(arg); see configs/ for examples")
    config = module["get_config"](argument)
    if not isinstance(config, ConfigDict):
        raise KdError(
            f"get_config of {path} returned {type(config).__name__}; return a ConfigDict, see "
            "configs/"
        )
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise KdError(f"--config.{key} needs a value: --config.{key}=VALUE")
        _override(config, key, text)
    return config


def choose(argument: str, *known: str) -> str:
    """`argument` if it is one of `known`, which a config's ``get_config`` understands; a `KdError`
    otherwise.
    """
    if argument not in known:
        raise unknown("config argument", argument, [name for name in known if name])
    return argument


# terms, columns and parameters have names of their own
_OPEN = (
    "objective",
    "population",
    "paths",
)


def _override(config: ConfigDict, key: str, text: str) -> None:
    *parents, leaf = key.split(".")
    here, path = config, "config"
    for parent in parents:
        if isinstance(here, ConfigDict) and path.rpartition(".")[2] in _OPEN and parent not in here:
            here[parent] = ConfigDict()
        if not isinstance(here, ConfigDict) or parent not in here:
            raise unknown(
                f"key in {path}:", parent, here.keys() if isinstance(here, ConfigDict) else ()
            )
        if here[parent] is None and (path, parent) == ("config.teacher", "model"):
            with here.unlocked(), here.ignore_type():
                here[parent] = ConfigDict()
        here, path = here[parent], f"{path}.{parent}"
    if not isinstance(here, ConfigDict):
        raise KdError(f"{path} is a value and has no key '{leaf}'; set {path} itself")
    with here.unlocked(), here.ignore_type():  # `resolve` checks types, and says which one it wants
        if (
            path in ("config.student", "config.teacher.model")
            and leaf == "name"
            and here.get("name") != text
        ):
            for option in list(
                here
            ):  # another model: the options of the one before are not its own
                del here[option]
        here[leaf] = _literal(text)


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    try:
        return words[text.lower()] if text.lower() in words else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def build(cls: type, given: Any, path: str) -> Any:
    """The frozen dataclass `cls` from nested mappings.

    Raises a `KdError` for an unknown key or a wrong type.
    """
    if isinstance(given, ConfigDict):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        raise KdError(f"{path} must be a mapping, got {given!r}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in given.items():
        if key not in hints:
            raise unknown(f"key in {path}:", key, hints)
        if dataclasses.is_dataclass(hints[key]):
            values[key] = build(typing.cast(type, hints[key]), value, f"{path}.{key}")
        else:
            values[key] = _floats(_check_type(value, hints[key], f"{path}.{key}"), hints[key])
    required = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is f.default_factory is dataclasses.MISSING
    ]
    missing = [key for key in required if key not in values]
    if missing:
        raise KdError(f"{path}.{missing[0]} is missing; it has no default")
    return cls(**values)


def _check_type(value: Any, hint: Any, path: str) -> Any:
    from beartype import BeartypeConf
    from beartype.door import is_bearable

    value = _tuples(value)
    boolean_for_number = (
        isinstance(value, bool) and hint is not bool and bool not in typing.get_args(hint)
    )
    if (boolean_for_number and hint is not Any) or not is_bearable(
        value, hint, conf=BeartypeConf(is_pep484_tower=True)
    ):
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise KdError(f"{path} must be {wanted}, got {value!r} ({type(value).__name__})")
    return value


def _floats(value: Any, hint: Any) -> Any:
    """Whole numbers become floats where floats are wanted: 30 epochs and 30.0 epochs are the same
    run.
    """
    inner = typing.get_args(hint)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if hint is float or (float in inner and int not in inner) else value
    if isinstance(value, tuple) and typing.get_origin(hint) is tuple:
        hints = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(_floats(one, wanted) for one, wanted in zip(value, hints, strict=True))
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_plain(inner) for inner in value)
    return value
