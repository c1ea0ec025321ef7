"""The batches of a training: pictures as latents and captions as the denoiser reads them, as the plan draws them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image

from darkroom.storage.images import open_picture
from darkroom.worker.caches import Cache
from darkroom.worker.training.batch import Batch, Conditioning
from darkroom.worker.training.buckets import Frame, Size, bucket_of, buckets, frame
from darkroom.worker.training.dataset import Dataset, Example
from darkroom.worker.training.plan import Draw, Plan

#: Latents and encoded captions that are kept: a caption of SDXL's takes 630 kB.
MOST_LATENTS, MOST_CAPTIONS = 10_000, 1_000

Latents = Callable[[Image.Image], torch.Tensor]
Encode = Callable[[Sequence[str]], Conditioning]


def sizes_of(dataset: Dataset, resolution: int, grid: int) -> tuple[Size, ...]:
    """The bucket of each example, of an area of at most `resolution` squared (pixels), its sides on the grid."""
    able = buckets(resolution, grid)
    return tuple(bucket_of(example.width, example.height, able) for example in dataset.examples)


@dataclass(frozen=True)
class _Seen:
    """An example as a draw shows it."""

    example: Example
    frame: Frame
    flip: bool

    def picture(self) -> Image.Image:
        """Decoded anew each time: data sets are kept as files."""
        with open_picture(self.example.picture) as whole:
            return self.frame.of(whole, flip=self.flip)

    @property
    def sizes(self) -> tuple[int, ...]:
        """What SDXL is told: height and width of the original, top and left of the crop, height and width seen."""
        left, top, right, bottom = self.frame.box
        original = (self.example.height, self.example.width)
        return (*original, *self.frame.top_left(flip=self.flip), bottom - top, right - left)


class Examples:
    """By step and pass, the same every time. Latents and captions are kept once they were encoded."""

    def __init__(self, dataset: Dataset, plan: Plan, latents: Latents, encode: Encode | None, *, sized: bool) -> None:
        """`latents` of a picture (RGB), (1, 4, h/8, w/8) in the schedulers' scale. `encode` None: text encoders train.

        `sized`: the denoiser is told sizes, as SDXL's is.
        """
        self._dataset, self._plan, self._latents, self._encode, self._sized = dataset, plan, latents, encode, sized
        self._kept = Cache[torch.Tensor](most=MOST_LATENTS)
        self._read = Cache[Conditioning](most=MOST_CAPTIONS)

    @property
    def sizes(self) -> Sequence[Size]:
        """The bucket of each picture."""
        return self._plan.buckets

    def largest(self) -> Batch:
        """A batch of the largest size: none takes more. Raises as a call."""
        return self(*self._plan.largest())

    def __call__(self, step: int, micro: int) -> Batch:
        """What a pass of a step learns from, both counted from 0. Raises InputError, and what encoding raises."""
        with torch.no_grad():  # whoever asks, an encoder is not what is trained here
            return self._batch(self._plan.batch(step, micro))

    def _batch(self, draws: Sequence[Draw]) -> Batch:
        seen = [self._seen(draw) for draw in draws]
        captions = tuple(
            "" if draw.drop_caption else one.example.caption for draw, one in zip(draws, seen, strict=True)
        )
        return Batch(
            latents=torch.cat([self._kept.get(one, partial(self._encoded, one)) for one in seen]),
            keys=tuple(draw.key for draw in draws),
            captions=captions if self._encode is None else (),
            conditioning=None if self._encode is None else self._conditioning(self._encode, captions),
            sizes=torch.tensor([one.sizes for one in seen]) if self._sized else None,
        )

    def _seen(self, draw: Draw) -> _Seen:
        example, bucket = self._dataset.examples[draw.example], self._plan.buckets[draw.example]
        return _Seen(example, frame(example.width, example.height, bucket, draw.crop), draw.flip)

    def _encoded(self, seen: _Seen) -> torch.Tensor:
        return self._latents(seen.picture()).float().cpu()

    def _conditioning(self, encode: Encode, captions: Sequence[str]) -> Conditioning:
        """Each by itself, so that it is kept; together where they are not equally long."""
        found = [self._read.get(caption, partial(encode, [caption])) for caption in captions]
        return Conditioning.joined(found) or encode(captions)
