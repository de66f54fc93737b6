"""``kd doctor`` of a bucket: what it is, or one line that says what is wrong with it."""

import pytest

import stores
from kd.cli.main import main
from kd.doctor import bucket, page
from kd.storage import store

BOTH = pytest.mark.parametrize("scheme", stores.SCHEMES)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """The folder alone, and little patience."""
    names = ("folder", "bucket", "folder of the runs")
    monkeypatch.setattr(page, "CHECKS", {name: page.CHECKS[name] for name in names})
    monkeypatch.setattr(bucket, "_LARGE", 2**16)
    stores.patient(monkeypatch, 0.4)


def asked(folder, capsys):
    code = main(["doctor", f"--workdir={folder}"])
    return code, capsys.readouterr().out.strip().splitlines()


@BOTH
def test_a_bucket_with_which_nothing_is_wrong(scheme, capsys):
    folder = stores.fresh(scheme) / "runs"
    code, lines = asked(folder, capsys)
    assert (code, lines[-1]) == (0, "nothing is wrong")
    shown = "\n".join(lines)
    for words in (
        f"{folder.bucket} is listed", "the second of two is refused", "an object of 64 B",
        "written in", "an object of 0.0625 MiB", "read at",
    ):  # fmt: skip
        assert words in shown
    assert list(folder.parent.rglob("*")) == []


CREDENTIALS = {"gs": "type 'gcloud auth", "s3": "set AWS_ACCESS_KEY_ID and"}


@BOTH
def test_what_is_wrong_with_a_bucket_is_one_line(scheme, capsys):
    """And what was seen before is shown."""
    code, lines = asked(f"{scheme}://kd-there-is-none/runs", capsys)
    assert code == 2
    assert "there is no bucket" in lines[-1]
    assert "make it, or choose another bucket" in lines[-1]
    folder = stores.fresh(scheme)
    for status, words in (
        (403, f"may not write there (403); ask for the right to write in {folder.bucket}, or"),
        (401, f"there are no credentials for it, or they have expired; {CREDENTIALS[scheme]}"),
        (503, "it answers 503, for"),
    ):
        with stores.refusing(scheme, lambda r, status=status: status if r.writes else None):
            code, lines = asked(folder, capsys)
        assert code == 2
        assert words in lines[-1]
        assert sum(words in line for line in lines) == 1
        assert f"{folder.bucket} is listed" in "\n".join(lines)


def test_a_store_that_heeds_no_condition(capsys, monkeypatch):
    put = store.put

    def heedless(*arguments, **options):
        return put(*arguments[:3], **options)

    monkeypatch.setattr(store, "put", heedless)
    code, lines = asked(stores.fresh("s3"), capsys)
    assert code == 2
    assert f"s3://{stores.BUCKET} heeds no condition of a write" in lines[-1]
