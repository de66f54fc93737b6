"""A model card: what a run is, in Markdown with the front matter of Hugging Face."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

from kd.errors import KdError
from kd.pages import Table
from kd.provenance.bom import bom, bom_text
from kd.provenance.facts import Ancestor, Facts, facts_of
from kd.provenance.licences import NO_ADVICE

CARD, BOM = "README.md", "bom.cdx.json"
_GONE = "not there any more: nothing above it is known"


def card(workdir: str | pathlib.Path, **options: Any) -> str:
    """The model card of the finished run in `workdir`, as text; `options` are those of
    `kd.provenance.facts.facts_of`.

    Raises:
      KdError: no finished run there, or licences that stop it.
    """
    return markdown(facts_of(workdir, **options))


def markdown(facts: Facts, library: str = "kd") -> str:
    """The card of what is known of a run; `library` is what reads the files beside it."""
    parts = [
        _front(facts, library),
        f"# {facts.name}",
        _about(facts),
        "## Results",
        _results(facts),
        "## Where it comes from",
        drawing(facts),
        *_gone(facts),
        "## Licences",
        _licences(facts),
        "## Hashes",
        hashes(facts).markdown(),
        "`kd card --verify` computes again each of them that can be.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_card(facts: Facts, folder: pathlib.Path, library: str = "kd") -> list[pathlib.Path]:
    """Write README.md and bom.cdx.json into `folder`, and return their paths.

    Raises a `KdError` where it cannot.
    """
    files = {folder / CARD: markdown(facts, library), folder / BOM: bom_text(bom(facts))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, "utf-8")
    except OSError as error:
        raise KdError(
            f"cannot write into {folder}: {error.strerror}; choose another folder"
        ) from error
    return list(files)


def drawing(facts: Facts) -> str:
    """The lineage as a Mermaid flow chart: data and teachers above, the model below."""
    lines = ["```mermaid", "flowchart TD", f'  model["{_plain(facts.name)}"]']
    if facts.lineage is not None:
        for i, data in enumerate(facts.lineage.data):
            lines.append(f'  model_d{i}[("{_plain(data.source)}")] -->|data| model')
    for i, ancestor in enumerate(facts.ancestors):
        lines += _drawn(ancestor, f"a{i}", "model")
    return "\n".join([*lines, "```"])


def hashes(facts: Facts) -> Table:
    """Everything of it that has one."""
    rows = [
        ["the run", "fingerprint", facts.fingerprint],
        ["its arrays", "SHA-256", facts.weights],
        ["run.json", "SHA-256", facts.record],
    ]
    lineage = facts.lineage
    if lineage is not None:
        for data in lineage.data:
            rows += [[f"{data.source} {name}", "data", seen] for name, seen in data.splits.items()]
        rows += [[f"module {name}", "code", seen] for name, seen in lineage.code.items()]
    for ancestor in facts.ancestors:
        rows.append([f"{ancestor.role} {ancestor.weights.name}", "arrays", ancestor.weights.digest])
    return Table("Hashes", ["what", "kind", "hash"], rows)


def _front(facts: Facts, library: str) -> str:
    """The metadata that Hugging Face reads, in YAML."""
    lines = ["---", f"library_name: {library}"]
    if facts.licence:
        known = facts.licence.lower()
        lines += [
            f"license: {known}" if _is_tag(known) else f"license: other\nlicense_name: {known}"
        ]
    taught = any(ancestor.role == "teacher" for ancestor in facts.ancestors)
    lines += ["tags:", *(["- distillation"] if taught else []), "- jax"]
    models = [a.weights.name for a in facts.ancestors if a.weights.source.startswith("hf:")]
    if models:
        lines += ["base_model:", *(f"- {name[3:]}" for name in models)]
    if facts.lineage is not None:
        names = [data.source.removeprefix("tfds:") for data in facts.lineage.data]
        lines += ["datasets:", *(f'- "{_plain(name)}"' for name in names)]
    if facts.results:
        lines += ["metrics:", *(f"- {result.metric}" for result in facts.results)]
    return "\n".join([*lines, "---"])


def _is_tag(licence: str) -> bool:
    """Whether the hub has a tag for it, as far as kd's rows name them."""
    known = ("apache-2.0", "mit", "gemma", "bsd-2-clause", "bsd-3-clause", "cc0-1.0")
    return licence in known or licence.startswith(("cc-by-", "llama"))


def _about(facts: Facts) -> str:
    many = f" {facts.members} members of a population, by" if facts.members > 1 else " A model by"
    told = f"{many.strip()} kd: student `{facts.spec.student.get('name')}`, {facts.step:,} steps."
    if facts.changes:
        told += f" **Read although it is not what was recorded: {'; '.join(facts.changes)}.**"
    return told


def _results(facts: Facts) -> str:
    if not facts.results:
        return "Nothing was measured: the run was evaluated on no labels."
    rows = [
        [
            result.metric,
            f"{result.value:.4f}",
            "–" if result.interval is None else "{:.4f} to {:.4f}".format(*result.interval),
        ]
        for result in facts.results
    ]
    several = " and over members" if facts.members > 1 else ""
    table = Table("", ["metric", "value", "95% interval"], rows).markdown()
    return (
        f"On `{facts.spec.data.eval}` of `{facts.spec.data.source}`; the interval is a bootstrap "
        f"over test examples{several}.\n\n{table}"
    )


def _licences(facts: Facts) -> str:
    lines = [f"It is exported under {facts.licence or 'no licence that anybody named'}."]
    lines += [
        f"- {debt.text}" + (f" ([source]({debt.source}))" if debt.source else "")
        for debt in facts.debts
    ]
    if not facts.debts:
        lines.append("- Nothing that it learned from is recorded as anybody else's.")
    if facts.override:
        lines.append(f"- The licence gate was overridden: {facts.override}")
    return "\n".join([*lines, "", NO_ADVICE])


def _gone(facts: Facts) -> Iterator[str]:
    for ancestor in _all(facts.ancestors):
        if not ancestor.there:
            yield f"The {ancestor.role} `{ancestor.weights.name}` is {_GONE}."
    if facts.lineage is None:
        yield "This run recorded no lineage."


def _all(ancestors: tuple[Ancestor, ...]) -> Iterator[Ancestor]:
    for ancestor in ancestors:
        yield ancestor
        yield from _all(ancestor.above)


def _drawn(ancestor: Ancestor, node: str, below: str) -> list[str]:
    gone = "" if ancestor.there else "<br/>gone"
    name = f"{_plain(ancestor.weights.name)}{gone}"
    lines = [f'  {node}["{name}"] -->|{ancestor.role}| {below}']
    for i, data in enumerate(ancestor.data):
        lines.append(f'  {node}_d{i}[("{_plain(data.source)}")] -->|data| {node}')
    for i, higher in enumerate(ancestor.above):
        lines += _drawn(higher, f"{node}_{i}", node)
    return lines


def _plain(text: str) -> str:
    return text.replace('"', "'").replace("<", "‹").replace(">", "›").replace("\n", " ")
