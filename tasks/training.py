"""What a training does unless it is told otherwise: a recipe, which a catalogue may give with a model."""

from typing import Annotated, Literal

from pydantic import Field

from darkroom.tasks.adapters import MOST_RANK
from darkroom.tasks.sources import Strict

MOST_TRAIN_STEPS = 20_000
MOST_CLASS_PROMPTS, MOST_CLASS_IMAGES = 100, 1000

# What a request may say, and a recipe.
TrainSteps = Annotated[int, Field(ge=1, le=MOST_TRAIN_STEPS)]
Rank = Annotated[int, Field(ge=1, le=MOST_RANK)]
LearningRate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
BatchSize = Annotated[int, Field(ge=1, le=64)]
Targets = Literal["attention", "all"]
SnrGamma = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
ClassImages = Annotated[int, Field(ge=0, le=MOST_CLASS_IMAGES)]


class Recipe(Strict):
    """Fields of `darkroom.tasks.requests.Finetune`, under its names. What suits one model teaches another nothing.

    Unless a catalogue says otherwise, what is usual for models of SDXL's size. `min_snr_gamma` 0: no weighting.
    """

    num_train_steps: TrainSteps = 500
    rank: Rank = 16
    learning_rate: LearningRate = 1e-4
    batch_size: BatchSize = 1
    targets: Targets = "attention"
    text_encoder: bool = False
    min_snr_gamma: SnrGamma = 5.0
    class_prompts: list[str] = Field(default=[], max_length=MOST_CLASS_PROMPTS)
    num_class_images: ClassImages = 100
