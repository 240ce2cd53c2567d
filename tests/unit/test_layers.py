"""Layers: what is merged how, and what is refused before it does harm."""

from __future__ import annotations

import os
import stat
import zipfile
from typing import TYPE_CHECKING

import pytest

from caloric.local import archives
from caloric.local.layers import LayerError, MergedLayers, layer_variables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    """The folder that stands in for `/opt`."""
    folder = tmp_path / "opt"
    folder.mkdir()
    return folder


def member(name: str, mode: int = 0, date: tuple[int, ...] = (2021, 5, 4, 3, 2, 2)) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date)  # type: ignore[arg-type]
    info.create_system = 3
    # The archive bit of DOS, without which the library would make up a mode.
    info.external_attr = mode << 16 | 0x20
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def zipped(path: Path, *members: tuple[zipfile.ZipInfo | str, str | bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return str(path)


def folder(path: Path, **files: str) -> str:
    for name, text in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return str(path)


def tree(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if not path.is_dir() or path.is_symlink())
    return {
        str(path.relative_to(root)): f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in files
    }


def unpack(given: Sequence[str], opt: str) -> None:
    MergedLayers(given).unpack(opt)


def refusal(opt: Path, *given: str) -> str:
    with pytest.raises(LayerError) as caught:
        unpack(given, str(opt))
    return str(caught.value)


# ---- merging -----------------------------------------------------------------------------------------------------


def test_layers_merge_and_the_last_wins(tmp_path: Path, opt: Path) -> None:
    first = folder(tmp_path / "a", python__both="first", python__one="1")
    second = zipped(tmp_path / "b.zip", ("python/both", "second"), ("python/sub/two", "2"))
    unpack([first, second], str(opt))
    assert tree(opt) == {"python/both": "second", "python/one": "1", "python/sub/two": "2"}


def test_the_other_way_round_the_other_wins(tmp_path: Path, opt: Path) -> None:
    first = folder(tmp_path / "a", python__both="first")
    second = zipped(tmp_path / "b.zip", ("python/both", "second"))
    unpack([second, first], str(opt))
    assert tree(opt) == {"python/both": "first"}


def test_a_file_takes_the_place_of_a_folder_and_a_folder_that_of_a_file(tmp_path: Path, opt: Path) -> None:
    first = folder(tmp_path / "a", x__deep__file="gone", y="gone too")
    second = zipped(tmp_path / "b.zip", ("x", "file"), ("y/inside", "file"))
    unpack([first, second], str(opt))
    assert tree(opt) == {"x": "file", "y/inside": "file"}


def test_permissions_and_times_are_kept(tmp_path: Path, opt: Path) -> None:
    layer = zipped(
        tmp_path / "a.zip",
        (member("bin/", stat.S_IFDIR | 0o555), b""),
        (member("bin/tool", stat.S_IFREG | 0o4755), b"#!/bin/sh"),
        (member("from-windows"), b"x"),
    )
    unpack([layer], str(opt))
    tool = (opt / "bin/tool").stat()
    assert stat.S_IMODE(tool.st_mode) == 0o755, "without the bit that changes the user"
    assert stat.S_IMODE((opt / "from-windows").stat().st_mode) == 0o644
    modified = os.path.getmtime(opt / "from-windows")
    again = folder(tmp_path / "b", x="x")
    os.utime(tmp_path / "b/x", (modified, modified))
    (tmp_path / "b/x").chmod(0o500)
    unpack([again], str(opt))
    copied = (opt / "x").stat()
    assert (copied.st_mtime, stat.S_IMODE(copied.st_mode)) == (modified, 0o500)


def test_a_link_inside_is_kept(tmp_path: Path, opt: Path) -> None:
    layer = zipped(
        tmp_path / "a.zip",
        (member("lib/libx.so", stat.S_IFLNK | 0o777), b"libx.so.1"),
        ("lib/libx.so.1", b"x"),
    )
    other = tmp_path / "b"
    other.mkdir()
    (other / "up").symlink_to("lib/../lib")
    unpack([layer, str(other)], str(opt))
    assert tree(opt)["lib/libx.so"] == "-> libx.so.1"
    assert (opt / "up/libx.so").read_bytes() == b"x"


def test_a_path_with_dots_is_the_path_without(tmp_path: Path, opt: Path) -> None:
    unpack([zipped(tmp_path / "a.zip", ("./python//x", "x"))], str(opt))
    assert tree(opt) == {"python/x": "x"}


def test_an_empty_layer_is_a_layer(tmp_path: Path, opt: Path) -> None:
    unpack([zipped(tmp_path / "a.zip")], str(opt))
    assert tree(opt) == {}


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "..", "a\0b"])
def test_a_path_that_leads_outside(path: str, tmp_path: Path, opt: Path) -> None:
    # The library cuts the name at the NUL where it makes an entry, but not where it reads one.
    info = member(path.replace("\0", "!"))
    layer = zipped(tmp_path / "a.zip", (info, b"x"))
    if "\0" in path:
        data = (tmp_path / "a.zip").read_bytes().replace(b"a!b", b"a\0b")
        (tmp_path / "a.zip").write_bytes(data)
    assert "which leads outside" in refusal(opt, layer)
    assert not list(opt.iterdir())


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "a/../../..", "deep/up/../../secret"])
def test_a_link_that_leads_outside(target: str, tmp_path: Path, opt: Path) -> None:
    # `deep/up` leads to the top, so that `..` after it is further out than it looks.
    layer = zipped(
        tmp_path / "a.zip",
        (member("deep/up", stat.S_IFLNK | 0o777), b".."),
        ("deep/file", b""),
        (member("link", stat.S_IFLNK | 0o777), target),
    )
    assert "the link 'link' to" in refusal(opt, layer)
    outside = tmp_path / "b"
    outside.mkdir()
    (outside / "link").symlink_to("/etc")
    opt.rename(tmp_path / "used")
    opt.mkdir()
    assert "which leads outside" in refusal(opt, str(outside))


def test_nothing_is_written_through_a_link(tmp_path: Path, opt: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    layer = zipped(
        tmp_path / "a.zip",
        (member("d", stat.S_IFLNK | 0o777), str(target)),
        ("d/file", b"x"),
    )
    unpack([layer], str(opt))
    assert not list(target.iterdir())
    assert tree(opt) == {"d/file": "x"}


def test_a_device_or_a_pipe(tmp_path: Path, opt: Path) -> None:
    layer = zipped(tmp_path / "a.zip", (member("pipe", stat.S_IFIFO | 0o600), b""))
    assert "'pipe', which is no file, folder or link" in refusal(opt, layer)
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b/pipe")
    assert "'pipe', which is no file, folder or link" in refusal(opt, str(tmp_path / "b"))


def test_what_is_no_layer(tmp_path: Path, opt: Path) -> None:
    missing = str(tmp_path / "missing.zip")
    assert refusal(opt, missing) == f"the layer {missing!r} cannot be read: No such file or directory"
    text = folder(tmp_path / "a", x="text") + "/x"
    assert f"the layer {text!r} is neither a folder nor a zip file" in refusal(opt, text)


def test_a_damaged_or_encrypted_zip(tmp_path: Path, opt: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("x", b"contents")
    path.write_bytes(path.read_bytes().replace(b"contents", b"CONTENTS"))
    assert "is damaged: x: Bad CRC-32" in refusal(opt, str(path))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "'x', which is encrypted" in refusal(opt, str(path))


def test_more_than_a_function_may_have(tmp_path: Path, opt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = zipped(tmp_path / "a.zip", ("x", b"0" * 1000), ("y", b"0" * 1000))
    assert refusal(opt, *[layer] * 6) == "6 layers were given, and a function has 5 at most"
    monkeypatch.setattr(archives, "MAX_SIZE", 3999)
    assert "more than 3999 bytes (250 MB) unzipped" in refusal(opt, layer, layer)
    assert not list(opt.iterdir()), "it is known before anything is written"
    monkeypatch.setattr(archives, "MAX_SIZE", 4000)
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
    assert "more than 3 files" in refusal(opt, layer, layer)
    monkeypatch.setattr(archives, "MAX_ENTRIES", 4)
    unpack([layer, layer], str(opt))


def test_a_bomb_that_says_it_is_small(tmp_path: Path, opt: Path) -> None:
    path = tmp_path / "a.zip"
    layer = zipped(path, (member("x"), b"0" * 50_000_000))
    data = bytearray(path.read_bytes())
    # The size in the directory, which is the one that is counted.
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    assert "is damaged" in refusal(opt, layer)
    assert sum(file.stat().st_size for file in opt.rglob("*")) <= 10


# ---- what comes of it --------------------------------------------------------------------------------------------


def test_the_variables_name_what_is_there(opt: Path) -> None:
    assert layer_variables(str(opt), {"PATH": "/bin"}, python_path=True) == {"CALORIC_OPT": str(opt)}
    for name in ("bin", "lib", "python/lib/python3.12/site-packages"):
        (opt / name).mkdir(parents=True)
    given = {"PATH": "/bin", "PYTHONPATH": "/mine"}
    assert layer_variables(str(opt), given, python_path=False) == {
        "CALORIC_OPT": str(opt),
        "PATH": f"/bin:{opt}/bin",
        "LD_LIBRARY_PATH": f"{opt}/lib",
    }
    changed = layer_variables(str(opt), given, python_path=True)
    assert changed["PYTHONPATH"] == f"/mine:{opt}/python/lib/python3.12/site-packages:{opt}/python"


def test_a_file_switches_extensions_off(tmp_path: Path) -> None:
    layer = folder(tmp_path / "a", extensions__first="")
    assert not MergedLayers([layer]).disables_extensions()
    other = folder(tmp_path / "b", **{"disable-extensions-jwigqn8j": ""})
    assert MergedLayers([layer, other]).disables_extensions()


def test_extensions_are_the_files_of_their_folder(tmp_path: Path) -> None:
    assert MergedLayers([folder(tmp_path / "a", extensions="a file")]).extensions() == {}
    layer = folder(tmp_path / "b", extensions__second="", extensions__first="", extensions__folder__file="")
    (tmp_path / "b/extensions/first").chmod(0o755)
    (tmp_path / "b/extensions/Zlink").symlink_to("folder/file")
    assert list(MergedLayers([layer]).extensions().items()) == [
        ("Zlink", True),
        ("first", True),
        ("second", False),
    ]
