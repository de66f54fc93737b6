"""Laws of text as data: every way to write a table is the same data, what is tokenised is what the
tokenizers say, and what is wrong is named.
"""

import io
import json
import zipfile

import numpy as np
import pytest
import tokenizers

import small_text
from kd import data as kd_data
from kd.data.tokens.encode import pack
from kd.data.tokens.tokenizer import load_tokenizer
from kd.errors import KdError

TEXTS, LABELS = small_text.sentences(20)
TSV = "".join(f"{t}\t{y}\n" for t, y in zip(TEXTS, LABELS, strict=True))


@pytest.fixture
def folder(tmp_path):
    small_text.write_vocabulary(tmp_path)
    return tmp_path


def told(**changes):
    usual = {"tokenizer": "vocab.txt", "columns": ("said",), "label": "y", "length": 16}
    return kd_data.Text(**{**usual, **changes})


def load(folder, source="t.tsv", split="train", targets=None, **changes):
    return kd_data.load(f"text:{source}", split, str(folder), None, targets, told(**changes))


def zipped(folder, **files):
    with zipfile.ZipFile(folder / "t.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"inner/{name}.tsv", content)
    return "t.zip/inner"


def test_every_way_to_write_a_table_is_the_same_data(folder):
    quoted = io.StringIO()
    quoted.write("y,said\n" + "".join(f'{y},"{t}"\n' for t, y in zip(TEXTS, LABELS, strict=True)))
    files = {
        "t.tsv": "\ufeffsaid\ty\n" + TSV,
        "t.csv": quoted.getvalue().replace("\n", "\r\n"),
    }
    for name, content in files.items():
        (folder / name).write_text(content, "utf-8")
    small_text.write_json_lines(folder / "t.jsonl", TEXTS, LABELS)
    (folder / "bare.tsv").write_text(TSV, "utf-8")
    inside = zipped(folder, train="said\ty\n" + TSV)
    loaded = [load(folder, name) for name in (*files, "t.jsonl", inside, f"{inside}/train.tsv")]
    loaded.append(load(folder, "bare.tsv", columns=("0",), label="-1"))
    loaded.append(kd_data.from_texts(TEXTS, LABELS, text=told(), data_dir=str(folder)))
    assert len({data.fingerprint for data in loaded}) == 1
    np.testing.assert_array_equal(loaded[0].labels, LABELS)


def test_tokens_are_those_of_the_tokenizer_and_padding_is_segment_zero(folder):
    """One array holds the tokens and the segments: padding 0, the first text 1, the second 2."""
    content = load_tokenizer("vocab.txt", str(folder)).content
    rows = "".join(f"{a}\t{b}\t1\n" for a, b in zip(TEXTS, TEXTS[::-1], strict=True))
    (folder / "p.tsv").write_text(f"a\tb\ty\n{rows}2 played\tfilm\t0\n", "utf-8")
    data = load(folder, "p.tsv", columns=("a", "b"), length=40)
    assert data.first.dtype == np.int32
    assert data.first.shape == (1, 40, 2)
    pairs = [*zip(TEXTS, TEXTS[::-1], strict=True), ("2 played", "film")]
    for row, pair in zip(data.inputs, pairs, strict=True):
        encoding = content.encode(*pair)
        count = len(encoding.ids)
        assert row[:count, 0].tolist() == encoding.ids
        assert (row[:count, 1] - 1).tolist() == encoding.type_ids
        assert not row[count:].any()
    last = [small_text.WORDS[k] for k in data.inputs[-1, :7, 0]]
    assert last == ["[CLS]", "[UNK]", "play", "##ed", "[SEP]", "film", "[SEP]"]
    vocabulary = data.tokens.vocabulary
    assert vocabulary.size == len(small_text.WORDS)
    assert (vocabulary.pad, vocabulary.cls, vocabulary.sep, vocabulary.mask) == (0, 2, 3, 4)


def test_a_tokenizer_is_one_whether_a_file_of_words_or_of_json(folder):
    """And its words for padding and so on may be called otherwise, as the file beside it says."""
    (folder / "t.tsv").write_text("said\ty\n" + TSV, "utf-8")
    content = load_tokenizer("vocab.txt", str(folder)).content
    (folder / "tokenizer.json").write_text(content.to_str(), "utf-8")
    first, other = load(folder), load(folder, tokenizer=".")
    np.testing.assert_array_equal(first.inputs, other.inputs)
    renamed = content.to_str().replace("[PAD]", "<nothing>")
    (folder / "tokenizer.json").write_text(renamed, "utf-8")
    with pytest.raises(KdError, match=r"has no word for padding; it is \[PAD\] or <pad>"):
        load(folder, tokenizer="tokenizer.json")
    settings = {"pad_token": {"content": "<nothing>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    again = load(folder, tokenizer="tokenizer.json")
    np.testing.assert_array_equal(again.inputs, first.inputs)
    assert again.tokens.vocabulary.fingerprint != first.tokens.vocabulary.fingerprint


def test_what_is_too_long_is_cut_and_counted_or_refused(folder):
    (folder / "t.tsv").write_text("said\ty\n" + TSV, "utf-8")
    whole, cut = load(folder), load(folder, length=8)
    long = (whole.token_lengths > 8).sum()
    assert 0 < long == cut.tokens.cut < len(cut)
    assert whole.tokens.cut == 0
    np.testing.assert_array_equal(
        cut.inputs[:, :7],
        np.where(
            np.arange(7)[:, None] < whole.token_lengths[:, None, None], whole.inputs[:, :7], 0
        ),
    )
    first = int(np.flatnonzero(whole.token_lengths > 8)[0])
    count = whole.token_lengths[first]
    with pytest.raises(KdError, match=f"text {first} has {count} tokens and a row 8"):
        load(folder, length=8, too_long="refused")


def test_what_was_tokenised_is_not_tokenised_again(folder, monkeypatch):
    """By what the file holds, wherever it lies, until text, tokenizer or length are others."""
    monkeypatch.setenv("KD_CACHE_DIR", str(folder / "kept"))
    (folder / "t.tsv").write_text("said\ty\n" + TSV, "utf-8")
    asked = []
    encode = kd_data.tokens.source.encode

    def watched(*arguments, **options):
        asked.append(options["length"])
        return encode(*arguments, **options)

    monkeypatch.setattr(kd_data.tokens.source, "encode", watched)
    first = load(folder)
    (folder / "other.tsv").write_bytes((folder / "t.tsv").read_bytes())
    np.testing.assert_array_equal(load(folder, "other.tsv").inputs, first.inputs)
    assert asked == [16]
    load(folder, length=20)
    small_text.write_vocabulary(folder, (*small_text.WORDS, "more"))
    load(folder)
    (folder / "t.tsv").write_text("said\ty\n" + TSV + "a film\t1\n", "utf-8")
    load(folder)
    assert asked == [16, 20, 16, 16]


def test_packed_rows_hold_every_word_of_every_document(folder):
    """In their order, each with its number in the row; less than a piece of a row is padding."""
    tokenizer = load_tokenizer("vocab.txt", str(folder))
    rows = pack(tokenizer, TEXTS, length=16)
    words, special = [], tokenizer.vocabulary.special
    for row in rows:
        segments = row[row[:, 1] > 0, 1].astype(int)
        assert segments[0] == 1
        assert set(np.diff(segments)) <= {0, 1}
        starts = np.flatnonzero(np.diff([0, *segments]))
        assert (row[starts, 0] == tokenizer.vocabulary.cls).all()
        words += [k for k in row[:, 0].tolist() if k not in special]
    bare = tokenizer.content.encode_batch(TEXTS, add_special_tokens=False)
    assert words == [k for encoding in bare for k in encoding.ids]
    assert (rows[:-1, :, 1] == 0).mean() < 3 / 16


def test_plain_text_is_a_text_a_line(folder):
    (folder / "t.txt").write_text("\n".join(["", TEXTS[0], " ", *TEXTS[1:], ""]), "utf-8")
    data = load(folder, "t.txt", columns=(), label=None)
    assert data.labels is None
    other = kd_data.from_texts(TEXTS, num_classes=1, text=told(), data_dir=str(folder))
    np.testing.assert_array_equal(data.inputs, other.inputs)


def test_labels_are_numbers_or_words_of_a_list_or_of_train(folder):
    words = ["yes" if y else "no" for y in LABELS]
    rows = list(zip(TEXTS, LABELS, words, np.arange(20) / 4, strict=True))
    table = "said\ty\tw\ts\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows)
    source = zipped(folder, train=table, test_more=table.replace("no", "yes"))
    by_word = load(folder, source, label="w")
    assert by_word.class_names == ("no", "yes")
    np.testing.assert_array_equal(by_word.labels, LABELS)
    other = load(folder, source, "test_more", label="w")
    assert other.class_names == ("no", "yes")
    assert set(other.labels.tolist()) == {1}
    listed = load(folder, source, label="w", names=("yes", "no"))
    np.testing.assert_array_equal(listed.labels, 1 - np.asarray(LABELS))
    np.testing.assert_array_equal(load(folder, source, names=("no", "yes")).labels, LABELS)
    numbers = load(folder, source, targets="numbers", label="s")
    np.testing.assert_allclose(numbers.labels, np.arange(20) / 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"columns": ("text",)}, r"no column 'text'; its columns are said, y"),
        ({"label": "z"}, r"no column 'z'; its columns are said, y"),
        ({"columns": ()}, "has the columns said, y; say which of them is the text"),
        ({"names": ("0", "2")}, r"line 2: the label '1' is none of text.names, 0, 2"),
        ({"tokenizer": None}, "text is read through a tokenizer"),
        ({"tokenizer": "absent.json"}, "absent.json"),
        ({"buckets": (4, 8)}, r"the longest of config.data.text.buckets must be .*16, got 8"),
        ({"packed": True}, "packed puts several texts into a row"),
        ({"masked": 0.15}, "makes the tokens the labels"),
        ({"length": 3}, "length must lie between 4 and"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(folder, changes, said):
    (folder / "t.tsv").write_text("said\ty\ngood film\t1\nbad film\t0\n", "utf-8")
    with pytest.raises(KdError, match=said):
        load(folder, **changes)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.tsv", "said\ty\ngood\t1\n \t0\n", "line 3: the text in column 'said' is empty"),
        ("t.tsv", "said\ty\ngood\n", "line 2: 1 cells and 2 columns"),
        ("t.tsv", "said\ty\n", "holds no text"),
        ("t.tsv", "said\ty\n\u00ad\t1\n", "the tokenizer finds no word in text 0"),
        ("t.jsonl", '{"said": "good", "y": 1}\n{"y": 0}\n', "line 2 has no 'said'"),
        ("t.jsonl", "good\n", "line 1 is no JSON"),
        ("t.csv", 'said,y\n"good,1\n', "write it anew"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(folder, name, content, said):
    (folder / name).write_text(content, "utf-8")
    with pytest.raises(KdError, match=said):
        load(folder, name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("[PAD]", "[UNK]", "[CLS]", "good"), r"has no \[SEP\]"),
        (("[UNK]", "[CLS]", "[SEP]", "good"), "has no word for padding"),
        ((*small_text.WORDS, "good"), "has a word twice"),
    ],
)
def test_a_tokenizer_without_its_special_words_is_refused(folder, words, said):
    small_text.write_vocabulary(folder, words)
    with pytest.raises(KdError, match=said):
        load_tokenizer("vocab.txt", str(folder))


def test_a_tokenizer_that_marks_no_ends_is_refused(folder):
    content = tokenizers.Tokenizer.from_str(
        load_tokenizer("vocab.txt", str(folder)).content.to_str()
    )
    content.post_processor = tokenizers.processors.TemplateProcessing(single="$A", pair="$A $B:1")
    (folder / "tokenizer.json").write_text(content.to_str(), "utf-8")
    with pytest.raises(KdError, match="puts no special words around a text"):
        load_tokenizer("tokenizer.json", str(folder))


def test_a_split_that_is_not_there_and_text_settings_of_other_data(folder):
    source = zipped(folder, train="said\ty\n" + TSV)
    with pytest.raises(KdError, match=r"unknown split of .*: 'test'; known: train|did you mean"):
        load(folder, source, "test")
    with pytest.raises(KdError, match=r"name one of them: t\.zip/inner"):
        load(folder, "t.zip")
    with pytest.raises(KdError, match=r"data\.text is about text:FILE"):
        kd_data.load("digits", "train", text=told())
