"""What a training does unless it is told otherwise: a recipe, which a catalogue may give with a model."""

from typing import Literal

from pydantic import Field

from darkroom.tasks.adapters import MOST_RANK
from darkroom.tasks.sources import Strict

MOST_TRAIN_STEPS = 20_000
MOST_CLASS_PROMPTS, MOST_CLASS_IMAGES = 100, 1000


class Recipe(Strict):
    """Fields of `darkroom.tasks.requests.Finetune`, under its names. What suits one model teaches another nothing.

    Unless a catalogue says otherwise, what is usual for models of SDXL's size. `min_snr_gamma` 0: no weighting.
    """

    num_train_steps: int = Field(default=500, ge=1, le=MOST_TRAIN_STEPS)
    rank: int = Field(default=16, ge=1, le=MOST_RANK)
    learning_rate: float = Field(default=1e-4, gt=0, le=1, allow_inf_nan=False)
    batch_size: int = Field(default=1, ge=1, le=64)
    targets: Literal["attention", "all"] = "attention"
    text_encoder: bool = False
    min_snr_gamma: float = Field(default=5.0, ge=0, le=100, allow_inf_nan=False)
    class_prompts: list[str] = Field(default=[], max_length=MOST_CLASS_PROMPTS)
    num_class_images: int = Field(default=100, ge=0, le=MOST_CLASS_IMAGES)
