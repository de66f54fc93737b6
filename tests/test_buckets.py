"""A path in a bucket does what one of a disk does; what a disk cannot do is a precondition."""

import concurrent.futures

import hypothesis
import hypothesis.strategies as st
import pytest

import stores
from kd.errors import KdError
from kd.storage import (
    BucketError,
    BucketPath,
    may_write,
    parts,
    send,
    store,
    write_whole,
    wrong_with,
)
from kd.system.copies import brought
from kd.system.paths import anywhere, local
from kd.system.records import read_record, write_record

BOTH = pytest.mark.parametrize("scheme", stores.SCHEMES)


def seen(folder):
    """All that can be asked about a folder, but for where it is."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {
        "files": {name: (folder / name).read_bytes() for name in files},
        "inside": sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [],
        "json": sorted(path.name for path in folder.glob("*.json")),
        "deep": sorted(str(path.relative_to(folder)) for path in folder.glob("[ab]*/x.json")),
        "is": [folder.exists(), folder.is_dir(), folder.is_file()],
        "none": [(folder / "none").exists(), (folder / "none").is_dir()],
    }


@BOTH
def test_a_folder_in_a_bucket_is_a_folder(scheme, tmp_path):
    bucket = stores.fresh(scheme)
    assert not bucket.exists()
    assert list(bucket.glob("*")) == []
    for folder in (bucket, tmp_path / "run"):
        folder.mkdir()
        (folder / "b.json").write_text("{}", "utf-8")
        (folder / "empty").write_bytes(b"")
        for name in ("a1", "a2", "c"):
            (folder / name).mkdir()
            (folder / name / "x.json").write_bytes(b"\0\xff" * 3)
        (folder / "c" / "x.json").replace(folder / "c" / "y")
        (folder / "a2" / "x.json").unlink()
        (folder / "a2").rmdir()
        (folder / "a2" / "x.json").unlink(missing_ok=True)
        write_whole(folder / "b.json", "[1]")
        for missing in ((folder / "none").read_bytes, (folder / "none").unlink):
            with pytest.raises(FileNotFoundError):
                missing()
    assert seen(bucket) == seen(tmp_path / "run")
    assert (bucket / "a1" / "x.json").stat().st_size == 6


@BOTH
def test_an_address_stays_one(scheme):
    path = BucketPath(f"{scheme}://bucket/a/b.c")
    assert [str(path), str(path.parent), str(path.parent / "d")] == [
        f"{scheme}://bucket/a/b.c",
        f"{scheme}://bucket/a",
        f"{scheme}://bucket/a/d",
    ]
    assert (path.name, path.stem, path.suffix) == ("b.c", "b", ".c")
    assert type(path.parent) is type(path.with_suffix(".x")) is BucketPath
    assert path == anywhere(str(path)) == path.resolve() == path.absolute()
    assert {path: 1}[anywhere(str(path))] == 1


_ACT = st.sampled_from(["append", "append", "rewrite", "remove"])
ACTS = st.lists(st.tuples(_ACT, st.text("ab\n", max_size=4)), max_size=8)


@BOTH
@hypothesis.settings(max_examples=8)
@hypothesis.given(ACTS)
def test_parts_are_read_as_one_file(scheme, acts):
    """Whatever was appended and written anew, in whatever order."""
    path, model = stores.fresh(scheme) / "metrics.jsonl", None
    for act, text in acts:
        if act == "remove":
            path.unlink(missing_ok=True)
            model = None
        elif act == "append":
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
            model = (model or "") + text
        else:
            write_whole(path, text)
            model = text
        assert (path.read_text("utf-8") if path.exists() else None) == model
    other = BucketPath(path)  # of another process
    assert (other.read_bytes().decode() if other.is_file() else None) == model


@BOTH
def test_parts_of_two_processes_are_all_there(scheme):
    path = stores.fresh(scheme) / "splits.jsonl"

    def add(number):
        parts.add(path.bucket, path.key, f"{number}\n".encode())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert sorted(map(int, path.read_text("utf-8").split())) == list(range(12))


@BOTH
def test_of_those_who_write_on_one_condition_exactly_one_does(scheme):
    path = stores.fresh(scheme) / "x"
    version = store.NOTHING
    for turn in range(3):
        contents = [f"{turn} {number}".encode() for number in range(6)]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            put = [pool.submit(store.put, path.bucket, path.key, c, version) for c in contents]
            won = [future.result() for future in put]
        winners = [i for i, new in enumerate(won) if new is not None]
        assert len(winners) == 1
        there = store.get(path.bucket, path.key)
        assert (there.content, there.version) == (contents[winners[0]], won[winners[0]])
        version = there.version


@BOTH
def test_a_record_in_a_bucket_is_checked_as_on_a_disk(scheme):
    path = stores.fresh(scheme) / "run.json"
    write_record(path, {"a": [1, None]})
    assert read_record(path, "fix it") == {"a": [1, None]}
    path.write_text(path.read_text("utf-8").replace("1", "2"), "utf-8")
    with pytest.raises(KdError, match=r"run\.json is damaged: it was edited; fix it"):
        read_record(path, "fix it")


@BOTH
def test_a_copy_follows_what_is_in_the_bucket(scheme, monkeypatch, tmp_path):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    bucket = stores.fresh(scheme)
    for name in ("a/b.txt", "c.txt"):
        (bucket / name).write_text(name, "utf-8")
    assert not brought(bucket / "none").exists()
    copy = brought(bucket)
    assert seen(copy) == seen(bucket)
    assert brought(bucket / "c.txt").read_text() == "c.txt"
    with stores.refusing(scheme, lambda r: 500 if "changed" in r.place else None):
        assert seen(brought(bucket)) == seen(bucket)
    (bucket / "c.txt").write_text("changed", "utf-8")
    (bucket / "a" / "b.txt").unlink()
    (bucket / "d").write_text("new", "utf-8")
    again = brought(bucket)
    assert again == copy
    assert {p.name: p.read_text() for p in again.rglob("*") if p.is_file()} == {
        "c.txt": "changed",
        "d": "new",
    }
    assert brought(tmp_path) == tmp_path


@BOTH
def test_what_is_sent_takes_the_place_of_what_was_there(scheme, tmp_path):
    bucket = stores.fresh(scheme)
    (bucket / "old" / "x").write_text("", "utf-8")
    (tmp_path / "a").mkdir()
    for name in ("stage.json", "a/b"):
        (tmp_path / name).write_text(name)
    send(tmp_path, bucket, last="stage.json")
    assert seen(bucket) == seen(tmp_path)
    assert may_write(bucket)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gs://", "no bucket"),
        ("gs:/bucket/x", "gs://BUCKET"),
        ("s3://Bucket/x", "no bucket"),
        ("s3://ab/x", "no bucket"),
        ("gs://bucket/a//b", "no empty part"),
        ("gs://bucket/../b", "neither . nor .."),
        ("gs://bucket/a*", "none of *"),
        ("gs://bucket/" + "x" * 901, "900 bytes"),
        ("http://a/b", "gs://BUCKET"),
        ("az://a/b", "gs://BUCKET"),
    ],
)
def test_an_address_that_names_no_place_in_a_bucket(text, words):
    assert words in wrong_with(text)
    with pytest.raises(KdError, match="is an address, and"):
        anywhere(text)


def test_a_path_of_this_machine_alone_is_no_address(tmp_path):
    assert anywhere(tmp_path) == local(tmp_path) == tmp_path
    with pytest.raises(KdError, match="of this machine"):
        local("gs://bucket/x")


def test_an_object_that_s3_does_not_take_is_one_line(monkeypatch):
    monkeypatch.setattr(store, "_LARGEST", {"s3": 3})
    (stores.fresh("gs") / "x").write_bytes(b"1234")
    with pytest.raises(BucketError, match=r"cannot write .*/x: it has 0\.0 GB, and S3 takes 5 GiB"):
        (stores.fresh("s3") / "x").write_bytes(b"1234")


FAULTS = {
    401: "there are no credentials for it, or they have expired",
    403: "these credentials may not write there (403)",
    404: "there is no bucket",
    429: "it answers 429",
    500: "it answers 500",
    503: "it answers 503",
}


@BOTH
@pytest.mark.parametrize("status", FAULTS)
def test_what_a_bucket_refuses_is_one_line_after_a_while(scheme, status, monkeypatch):
    stores.patient(monkeypatch)
    path = stores.fresh(scheme) / "x"
    with stores.refusing(scheme, lambda request: status if request.writes else None) as proxy:
        asked = proxy.asked
        with pytest.raises(BucketError) as refused:
            path.write_text("", "utf-8")
    said = str(refused.value)
    assert said.startswith(f"cannot write {path}: ")
    assert FAULTS[status] in said
    assert len(said.splitlines()) == 1
    assert proxy.asked - asked >= 2  # asked again
    path.write_text("1", "utf-8")
    assert path.read_text("utf-8") == "1"


@BOTH
def test_a_bucket_that_says_nothing_is_given_up(scheme, monkeypatch):
    stores.patient(monkeypatch, 1.0, 0.3)
    path = stores.fresh(scheme) / "x"
    release = stores.threading.Event()

    def wait(request):
        release.wait(20)

    with stores.refusing(scheme, wait), pytest.raises(BucketError, match="it does not answer"):
        path.read_bytes()
    release.set()


@BOTH
def test_what_passes_is_waited_for(scheme, monkeypatch):
    stores.patient(monkeypatch, 20.0)
    path, left = stores.fresh(scheme) / "x", iter([500, 429, 503])
    with stores.refusing(scheme, lambda _: next(left, None)):
        path.write_text("late", "utf-8")
    assert path.read_text("utf-8") == "late"
    assert next(left, None) is None


@BOTH
def test_who_appends_does_not_wait(scheme):
    """Lines are written in the background, together where the bucket is slow, in their order."""
    path, held = stores.fresh(scheme) / "metrics.jsonl", stores.threading.Event()
    with stores.refusing(scheme, lambda _: held.wait(20) and None):
        for number in range(40):
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{number}\n")
        held.set()
        assert path.read_text("utf-8") == "".join(f"{number}\n" for number in range(40))
    assert len(parts.listed(path.bucket, path.key)) < 10


def test_lines_that_cannot_be_written_are_not_forgotten(monkeypatch):
    stores.patient(monkeypatch, 0.5)
    path = stores.fresh("gs") / "metrics.jsonl"
    with stores.refusing("gs", lambda _: 500):
        with path.open("a", encoding="utf-8") as file:
            file.write("1\n")
        for _ in range(2):
            with pytest.raises(BucketError, match="it answers 500"):
                parts.settle(str(path.parent))
    path.write_text("1\n", "utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write("2\n")
    assert path.read_text("utf-8") == "1\n2\n"
