"""Commands, mutated."""

import functools
import pathlib

import runs
from fuzz import doors
from fuzz.oracle import Case, trained
from fuzz.values import PATHS, SOURCES, USUAL, choice, slip, value

KEYS = {"data__eval": "test", "total_steps": 30, "log_steps": 10, "optim__learning_rate": 0.2}
LENGTHS = ("config.total_steps", "config.total_epochs")  # of a run: not every number ends today
SHORT = ["0", "1", "7", "-1", "2.5", "true", "none", "nan", "'x'", "1e400", "(1,)", "2147483648"]


def train(bases, arg="", **more):
    """The arguments of a command that learns."""
    keys = {**KEYS, **({"teacher__workdir": bases["hard"]} if arg else {}), **more}
    return runs.kd("train", "--workdir=run", arg=arg, **keys)


def case(random, bases):
    """A command with one to three mutations, or none."""
    words = choice(random, [_train, _train, *[_door] * 4, _other, _other])(random, bases)
    before = list(words)
    for _ in range(int(choice(random, [0, 1, 1, 1, 1, 1, 2, 2, 3]))):
        words = choice(random, MUTATIONS)(random, words)
    learns = before == words
    return Case(shown(words), lambda: _main(words), lambda *_: _wrongs(words, learns))


def shown(words):
    """A command in a line of a table."""
    return " ".join(repr(w if len(w) <= 120 else f"{w[:60]}…({len(w)})") for w in words)


def _main(words):
    from kd.cli.main import main

    if any(word.startswith(f"--config={name}:") for word in words for name in FILES):
        _write_config_files()
    return main(words)


def _train(random, bases):
    arg = choice(random, ["", "", "distilled", "population"])
    return train(bases, arg)


def _door(random, bases):
    """A run through one of the other doors."""
    if random.random() < 0.5:
        keys = doors.runs(bases)
        return train(bases, **keys[choice(random, sorted(keys))])
    keys = doors.teachers(bases)
    chosen = keys[choice(random, sorted(keys))]
    return train(bases, "distilled", **{"teacher__workdir": "none", **chosen})


def _other(random, bases):
    return list(
        choice(
            random,
            [
                ["list"],
                ["export", bases["hard"], "out"],
                ["export", bases["population"], "out", "--member=1", "--format=safetensors"],
                ["eval", f"--workdir={bases['mixed']}"],
                ["eval", f"--workdir={bases['asked']}", doors.ALLOWED],
                ["audit", bases["population"], bases["mixed"], "--out=audit"],
                [*train(bases), "--dry_run"],
                ["eval", f"--workdir={bases['hard']}", "--split=test[:50]"],
                ["eval", f"--workdir={bases['distilled']}"],
                ["audit", bases["hard"], bases["distilled"], "--out=audit"],
                ["report", "results"],
                ["reproduce", "hinton2015-digit", "--workdir=experiment"],
                runs.kd("plan", f"--config={CONFIG}", "--topology=v5e:2x3x5"),
                [*train(bases), "--show-sharding"],
            ],
        )
    )


CONFIG = f"{runs.ROOT / 'tests' / 'runs.py'}:"


@functools.cache
def _keys():
    from kd.config import base_config

    def walk(part, path):
        for key, inner in part.items():
            yield f"{path}.{key}"
            if hasattr(inner, "items"):
                yield from walk(inner, f"{path}.{key}")

    extra = ("student.widths", "student.name", "student.classes", "objective.hard.weight")
    extra += ("objective.soft_targets.temperature", "population.seed", "teacher.model.name")
    extra += ("student.init", "objective.bce.weight", "objective.soft_bce.temperature")
    extra += ("objective.mse.weight", "objective.soft_mse.weight", "objective.kl.temperature")
    extra += tuple(f"teachers.{name}.{key}" for name in ("net", "forest") for key in _OF_A_TEACHER)
    return [*walk(base_config(), "config"), *(f"config.{key}" for key in extra)]


_OF_A_TEACHER = ("source", "weight", "average", "kind", "temperature", "classes")


def _set_key(random, words):
    key = choice(random, _keys())
    text = choice(random, SHORT) if key in LENGTHS else value(random)
    if key.endswith(("workdir", "data_dir")):
        text = choice(random, PATHS)
    if key.endswith(("source", "init")):
        text = choice(random, [text, *[choice(random, SOURCES)] * 3])
    return [*words, f"--{key}={text}"]


def _mistype_key(random, words):
    key = slip(random, choice(random, _keys()))
    return [*words, f"--{key}={choice(random, USUAL)}"]


def _below_a_key(random, words):
    key = choice(random, _keys())
    tail = choice(random, [".x", ".0", ".", "..x", ".name", ".keys", ".__class__"])
    return [*words, f"--{key}{tail}={choice(random, USUAL)}"]


def _odd_value(random, words):
    """In place of the value that is there."""
    places = [i for i, word in enumerate(words) if word.startswith("--") and "=" in word]
    places = [i for i in places if words[i].split("=")[0].removeprefix("--") not in LENGTHS]
    if not places:
        return [*words, value(random)]
    place = choice(random, places)
    name = words[place].partition("=")[0]
    path = "config" not in name or name.endswith("workdir")
    text = choice(random, PATHS) if path else value(random)
    return [*words[:place], f"{name}={text}", *words[place + 1 :]]


def _slip(random, words):
    place = int(random.integers(len(words)))
    return [*words[:place], slip(random, words[place]), *words[place + 1 :]]


def _drop(random, words):
    place = int(random.integers(len(words)))
    return [*words[:place], *words[place + 1 :]]


def _twice(random, words):
    return [*words, choice(random, words)]


def _config_file(random, words):
    """The config file at a place of an odd name, or with an odd argument."""
    argument = choice(random, ["", "x", "distilled:x", "é"])
    changed = [w for w in words if not w.startswith("--config=")]
    return [*changed[:1], f"--config={choice(random, FILES)}:{argument}", *changed[1:]]


FILES = ["a:b.py", "a:b/c.py", "é.py", "a b.py", "x" * 250 + ".py", "d", "~/c.py"]


def _write_config_files():
    text = (runs.ROOT / "tests" / "runs.py").read_text("utf-8")
    for name in FILES:
        path = pathlib.Path(name).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text(text, "utf-8")
        else:
            path.mkdir()


MUTATIONS = [
    *[_set_key] * 6,
    *[_odd_value] * 4,
    *[_slip] * 2,
    _mistype_key,
    _below_a_key,
    _drop,
    _twice,
    _config_file,
]


def _wrongs(words, learns):
    here = pathlib.Path.cwd()
    odd = [path.name for path in here.iterdir() if path.name in ("~", "gs:", "s3:", "http:")]
    wrongs = [f"a folder named {name}" for name in odd]
    if words[:1] == ["export"] and not any(here.rglob("config.json")):
        wrongs.append("exit 0 and nothing was exported")
    if words[:1] != ["train"] or {"--show-sharding", "--dry_run"} & set(words):
        return wrongs
    workdirs = [path.parent for path in here.rglob("run.json")]
    return wrongs + [wrong for path in workdirs for wrong in trained(path, learns)]
