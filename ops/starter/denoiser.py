"""The second stage: both text encoders and the denoiser, together, on latents."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import CLIPTokenizer

from ops.starter.captions import caption
from ops.starter.models import make_encoders, make_scheduler, make_unet
from ops.starter.scenes import SIDE, Scene
from ops.starter.training import Run, Stage

#: Two parts, each with its own fall of the learning rate; the second dwells on the steps in which prompts decide.
STAGES = (
    Stage("denoiser", steps=7000, rate=1e-3, warmup=300, average=0.999, weight_decay=0.01, seed=2),
    Stage("denoiser-more", steps=16_000, rate=8e-4, warmup=200, average=0.999, weight_decay=0.01, seed=3),
)
_ROWS = 32
_UNCONDITIONAL = 0.1  # of the rows
_ALONE = 0.1  # of the first part's steps, at its beginning, show one thing only


class Painter(nn.Module):
    """What is trained together: captions in, the denoiser's prediction out."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.first, self.second = make_encoders(len(tokenizer))
        self.unet = make_unet()

    def forward(self, noisy: Tensor, times: Tensor, captions: list[str], kept: Tensor, sizes: Tensor) -> Tensor:
        """Latents (rows, 4, 16, 16), steps (rows,), captions; `kept` (rows,) is 0 where the caption is left out, and
        `sizes` (rows, 6) are SDXL's: original, crop and target. Gives v (rows, 4, 16, 16).
        """
        tokens = self.tokenizer(
            captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        first = self.first(tokens, output_hidden_states=True).hidden_states[-2]
        second = self.second(tokens, output_hidden_states=True)
        # The pipeline's call without a negative prompt: zeros, not the encoding of "".
        states = torch.cat([first, second.hidden_states[-2]], dim=-1) * kept.view(-1, 1, 1)
        added = {"text_embeds": second.text_embeds * kept.view(-1, 1), "time_ids": sizes}
        seen: Tensor = self.unet(noisy, times, encoder_hidden_states=states, added_cond_kwargs=added).sample
        return seen


def train_denoiser(scenes: list[Scene], latents: Tensor, tokenizer: CLIPTokenizer, folder: Path, part: int) -> Painter:
    """Trains part 0 or 1, or goes on where a checkpoint in `folder` left off; part 1 begins with part 0's average."""
    stage = STAGES[part]
    torch.manual_seed(stage.seed)
    painter = Painter(tokenizer)
    if part:
        before = torch.load(folder / f"{STAGES[part - 1].name}.pt", weights_only=True)
        painter.load_state_dict(before["average"])
    run = Run(stage, painter, folder)
    alone = np.flatnonzero([len(scene.things) == 1 for scene in scenes])
    noise_left = make_scheduler().alphas_cumprod

    def loss(step: int, rng: np.random.Generator) -> Tensor:
        few = not part and step < _ALONE * stage.steps
        rows = rng.choice(alone, _ROWS) if few else rng.integers(len(scenes), size=_ROWS)
        captions = [caption(scenes[int(row)], rng) for row in rows]
        return v_loss(painter, latents[torch.from_numpy(rows)], captions, noise_left, late=bool(part))

    run.train(loss)
    run.use_average()
    return painter.eval()


def v_loss(painter: Painter, latents: Tensor, captions: list[str], noise_left: Tensor, *, late: bool = False) -> Tensor:
    """Mean square error of v (T. Salimans and J. Ho, "Progressive distillation", 2022).

    All steps alike, or with `late` the noisier the more often: what a prompt says is decided there.

    Unlike the noise, v tells at every step about the picture: its colours are decided where there is almost only
    noise, and an error of the noise would weigh nothing there.
    """
    rows = len(latents)
    steps = len(noise_left)
    times = (torch.rand(rows).sqrt() * steps).long() if late else torch.randint(0, steps, (rows,))
    signal = noise_left[times].view(-1, 1, 1, 1).sqrt()
    rest = (1 - signal.square()).sqrt()
    noise = torch.randn_like(latents)
    kept = (torch.rand(rows) >= _UNCONDITIONAL).float()
    with torch.autocast("cpu", torch.bfloat16):
        seen = painter(signal * latents + rest * noise, times, captions, kept, _sizes(rows))
    return nnf.mse_loss(seen.float(), signal * noise - rest * latents)


def _sizes(rows: int) -> Tensor:
    """Mostly the native size; now and then another, so that pictures of other sizes meet nothing unknown."""
    sizes = torch.tensor([SIDE, SIDE, 0, 0, SIDE, SIDE]).float().repeat(rows, 1)
    other = torch.rand(rows) < 0.1
    sizes[other] = (torch.randint(8, 33, (rows, 6)) * 8.0)[other] * torch.tensor([1, 1, 0, 0, 1, 1])
    return sizes
