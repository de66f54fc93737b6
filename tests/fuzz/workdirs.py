"""Work directories, damaged, and what each command makes of them."""

import json
import pathlib
import shutil

from fuzz import bases as kd_bases
from fuzz import doors
from fuzz.commands import shown, train
from fuzz.oracle import SHORT, Case, trained
from fuzz.values import choice

JUNK = [b"", b"{", b"[]", b"null", b"1", b'""', b"\0" * 64, b"\xff\xfe\x00", b"{}\n", b"\n"]
ODD = [None, True, -1, 0, 1, 2.5, 1e400, 2**70, "", "x", "~", "\0", [], [1], {}, {"a": 1}, [[]]]


def case(random, bases):
    """A finished run, or one that was stopped half-way, with one or two damages, or none."""
    name = choice(random, ["hard", "hard", "distilled", "population", "mixed", "asked"])
    stopped = random.random() < 0.3
    damages = [choice(random, DAMAGES) for _ in range(int(choice(random, [0, 1, 1, 1, 1, 2])))]
    seeds = [int(random.integers(2**31)) for _ in damages]
    command = choice(random, COMMANDS)
    words = command(name, bases)
    about = [name, *["stopped"] * stopped, *(damage.__name__[1:] for damage in damages), "then"]

    def call():
        import numpy as np

        from kd.cli.main import main

        shutil.copytree(bases[name], "run")
        if stopped:
            _stop(pathlib.Path("run"))
        before.extend(_whole_lines(pathlib.Path("run")))
        for damage, seed in zip(damages, seeds, strict=True):
            damage(np.random.default_rng(seed), pathlib.Path("run"))
        return main(words)

    before: list[str] = []
    usual = "" if stopped else bases.get(f"{name}: {words[0]}", "")
    return Case(
        f"{' '.join(about)} {shown(words)}",
        call,
        lambda out, err: _wrongs(words, out, err, before, usual),
    )


def _train_again(name, bases):
    return kd_bases.command(name, bases)


def _train_longer(name, bases):
    return kd_bases.command(name, bases, total_steps=40)


def _learn_from_it(name, bases):
    arg = "" if name == "hard" else "distilled"
    words = train({**bases, "hard": "run"}, arg or "distilled", checkpoint_epochs=3)
    return _student([*words, doors.ALLOWED])


def _learn_from_it_and_a_table(name, bases):
    keys = doors.teachers({**bases, "hard": "run"})["several"]
    return _student([*train(bases, "distilled", teacher__workdir="none", **keys), doors.ALLOWED])


def _begin_with_it(name, bases):
    member = "?member=0" * (name == "population")
    return _student([*train(bases, student__init=f"run:run{member}"), doors.ALLOWED])


def _student(words):
    return ["--workdir=student" if word == "--workdir=run" else word for word in words]


def _eval(name, bases):
    return ["eval", "--workdir=run", doors.ALLOWED]


def _audit(name, bases):
    return ["audit", bases["hard"], "run", "--out=audit", doors.ALLOWED]


def _audit_as_teacher(name, bases):
    return ["audit", "run", bases["hard"], "--out=audit", doors.ALLOWED]


def _export(name, bases):
    member = ["--member=0"] * (name == "population")
    return ["export", "run", "out", *member, doors.ALLOWED]


COMMANDS = [*[_train_again] * 5, *[_eval] * 2, _train_longer, _learn_from_it, _begin_with_it]
COMMANDS += [_learn_from_it_and_a_table, _audit, _audit_as_teacher, _export]


def _stop(run):
    """As it is when it was stopped after the checkpoint before the last."""
    (run / "evaluation.json").unlink()
    last = max(int(path.stem) for path in (run / "checkpoints" / "checksums").glob("*.json"))
    (run / "checkpoints" / "checksums" / f"{last}.json").unlink()
    shutil.rmtree(run / "checkpoints" / "steps" / str(last))


def _files(run):
    return sorted(path for path in run.rglob("*") if path.is_file())


def _any_file(random, run):
    files = _files(run)
    return choice(random, files) if files else run / "nothing"


def _top_file(random, run):
    names = ["run.json", "metrics.jsonl", "evaluation.json", "answers.json"]
    return choice(random, [run / name for name in names if (run / name).exists()] or [run / "x"])


def _checkpoint_file(random, run):
    files = _files(run / "checkpoints")
    return choice(random, files) if files else run / "nothing"


def _sums(random, run):
    files = sorted((run / "checkpoints" / "checksums").glob("*"))
    return choice(random, files) if files else run / "nothing"


def _damage(path, random):
    if not path.is_file():
        return
    content = bytearray(path.read_bytes())
    how = int(random.integers(6))
    if how == 0 or not content:
        path.unlink()
    elif how == 1:
        path.write_bytes(content[: random.integers(len(content))])
    elif how == 2:
        content[random.integers(len(content))] ^= 1 << random.integers(8)
        path.write_bytes(content)
    elif how == 3:
        path.write_bytes(choice(random, JUNK))
    elif how == 4:
        path.unlink()
        path.mkdir()
    else:
        place = random.integers(len(content))
        path.write_bytes(content[:place] + random.bytes(8) + content[place:])


def _any_file_damaged(random, run):
    _damage(_any_file(random, run), random)


def _a_file_of_the_run_damaged(random, run):
    _damage(_top_file(random, run), random)


def _a_checkpoint_file_damaged(random, run):
    _damage(_checkpoint_file(random, run), random)


def _checksums_damaged(random, run):
    _damage(_sums(random, run), random)


def _every_checksum_damaged(random, run):
    for path in sorted((run / "checkpoints" / "checksums").glob("*")):
        _damage(path, random)


def _a_folder_removed(random, run):
    folders = sorted(path for path in run.rglob("*") if path.is_dir())
    if folders:
        shutil.rmtree(choice(random, folders))


def _checkpoints_removed(random, run):
    shutil.rmtree(run / "checkpoints", ignore_errors=True)


def _a_file_too_many(random, run):
    folders = [run, *sorted(path for path in run.rglob("*") if path.is_dir())]
    name = choice(random, ["x", "99", "7.json", "99.json", ".x", "é", "x.unfinished", "tmp", "-1"])
    path = choice(random, folders) / name
    if random.random() < 0.4:
        path.mkdir(exist_ok=True)
    elif not path.exists():
        path.write_bytes(choice(random, JUNK))


def _a_link(random, run):
    path = _any_file(random, run)
    path.unlink(missing_ok=True)
    if path.parent.exists():
        path.symlink_to(choice(random, ["nowhere", path.name, "/dev/null", "/"]))


def _a_line_of_metrics_damaged(random, run):
    path = run / "metrics.jsonl"
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines()
    place = int(choice(random, [0, 0, 1, len(lines) - 1]))
    junk = [b"", b"{", b"\xff", b"[]", b"{}", b'{"step": "1"}', b'{"step": true}', b'{"step": -1}']
    lines[place : place + 1] = [choice(random, [*junk, lines[place][:9], b"1" * 6000])]
    path.write_bytes(b"\n".join(lines) + b"\n")


def _edited_by_hand(random, run):
    """A value in one of the JSON files is another one, or gone, or has a neighbour."""
    names = ["run.json", "run.json", "evaluation.json", "answers.json"]
    path = choice(random, [run / name for name in names if (run / name).exists()] or [run / "x"])
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return
    part = content
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        if not keys:
            return
        key = choice(random, keys)
        deeper = isinstance(part[key], (dict, list)) and part[key]
        if not deeper or random.random() < 0.2:
            break
        part = part[key]
    how = random.random()
    if how < 0.2:
        del part[key]
    elif how < 0.3 and isinstance(part, dict):
        part[str(key) + "x"] = part.pop(key)
    else:
        part[key] = choice(random, ODD)
    path.write_text(json.dumps(content), "utf-8")


def _locked_files(random, run):
    path = choice(random, [run / ".lock", run / "run.json.unfinished"])
    path.unlink(missing_ok=True)
    path.mkdir()


DAMAGES = [
    *[_any_file_damaged] * 2,
    *[_a_file_of_the_run_damaged] * 4,
    *[_a_checkpoint_file_damaged] * 3,
    *[_checksums_damaged] * 3,
    *[_edited_by_hand] * 8,
    *[_a_line_of_metrics_damaged] * 4,
    _every_checksum_damaged,
    _a_folder_removed,
    _checkpoints_removed,
    _a_file_too_many,
    _a_link,
    _locked_files,
]


def _whole_lines(run):
    return (run / "metrics.jsonl").read_text("utf-8").splitlines()


def _wrongs(words, out, err, before, usual):
    """A run that was trained again is what it was; what an evaluation says is what was recorded."""
    said = any(word in out + err for word in ("damaged", "no whole checkpoint", "are lost"))
    if words[0] == "export":
        return [] if pathlib.Path("out/config.json").exists() else ["nothing was exported"]
    if words[0] != "train":
        return [] if said or usual in ("", out) else [f"it says otherwise: {out[:300]}"]
    run, student = pathlib.Path("run"), "--workdir=student" in words
    wrongs = trained(pathlib.Path("student") if student else run, learns=True)
    if said and SHORT in wrongs:  # that lines are lost is no secret
        wrongs.remove(SHORT)
    longer = any(word == "--config.total_steps=40" for word in words)
    if not (student or longer) and len(_whole_lines(run)) != len(before) and not said:
        wrongs.append("metrics that were there are gone, and nothing was said")
    return wrongs
