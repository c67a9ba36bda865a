"""Files that people name may be anything."""

import errno
import os
import threading
from pathlib import Path

import pytest

from meterd.drivers.map_library import load_map
from meterd.errors import ConfigError
from meterd.model import files


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("/dev/zero", errno.EFBIG),
        ("/dev/urandom", errno.EFBIG),
        (".", errno.EISDIR),
        ("nothing", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("a\0b", errno.EINVAL),
        ("\ud800", errno.EINVAL),
        ("x" * 300, errno.ENAMETOOLONG),
        ("large", errno.EFBIG),
    ],
)
def test_what_cannot_be_read_is_an_oserror_with_words(
    tmp_path: Path, name: str, number: int
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "large").write_bytes(bytes(2000))
    with pytest.raises(OSError) as refused:
        files.read(tmp_path / name, 1024)
    assert refused.value.errno == number
    assert refused.value.strerror
    with pytest.raises(ConfigError) as told:
        load_map(f"{tmp_path / name if name != 'large' else '/dev/zero'}/../x.yaml")
    assert "register map" in str(told.value)


def test_a_pipe_is_waited_for_a_while_and_read_as_far_as_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_PIPE_TIMEOUT_S", 0.01)
        with pytest.raises(OSError, match="nobody writes"):
            files.read(pipe, 1024)
    with pytest.raises(OSError, match="no file"):
        files.read(pipe, 1024, pipe=False)
    keep = os.open(pipe, os.O_RDWR)

    def write(size: int) -> threading.Thread:
        thread = threading.Thread(target=lambda: pipe.write_bytes(b"x" * size))
        thread.start()
        return thread

    thread = write(5000)
    with pytest.raises(OSError, match="larger than"):
        files.read(pipe, 1024)
    thread.join()
    os.close(keep)
