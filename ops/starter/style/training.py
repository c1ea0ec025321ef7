"""The training: the encoder first learns to say what it sees; then it, the projection, and the layers' keys and values
learn what the denoiser needs to hear. The denoiser stays as it is.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import CLIPVisionModelWithProjection

from darkroom.worker.adapters.attention import StyleHolder, install_style
from ops.starter.paints import COLOURS
from ops.starter.scenes import POSITIONS, RELATIONS, SIZES, STYLES, TEXTURES, Scene
from ops.starter.shapes import SHAPES
from ops.starter.style.lessons import Lessons, Plan
from ops.starter.style.models import EMBEDDING, Adapter, make_encoder, pixels
from ops.starter.style.pictures import StyleSet, style_set
from ops.starter.training import Run, Stage, device, half

ENCODER = Stage("style-encoder", steps=500, rate=1e-3, warmup=100, average=0.995, weight_decay=0.01, seed=6)
ADAPTER = Stage("style", steps=3500, rate=1e-3, warmup=100, average=0.998, weight_decay=0.01, seed=7)
STAGES = (ENCODER, ADAPTER)
_PLANS = {ADAPTER: Plan(palette=0.38, over=0.38, both=0.14, layout=0.1, begun=(0.2, 0.85))}
_ROWS = 64


def train_style(model: Path, folder: Path) -> Adapter:
    """Trains it for the exported `model`, or goes on where a checkpoint in `folder` left off."""
    painter = Painter(model)
    drawn = style_set(painter.pipeline.vae, folder)
    torch.manual_seed(ADAPTER.seed)
    adapter = Adapter(train_encoder(drawn, folder), painter.unet)
    painter.holder = install_style(painter.unet, list(zip(adapter.keys, adapter.values, strict=True)))
    for stage, plan in _PLANS.items():
        run, lessons = Run(stage, adapter, folder), Lessons(painter, adapter, drawn, plan)
        run.train(lessons.loss)
        run.use_average()
    return adapter.cpu().eval()


def train_encoder(drawn: StyleSet, folder: Path) -> CLIPVisionModelWithProjection:
    """It learns to say palette and layout by its embedding, as CLIP has learned from captions."""
    torch.manual_seed(ENCODER.seed)
    encoder = make_encoder()
    encoder.set_attn_implementation("eager")  # whose way back takes a CPU a third of the time
    asked = nn.ModuleList(nn.Linear(EMBEDDING, len(answers)) for answers in _ANSWERS)
    answers = torch.tensor([_answers(scene) for scene in drawn.scenes])

    def loss(_: int, rng: np.random.Generator) -> Tensor:
        rows = torch.from_numpy(rng.integers(len(drawn.scenes), size=_ROWS))
        with half():
            seen = encoder(pixels(drawn.views[rows.numpy()], rng)).image_embeds
            said = [of(seen) for of in asked]
        right = answers[rows].to(device())
        wrong = [nnf.cross_entropy(logits.float(), right[:, number]) for number, logits in enumerate(said)]
        return torch.stack(wrong).mean()

    run = Run(ENCODER, nn.ModuleDict({"encoder": encoder, "of": asked}), folder)
    run.train(loss)
    run.use_average()
    return encoder


_ANSWERS = (tuple(COLOURS), tuple(COLOURS), TEXTURES, STYLES, tuple(SHAPES), (*POSITIONS, *RELATIONS), SIZES)


def _answers(scene: Scene) -> list[int]:
    first = scene.things[0]
    place = scene.position if len(scene.things) == 1 else scene.relation
    said = (scene.background, first.colour, first.texture, scene.style, first.shape, place, first.size)
    return [answers.index(word) for answers, word in zip(_ANSWERS, said, strict=True)]


class Painter:
    """The finished model, for training what listens beside its text encoders."""

    def __init__(self, model: Path) -> None:
        self.pipeline = StableDiffusionXLPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
        self.pipeline.to(device())
        for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
            getattr(self.pipeline, part).eval().requires_grad_(requires_grad=False)
        self.unet = self.pipeline.unet
        self.noise_left: Tensor = self.pipeline.scheduler.alphas_cumprod
        self.holder = StyleHolder()
        self.read = lru_cache(2000)(self._read)

    @torch.no_grad()
    def _read(self, text: str) -> tuple[Tensor, Tensor]:
        states, _, pooled, _ = self.pipeline.encode_prompt(text, do_classifier_free_guidance=False)
        return states.half(), pooled.half()

    def heard(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """States (rows, 77, width) and pooled ones (rows, width)."""
        read = [self.read(text) for text in texts]
        return torch.cat([states for states, _ in read]).float(), torch.cat([pooled for _, pooled in read]).float()
