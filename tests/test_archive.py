"""Laws of archives: a folder, a zip and a tar hold the same; what is damaged or dangerous is one
line.
"""

import io
import os
import pathlib
import struct
import tarfile
import tracemalloc
import warnings
import zipfile

import pytest

from damage import damaged
from kd.data.archive import find_data, members
from kd.errors import KdError

FILES = {"a.txt": b"", "b/c.txt": b"some text " * 30, "b/d/e.bin": bytes(range(256))}


def pack(path, files=FILES, top=""):
    """The files as what the name of `path` says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(top + name, content)
    elif ".tar" in path.suffixes:
        with tarfile.open(path, f"w:{path.suffix.removeprefix('.tar')[1:]}") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(top + name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    else:
        for name, content in files.items():
            (path / top / name).parent.mkdir(parents=True, exist_ok=True)
            (path / top / name).write_bytes(content)
    return path


def contents(path, **options):
    return {member.name: member.read() for member in members(path, **options)}


KINDS = ["folder", "a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_holds_the_same_and_is_read_at_any_time(tmp_path, kind):
    path = pack(tmp_path / kind)
    listed = list(members(path))
    assert {member.name: member.read() for member in reversed(listed)} == FILES
    assert {member.name: member.size for member in listed} == {n: len(c) for n, c in FILES.items()}
    assert contents(path, wanted=lambda parts: parts[0] == "b").keys() == {"b/c.txt", "b/d/e.bin"}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_some_system_are_left_out(tmp_path, kind):
    extra = {"__MACOSX/b/._c.txt": b"1", "b/.DS_Store": b"2", ".git/config": b"3"}
    assert contents(pack(tmp_path / kind, FILES | extra)) == FILES


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_name_may_begin_with_a_dot_and_a_slash(tmp_path, kind):
    assert contents(pack(tmp_path / kind, top="./")) == FILES


def test_a_zip_of_windows_has_folders(tmp_path):
    files = {name.replace("/", "\\"): content for name, content in FILES.items()}
    assert contents(pack(tmp_path / "a.zip", files)) == FILES


# --- what is refused ---


def refused(path, message, **options):
    with pytest.raises(KdError, match=message) as caught:
        contents(path, **options)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("name", ["../out.txt", "/etc/passwd", "b/../../x", ".."])
def test_a_name_that_leads_outside(tmp_path, kind, name):
    refused(pack(tmp_path / kind, FILES | {name: b"x"}), "no safe one")


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_name_that_is_there_twice(tmp_path, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, of the writer
        refused(pack(tmp_path / kind, FILES | {"b//c.txt": b"other"}), "holds b/c.txt twice")


def special(path, **fields):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        entry = tarfile.TarInfo("b/c.txt")
        for name, value in fields.items():
            setattr(entry, name, value)
        archive.addfile(entry)
    return path


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link.*--dereference"),
        ({"type": tarfile.LNKTYPE, "linkname": "a.txt"}, "is a link"),
        ({"type": tarfile.FIFOTYPE}, "no ordinary file"),
        ({"type": tarfile.CHRTYPE}, "no ordinary file"),
    ],
)
def test_what_is_no_file(tmp_path, kind, fields, message):
    refused(special(tmp_path / kind, **fields), message)


def sparse(path, size):
    """A GNU sparse file that declares `size` bytes and holds none of them."""
    headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "b/c.txt",
        "GNU.sparse.size": str(size),
        "GNU.sparse.map": "0,0",
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("b/c.txt")
        entry.pax_headers = headers
        archive.addfile(entry)
    return path


@pytest.mark.parametrize("size", [1000, 2**44])
def test_a_sparse_file(tmp_path, size):
    refused(sparse(tmp_path / "a.tar", size), "is a sparse file|declares 17,592,186,044,416 bytes")


def test_an_encrypted_zip(tmp_path):
    path = pack(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = content.index(magic)
        content[place + offset] |= 1
    path.write_bytes(content)
    refused(path, "is encrypted")


def test_a_link_in_a_zip(tmp_path):
    entry = zipfile.ZipInfo("b/link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "../../etc/passwd")
    refused(tmp_path / "a.zip", "is a link")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.txt", b"text")
    refused(tmp_path / "a.zip", "compressed in an unusual way")


def test_links_in_a_folder_are_followed_but_not_in_a_circle(tmp_path):
    pack(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "linked").symlink_to(tmp_path / "real")
    assert contents(tmp_path / "folder").keys() == {f"linked/{name}" for name in FILES}
    (tmp_path / "real" / "b" / "round").symlink_to(tmp_path / "real")
    with pytest.raises(KdError, match="is a link to a folder that holds it"):
        contents(tmp_path / "folder")


def test_what_is_no_file_in_a_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KdError, match="pipe is no ordinary file"):
        contents(tmp_path)
    (tmp_path / "pipe").unlink()
    (tmp_path / "nothing.txt").symlink_to(tmp_path / "not there")
    with pytest.raises(KdError, match=r"nothing\.txt"):
        contents(tmp_path)


# --- bombs ---


def test_nothing_is_allocated_for_what_is_only_declared(tmp_path):
    """A size is compared with what there is before anything is read."""
    path = pack(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)
    tracemalloc.start()
    refused(path, "declares 4,294,967,294 bytes, more than")
    special(tmp_path / "a.tar", size=2**43)
    refused(tmp_path / "a.tar", "declares 8,796,093,022,208 bytes")
    special(tmp_path / "a.tar.gz", size=2**43)
    refused(tmp_path / "a.tar.gz", "declares 8,796,093,022,208 bytes")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_packed_tar_that_unpacks_for_ever(tmp_path):
    """Zeros in a file that nobody wants, unpacked to come to the next one."""
    entry = tarfile.TarInfo("big.bin")
    entry.size = 2**28
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    refused(tmp_path / "a.tar.gz", "times its own size", wanted=lambda parts: parts[0] == "a.txt")


def test_a_file_larger_than_was_asked_for(tmp_path):
    refused(pack(tmp_path / "a.zip"), "300 bytes, and 299 is the most", largest=299)
    assert contents(pack(tmp_path / "b.zip"), largest=300) == FILES


# --- damage ---


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_a_damaged_archive_gives_the_same_files_or_one_line(tmp_path, kind):
    path, refusals = pack(tmp_path / kind), []
    for fault, content in damaged(path.read_bytes()):
        path.write_bytes(content)
        try:
            assert contents(path) == FILES, fault
        except KdError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert "\n" not in "".join(refusals)


def test_a_plain_tar_that_is_cut_gives_the_same_files_or_one_line(tmp_path):
    path = pack(tmp_path / "a.tar")
    for fault, content in damaged(path.read_bytes()):
        path.write_bytes(content)
        try:
            listed = contents(path)
        except KdError:
            continue
        if fault.startswith("cut"):
            assert listed == FILES, fault  # what was flipped inside a file has no checksum


# --- where data lies ---


def test_the_place_is_an_argument_or_the_environment_or_here(tmp_path, monkeypatch):
    for name in ("one", "other", "here"):
        pack(tmp_path / name, {f"{name}.csv": b"x", "all.csv": b"x"})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path / "one"))
    assert find_data("all.csv", str(tmp_path / "other")) == tmp_path / "other" / "all.csv"
    assert find_data("all.csv", None) == tmp_path / "one" / "all.csv"
    assert find_data("here.csv", None) == pathlib.Path("here.csv")
    assert find_data(str(tmp_path / "one" / "all.csv"), "/nowhere").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_data("~/one/one.csv", None) == tmp_path / "one" / "one.csv"
    with pytest.raises(KdError, match=r"no .*/one/other\.csv; point KD_DATA_DIR"):
        find_data("other.csv", None)
    with pytest.raises(KdError, match=r"no .*/other/one\.csv"):
        find_data("one.csv", str(tmp_path / "other"))
    monkeypatch.delenv("KD_DATA_DIR")
    with pytest.raises(KdError, match="set KD_DATA_DIR"):
        find_data("x" * 5000, None)
