"""The second stage: the text encoders learn what captions say, as CLIP's have before a denoiser listens to them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import CLIPTokenizer

from ops.starter.captions import caption
from ops.starter.models import FIRST, SECOND, make_encoders
from ops.starter.paints import COLOURS
from ops.starter.scenes import POSITIONS, RELATIONS, SIZES, STYLES, TEXTURES, Scene
from ops.starter.shapes import SHAPES
from ops.starter.training import Run, Stage

CAPTIONS = Stage("captions", steps=2500, rate=1e-3, warmup=200, average=0.999, weight_decay=0.01, seed=4)
_ROWS = 64
_THING = (("shape", tuple(SHAPES)), ("colour", tuple(COLOURS)), ("texture", TEXTURES), ("size", SIZES))
#: What is asked of a caption: how many answers there are to each question; a second thing may be missing.
_ANSWERS = (
    len(COLOURS),
    len(STYLES),
    len(POSITIONS) + len(RELATIONS),
    *(len(words) for _, words in _THING),
    *(1 + len(words) for _, words in _THING),
)


class Reader(nn.Module):
    """Both text encoders, and what asks them: of their pooled state by a line each, of the words' states by attention.

    The denoiser listens to both in the same places; the questions themselves are not kept.
    """

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.first, self.second = make_encoders(len(tokenizer))
        width = FIRST + SECOND
        self.questions = nn.Parameter(torch.randn(len(_ANSWERS), width))
        self.listen = nn.MultiheadAttention(width, 4, batch_first=True)
        self.of_words = nn.ModuleList(nn.Linear(width, answers) for answers in _ANSWERS)
        self.of_pooled = nn.ModuleList(nn.Linear(SECOND, answers) for answers in _ANSWERS)

    def read(self, captions: list[str], padding: str = "max_length") -> tuple[Tensor, Tensor]:
        """The words' states (rows, 77, FIRST + SECOND) and the pooled ones (rows, SECOND), as SDXL's pipeline does."""
        read = self.tokenizer(captions, padding=padding, max_length=77, truncation=True, return_tensors="pt")
        tokens = read.input_ids.to(self.questions.device)
        first = self.first(tokens, output_hidden_states=True).hidden_states[-2]
        second = self.second(tokens, output_hidden_states=True)
        return torch.cat([first, second.hidden_states[-2]], dim=-1), second.text_embeds

    def forward(self, captions: list[str]) -> list[tuple[Tensor, Tensor]]:
        """Logits (rows, answers) to each question: by the words' states, and by the pooled ones."""
        states, pooled = self.read(captions, padding="longest")
        heard, _ = self.listen(self.questions.expand(len(captions), -1, -1), states, states, need_weights=False)
        return [
            (words(heard[:, number]), whole(pooled))
            for number, (words, whole) in enumerate(zip(self.of_words, self.of_pooled, strict=True))
        ]


def answers(scene: Scene) -> list[int]:
    """The right answer to each question."""
    first, *more = scene.things
    places = (*POSITIONS, *RELATIONS)
    place = places.index(scene.relation if more else scene.position)
    found = [list(COLOURS).index(scene.background), STYLES.index(scene.style), place]
    found += [words.index(getattr(first, name)) for name, words in _THING]
    return found + [1 + words.index(getattr(more[0], name)) if more else 0 for name, words in _THING]


def train_reader(scenes: list[Scene], tokenizer: CLIPTokenizer, folder: Path) -> Reader:
    """Trains it, or goes on where a checkpoint in `folder` left off."""
    torch.manual_seed(CAPTIONS.seed)
    reader = Reader(tokenizer)
    run = Run(CAPTIONS, reader, folder)

    def loss(_: int, rng: np.random.Generator) -> Tensor:
        return reading_loss(reader, [scenes[int(row)] for row in rng.integers(len(scenes), size=_ROWS)], rng)

    run.train(loss)
    run.use_average()
    return reader.eval()


def reading_loss(reader: Reader, scenes: list[Scene], rng: np.random.Generator) -> Tensor:
    """Mean cross-entropy of all answers to captions of these scenes."""
    right = torch.tensor([answers(scene) for scene in scenes], device=reader.questions.device)
    found = reader([caption(scene, rng) for scene in scenes])
    return torch.stack(
        [nnf.cross_entropy(logits, right[:, number]) for number, both in enumerate(found) for logits in both]
    ).mean()
