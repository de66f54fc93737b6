"""From text to tokens. The only place that imports the package `tokenizers`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from kd.data.archive import find_data
from kd.data.tokens.vocabulary import Vocabulary
from kd.errors import KdError, reading

FILES = ("tokenizer.json", "vocab.txt")
_SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")
_USUAL = {
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "unk": ("[UNK]", "<unk>"),
}
"""What special words are called where nothing beside the tokenizer says it."""
_MEANS = {"pad": "padding", "cls": "the beginning of a text", "sep": "the end of a text"}


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A tokenizer of the package `tokenizers`, without truncation and padding, and its facts."""

    vocabulary: Vocabulary
    location: str
    content: Any = dataclasses.field(repr=False, compare=False)


def load_tokenizer(source: str, data_dir: str | None = None) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``, of a ``vocab.txt`` of WordPiece, or of a folder that
    holds one of them. It lies in `data_dir`, else in ``KD_DATA_DIR``, else here.

    Which words are special is read from tokenizer_config.json and special_tokens_map.json beside
    it, else they have the usual names, ``[PAD]`` or ``<pad>`` and so on. A vocab.txt is of lower
    case where tokenizer_config.json says so, else where no word of it has a capital letter.

    Raises:
      KdError: no such file, one that is no tokenizer, or one that has no word for padding, for the
        beginning or for the end of a text, or does not put the last two around it.
    """
    path = _file(find_data(source, data_dir))
    settings = _settings(path)
    content = _content(path, settings)
    vocabulary = _vocabulary(content, settings, path)
    if content.num_special_tokens_to_add(False) < 2:
        raise KdError(
            f"{path} puts no special words around a text; give it a post_processor that begins "
            "with the word for the beginning and ends with that for the end"
        )
    content.no_padding()
    content.no_truncation()
    return Tokenizer(vocabulary, str(path), content)


def _file(path: pathlib.Path) -> pathlib.Path:
    if not path.is_dir():
        return path
    held = [path / name for name in FILES if (path / name).is_file()]
    if held:
        return held[0]
    raise KdError(f"{path} holds no tokenizer; it is {' or '.join(FILES)}")


def _settings(path: pathlib.Path) -> Mapping[str, Any]:
    """What files beside a tokenizer say of it."""
    settings: dict[str, Any] = {}
    for name in _SETTINGS:
        file = path.with_name(name)
        if file.is_file():
            with reading(file):
                settings |= json.loads(file.read_text("utf-8"))
    return settings


def _content(path: pathlib.Path, settings: Mapping[str, Any]) -> Any:
    tokenizers = _library()
    if path.suffix == ".txt":
        return _wordpiece(path, settings)
    with reading(path, "give a tokenizer.json of the package tokenizers, or a vocab.txt"):
        return tokenizers.Tokenizer.from_str(path.read_text("utf-8"))


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise KdError(
            "text is read with the package tokenizers, which is not there: pip install 'kd[text]'"
        ) from error
    return tokenizers


def _wordpiece(path: pathlib.Path, settings: Mapping[str, Any]) -> Any:
    """BERT's tokenizer of the words of a vocab.txt, a line each."""
    tokenizers = _library()
    with reading(path, "give a vocab.txt of WordPiece, a word a line"):
        words = path.read_text("utf-8").rstrip("\n").split("\n")
        words = [word.rstrip("\r") for word in words]
    ids = {word: place for place, word in enumerate(words)}
    named = {kind: _named(kind, settings, ids) for kind in _USUAL}
    missing = [_USUAL[kind][0] for kind in ("cls", "sep", "unk") if named[kind] is None]
    if missing or len(ids) < len(words):
        what = f"has no {missing[0]}" if missing else "has a word twice"
        raise KdError(f"{path} {what}; give a vocab.txt of WordPiece, a word a line")
    plain = (word for word in words if word not in named.values())
    lower = settings.get("do_lower_case", not any(word != word.lower() for word in plain))
    content = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token=named["unk"]))
    content.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=bool(lower))
    content.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    ends = [(named[kind], ids[str(named[kind])]) for kind in ("sep", "cls")]
    content.post_processor = tokenizers.processors.BertProcessing(*ends)
    content.add_special_tokens([word for word in named.values() if word is not None])
    return content


def _named(kind: str, settings: Mapping[str, Any], ids: Mapping[str, int]) -> str | None:
    """The special word of this kind, where there is one."""
    told = settings.get(f"{kind}_token")
    told = told.get("content") if isinstance(told, Mapping) else told
    names = _USUAL[kind] if told is None else (str(told),)
    return next((name for name in names if name in ids), None)


def _vocabulary(content: Any, settings: Mapping[str, Any], path: pathlib.Path) -> Vocabulary:
    ids: dict[str, int] = content.get_vocab(with_added_tokens=True)
    words = {kind: _named(kind, settings, ids) for kind in _USUAL}
    for kind, meaning in _MEANS.items():
        if words[kind] is None:
            raise KdError(
                f"{path} has no word for {meaning}; it is {' or '.join(_USUAL[kind])}, or what "
                f"{kind}_token in {_SETTINGS[-1]} beside it names"
            )
    places: dict[str, Any] = {
        kind: None if word is None else ids[word] for kind, word in words.items()
    }
    added = content.get_added_tokens_decoder()
    special = {place for place, token in added.items() if token.special}
    special |= {place for place in places.values() if place is not None}
    told = json.dumps([hashlib.sha256(path.read_bytes()).hexdigest(), places, _case(content, path)])
    return Vocabulary(
        size=max(ids.values()) + 1,
        special=tuple(sorted(special)),
        fingerprint=hashlib.sha256(told.encode()).hexdigest()[:16],
        **places,
    )


def _case(content: Any, path: pathlib.Path) -> Any:
    """What a vocab.txt does not say itself."""
    return content.normalizer.lowercase if path.suffix == ".txt" else None
