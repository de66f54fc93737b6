"""What every config resolves to, and its fingerprints.

After a deliberate change: ``python -m tests.golden``, and read the diff. Fingerprints of recorded
runs stay: only those of new configs may appear.
"""

import ast
import json
import pathlib

from ml_collections import ConfigDict

from kd.config import fingerprint_of, identity, load_config, resolve, to_json

ROOT = pathlib.Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
FINGERPRINTS = ROOT / "tests" / "fingerprints.json"


def arguments(path):
    """The arguments that a config file takes: those that its ``choose(arg, ...)`` names."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    chosen = [call.args[1:] for call in calls if getattr(call.func, "id", "") == "choose"]
    return [constant.value for constants in chosen for constant in constants]


CONFIGS = {
    f"{path.stem}-{argument}" if argument else path.stem: (path, argument)
    for path in sorted((ROOT / "configs").glob("*.py"))
    if path.stem != "__init__"
    for argument in arguments(path)
}


def specs(name):
    """The runs of a config: itself under "", or those that an experiment's config holds, by
    name.
    """
    config = load_config(*CONFIGS[name])
    parts = {"": config} if "optim" in config else {key: config[key] for key in config}
    return {
        key: resolve(part)
        for key, part in parts.items()
        if isinstance(part, ConfigDict) and "optim" in part
    }


def text(name):
    """Every value of a config, defaults too."""
    runs = {key: json.loads(to_json(spec)) for key, spec in specs(name).items()}
    whole = runs.get("") or {**load_config(*CONFIGS[name]).to_dict(), **runs}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    for stale in GOLDEN.glob("*.json"):
        stale.unlink()
    for name in CONFIGS:
        (GOLDEN / f"{name}.json").write_text(text(name))
    told = {
        name: {key: fingerprint_of(identity(spec)) for key, spec in specs(name).items()}
        for name in CONFIGS
    }
    FINGERPRINTS.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
