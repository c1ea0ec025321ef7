"""What the adapter is taught: batches of latents, captions and pictures, and the denoiser's error on them.

The layers without the layout's learn from a picture that shares no more than the palette with the one to be painted,
so that they can carry nothing else.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as nnf
from torch.nn.attention import SDPBackend, sdpa_kernel

from darkroom.worker.adapters.attention import StyleHolder, cross_attention
from ops.starter.captions import caption, shape_caption
from ops.starter.scenes import SIDE
from ops.starter.style.models import LAYOUT, Adapter, pixels
from ops.starter.style.pictures import StyleSet
from ops.starter.training import device, half

_ROWS = 24
_UNSEEN = 0.08  # of the rows see no picture
_UNTOLD = 0.1  # of the rows are told nothing, as guidance does


@dataclass(frozen=True)
class Plan:
    """Shares of the rows: the palette alone; the same while another palette shows through; both palette and layout; the
    layout alone.

    `begun`: when the other palette's picture was made noisy, of all times, as the strengths of img2img. `lag`: how far
    it may lie behind the noise in going.
    """

    palette: float
    over: float
    both: float
    layout: float
    begun: tuple[float, float]
    lag: float = 0.0

    @property
    def kinds(self) -> dict[str, float]:
        """The shares by name."""
        return {name: getattr(self, name) for name in ("palette", "over", "both", "layout")}


class Model(Protocol):
    """The finished model. `unet` has the adapter's processors, which look at `holder`; `noise_left` (steps,)."""

    unet: Any
    holder: StyleHolder
    noise_left: Tensor

    def heard(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """States (rows, 77, width) and pooled ones (rows, width)."""


class Lessons:
    """Batches, and the denoiser's error on them."""

    def __init__(self, model: Model, adapter: Adapter, drawn: StyleSet, plan: Plan) -> None:
        self._model, self._adapter, self.drawn, self._plan = model, adapter, drawn, plan
        self._alike = drawn.alike()
        self._layout = torch.tensor([LAYOUT in name for name in cross_attention(model.unet)])

    def loss(self, _: int, rng: np.random.Generator) -> Tensor:
        """Mean square error of v, as the denoiser's own training has it; of a batch that `rng` draws."""
        rows, shares = rng.integers(len(self.drawn.scenes), size=_ROWS), self._plan.kinds
        kinds = rng.choice(list(shares), size=_ROWS, p=list(shares.values()))
        states, pooled = self._model.heard([self._text(*of, rng) for of in zip(rows, kinds, strict=True)])
        seen = torch.from_numpy(rng.random((_ROWS, 1)) >= _UNSEEN).float().to(device())
        told = torch.from_numpy(rng.random((_ROWS, 1)) >= _UNTOLD).float().to(device())
        noisy, times, wanted = self.noisy(torch.from_numpy(rows), torch.from_numpy(kinds == "over"), rng)
        added = {"text_embeds": pooled * told, "time_ids": _SIZES.repeat(_ROWS, 1).to(device())}
        views = np.stack([self._view(int(row), kind, rng) for row, kind in zip(rows, kinds, strict=True)])
        with half(), sdpa_kernel(SDPBackend.MATH):  # on a CPU the other's way back takes longer
            self._model.holder.style = self._adapter.tokens(pixels(views, rng), seen), self._scales(kinds)
            found = self._model.unet(noisy, times, states * told[..., None], added_cond_kwargs=added).sample
        return nnf.mse_loss(found.float(), wanted)

    def _text(self, row: int, kind: str, rng: np.random.Generator) -> str:
        scene, lot = self.drawn.scenes[row], rng.random()
        if kind == "layout":
            return caption(scene, rng) if lot < 0.6 else ""
        silent = 0.25 if kind == "palette" else 0.5
        return "" if lot < silent else caption(scene, rng) if lot > 0.9 else shape_caption(scene, rng)

    def _view(self, row: int, kind: str, rng: np.random.Generator) -> NDArray[Any]:
        views = self.drawn.other_views if kind == "layout" else self.drawn.views
        seen: NDArray[np.uint8] = views[int(rng.choice(self._alike[row])) if kind in ("palette", "over") else row]
        return seen

    def _scales(self, kinds: NDArray[Any]) -> Tensor:
        """(rows, layers)."""
        style, layout = torch.from_numpy(kinds != "layout"), torch.from_numpy(np.isin(kinds, ("both", "layout")))
        return torch.where(self._layout, layout[:, None], style[:, None]).float().to(device())

    def noisy(self, rows: Tensor, over: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, their times (rows,), and v.

        What img2img starts from shows another palette through the noise. A denoiser that sees the right picture brings
        the rest of the wrong one down as it brings down the noise: both are multiples of sigma.
        """
        steps = len(self._model.noise_left)
        latest = torch.where(over, torch.from_numpy(rng.uniform(*self._plan.begun, len(rows))), 1.0)
        times = (latest * torch.from_numpy(rng.random(len(rows))).pow(0.5) * steps).long()
        start = (latest * steps).long().clamp(max=steps - 1)
        sigma = (1 / self._model.noise_left - 1).sqrt()
        pace = 1 - self._plan.lag * torch.from_numpy(rng.random(len(rows)))
        rest = torch.where(over, (sigma[times] / sigma[start]).pow(pace), 0.0).view(-1, 1, 1, 1).float()
        target, other = self.drawn.latents[rows], self.drawn.others[rows]
        signal = self._model.noise_left[times].view(-1, 1, 1, 1).sqrt()
        deviation = (1 - signal.square()).sqrt()
        noisy = signal * (target + rest * (other - target)) + deviation * torch.randn(target.shape)
        noise = (noisy - signal * target) / deviation
        return noisy.to(device()), times.to(device()), (signal * noise - deviation * target).to(device())


_SIZES = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]]).float()
