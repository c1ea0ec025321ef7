"""What is made for one image, or for a whole job: a picture, files, or both. Storing and telling is the worker's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from PIL import Image
from safetensors.torch import save

from darkroom.storage.keys import FILE_TYPES, is_role

METADATA = "darkroom"  # the one entry of a file's metadata


@dataclass(frozen=True, slots=True)
class ProducedFile:
    """A file that was made: its role (`latents`, `sheet`), its bytes, and the ending that tells its type.

    Of each role there is at most one file of an image, and one of the job. The same seeds must give the same bytes.
    `index` is that of the image it belongs to, None for the whole job; of what is made for an image the worker sets it.
    Raises ValueError for a role or an ending that cannot be, and for no bytes.
    """

    role: str
    data: bytes
    extension: str = "safetensors"
    index: int | None = None

    def __post_init__(self) -> None:
        if not is_role(self.role):
            raise ValueError(f"{self.role[:64]!r} is no role of a file")
        if self.extension not in FILE_TYPES:
            raise ValueError(f"no file ends with .{self.extension[:16]}; there are: {', '.join(FILE_TYPES)}")
        if not self.data:
            raise ValueError(f"the {self.role} have no bytes")

    @classmethod
    def of_tensors(cls, role: str, tensors: Mapping[str, torch.Tensor], **about: object) -> Self:
        """A .safetensors file of tensors on any device; `about` is kept in its metadata, under `darkroom`, as JSON.

        In one entry, since safetensors writes several in an order of chance, and the bytes are to be the same again.
        """
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {METADATA: json.dumps(about, sort_keys=True)} if about else None
        return cls(role, save(kept, metadata))

    @property
    def content_type(self) -> str:
        """As the ending has it."""
        return FILE_TYPES[self.extension]

    def of_image(self, index: int) -> Self:
        """The same as a file of this image."""
        return replace(self, index=index)


@dataclass(frozen=True, slots=True)
class Produced:
    """What was made for one image of a job: a picture (RGB), files, or both. Raises ValueError for a role twice."""

    image: Image.Image | None = None
    files: Sequence[ProducedFile] = ()

    def __post_init__(self) -> None:
        roles = [file.role for file in self.files]
        if len(set(roles)) < len(roles):
            raise ValueError(f"two files of one image have the same role: {', '.join(sorted(roles))}")

    @property
    def picture(self) -> Image.Image:
        """The picture. Raises ValueError where there is none."""
        if self.image is None:
            raise ValueError("no picture was made")
        return self.image
