"""Files that Python's reader of their headers takes, and safetensors' own does not."""

import struct

import pytest

from darkroom.storage.errors import InputCorrupt
from darkroom.storage.latents import open_latents
from darkroom.worker.kinds.tensors import read_tensors


@pytest.mark.parametrize("first", [b"-0", b"0"])
def test_what_safetensors_does_not_read_is_the_callers_fault(first: bytes) -> None:
    header = b'{"latents":{"dtype":"F32","shape":[1,4,1,1],"data_offsets":[' + first + b",16]}}"
    data = struct.pack("<Q", len(header)) + header + b"\0" * 16
    open_latents(data)
    if first == b"0":
        assert read_tensors(data)["latents"].shape == (1, 4, 1, 1)
    else:
        with pytest.raises(InputCorrupt, match="the file cannot be read: "):
            read_tensors(data)
