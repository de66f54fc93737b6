"""What became of a case: ok, refused, or one of the three that must never be."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import sys
import traceback
from collections.abc import Callable

import numpy as np

KINDS = ("ok", "refused", "traceback", "hang", "silent wrong")
WRONG = KINDS[2:]
ALLOWED = ("fuzz", "tagger")  # packages whose code the commands name
SHORT = "metrics end before the run does"


@dataclasses.dataclass(frozen=True)
class Case:
    """`call` does something in the present folder; `wrongs` looks at what it left and lists what is
    wrong, given what was said on stdout and on stderr.
    """

    words: str
    call: Callable[[], object]
    wrongs: Callable[..., list[str]] = lambda *_: []


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of the case `number` of `family`. `results` are evaluations: see `evaluated`."""

    family: str
    number: int
    words: str
    kind: str
    detail: str = ""
    results: dict = dataclasses.field(default_factory=dict)


def judged(family, number, case):
    """Run a case in the present folder."""
    from kd.errors import KdError

    error, code = None, 0
    with _captured() as said:
        try:
            code = case.call()
        except SystemExit as stop:
            code = stop.code
        except KdError as refusal:  # of the library: the command line says it itself
            print(f"kd: {refusal}", file=sys.stderr)
            code = 2
        except BaseException as other:
            error = other
    out, err = (path.read_text("utf-8", errors="replace") for path in said)
    if error is not None:
        return Outcome(family, number, case.words, "traceback", _last(error))
    if code == 2:
        wrong = _refusal(err)
        return Outcome(
            family, number, case.words, "traceback" if wrong else "refused", wrong or err[-200:]
        )
    if isinstance(code, int) and code != 0:
        return Outcome(family, number, case.words, "traceback", f"exit code {code}: {err[-200:]}")
    try:
        wrongs, results = case.wrongs(out, err), {}
    except Exception as unreadable:  # what was left cannot be read
        wrongs, results = [_last(unreadable)], {}
    for run in sorted(pathlib.Path.cwd().rglob("evaluation.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            results |= evaluated(run.parent)
    if not all(results.values()) and "nothing is measured" not in err:
        wrongs = [*wrongs, "an evaluation of nobody, and nothing was said"]
    kind = "silent wrong" if wrongs else "ok"
    return Outcome(family, number, case.words, kind, "; ".join(wrongs), results)


def evaluated(path):
    """The numbers of a run's evaluation, member by member, by its fingerprint and those of the
    splits that it looked at.
    """
    owner, evaluation = (
        json.loads((path / name).read_text("utf-8")) for name in ("run.json", "evaluation.json")
    )
    splits = owner["lineage"]["data"][0]["splits"]
    who = " ".join([owner["fingerprint"], *(f"{name}={splits[name]}" for name in sorted(splits))])
    return {who: [_told(member) for member in evaluation["members"]]}


def _told(member):
    """A count and a number of a member's evaluation; of numbers there is nothing to count."""
    return [member.get("errors", 0), member["nll" if "nll" in member else "rmse"]]


def disagreements(outcomes, recorded):
    """The same outcomes; those whose evaluation is another than that recorded under their
    fingerprints are silent wrongs.
    """
    seen, judged = dict(recorded), []
    for outcome in outcomes:
        wrongs = [
            f"another evaluation under fingerprint {fingerprint}: {result}, was {seen[fingerprint]}"
            for fingerprint, result in outcome.results.items()
            if not _alike(seen.setdefault(fingerprint, result), result)
        ]
        if wrongs and outcome.kind == "ok":
            outcome = dataclasses.replace(outcome, kind="silent wrong", detail="; ".join(wrongs))
        judged.append(outcome)
    return judged


def _alike(first, other):
    """Errors may differ by one, and the likelihood by rounding."""
    if np.shape(first) != np.shape(other):
        return False
    return not first or np.allclose(first, other, rtol=1e-3, atol=[1, 1e-3])


def trained(path, learns):
    """What is wrong with the run at `path`, which a command said that it had trained."""
    from kd.runs.workdir import find

    run = find(path, ALLOWED)
    evaluation, wrongs = run.read("evaluation.json"), []
    if evaluation is None:
        return ["exit 0 and no evaluation"]
    lines = [json.loads(line) for line in run.metrics.read_text("utf-8").splitlines()]
    defined = [_defined(member) for member in evaluation["members"]]
    numbers = [_numbers(line) for line in lines] + [_numbers(defined)]
    if not all(isinstance(n, (int, float)) and math.isfinite(n) for ns in numbers for n in ns):
        wrongs.append("metrics that are not finite")
    if not lines or lines[-1]["step"] != evaluation["step"]:
        wrongs.append(SHORT)
    wrongs += _worse_than_chance(evaluation["members"], run.owner["num_classes"]) if learns else []
    chosen = np.all(evaluation.get("best_step", 1))  # else the first state was the best
    return wrongs + (_unchanged(run) if chosen else [])


def _worse_than_chance(members, classes):
    wrongs = []
    for member in members:
        if "accuracy" not in member or member["accuracy"] >= 1:
            continue
        count = member["errors"] / (1 - member["accuracy"])
        chance = 1 / max(classes, 2)  # a single output says yes or no
        if member["accuracy"] < chance - 3 * math.sqrt(chance * (1 - chance) / count):
            wrongs.append(f"accuracy {member['accuracy']:.3f} of {classes} classes, below chance")
    return wrongs


def _unchanged(run):
    """Compared with the weights that it began with."""
    import jax

    from kd.runs.build import build_task
    from kd.runs.load import load_trained
    from kd.runs.splits import load_splits
    from kd.training.task import initial_state

    task = build_task(run.spec, load_splits(run.spec)[0], None)
    after = load_trained(run.path, allow_code=ALLOWED).params
    trees = initial_state(task).params, after
    pairs = zip(*map(jax.tree.leaves, trees), strict=True)
    same = all(np.array_equal(before, after) for before, after in pairs)
    return ["parameters that never moved"] if same and task.total_steps else []


def _defined(member):
    """Without the metrics that such labels do not have, such as an AUROC of one kind of them."""
    return {name: value for name, value in member.items() if value is not None}


def _numbers(value):
    if isinstance(value, dict):
        return [n for key, inner in value.items() if key != "wrong" for n in _numbers(inner)]
    return [n for inner in value for n in _numbers(inner)] if isinstance(value, list) else [value]


def _refusal(err):
    """What is wrong with a refusal; empty if it is one line that says who speaks."""
    lines = [line for line in err.splitlines() if not line.startswith(("train: ", "fit: "))]
    if len(lines) != 1 or not lines[0].startswith("kd: "):
        return f"{len(lines)} lines: {' / '.join(lines)[:300]}"
    return f"a line of {len(lines[0])} characters" if len(lines[0]) > 2000 else ""


def _last(error):
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/kd/" in frame.filename] or frames
    at = f"{pathlib.Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"{type(error).__name__} at {at}: {' '.join(str(error).split())[:160]}"


@contextlib.contextmanager
def _captured():
    """Everything that is said meanwhile, by libraries in C too: files of stdout and stderr."""
    paths = [pathlib.Path(f"../said.{name}").resolve() for name in ("out", "err")]
    kept = [os.dup(number) for number in (1, 2)]
    for number, path in enumerate(paths, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    try:
        with (
            open(1, "w", encoding="utf-8", closefd=False) as out,
            open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False) as err,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            yield paths
    finally:
        for number, before in enumerate(kept, 1):
            os.dup2(before, number)
            os.close(before)
