"""What is opened of others: regular files, and nothing that would hold the reader."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from darkroom.worker.models.digests import hash_files
from darkroom.worker.models.opening import NoRegularFile, open_regular, trouble
from darkroom.worker.models.weights import inspect_weights

TRAPS: list[Callable[[Path], object]] = [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")]


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("read", [open_regular, inspect_weights, lambda path: hash_files({path.name: path})])
def test_what_is_no_file_is_told_at_once(
    tmp_path: Path, trap: Callable[[Path], object], read: Callable[[Path], object]
) -> None:
    path = tmp_path / "x.safetensors"
    trap(path)
    with pytest.raises(NoRegularFile, match="is no regular file") as caught:
        read(path)
    assert caught.value.filename == str(path)
    assert trouble(path) == "is no regular file"


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("x")
    assert trouble(tmp_path / "link") == ""
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"abc"


def test_what_is_not_there_and_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trouble(tmp_path / "x") == "is not there"
    assert trouble(tmp_path / ("x" * 300)) == "cannot be read: File name too long"
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert trouble(Path("socket")) == "is no regular file"
