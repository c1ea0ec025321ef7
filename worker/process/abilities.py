"""What this process has for each model that it serves, as it says and as it claims."""

from collections.abc import Collection, Sequence
from importlib.util import find_spec

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.message import LANES, TRAINING
from darkroom.tasks.needs import abilities, value_need
from darkroom.tasks.places import Has
from darkroom.tasks.requests import KINDS


def abilities_of(offers: Sequence[ModelOffer], unadapted: Collection[str] = (), lanes: Collection[str] = LANES) -> Has:
    """By model: its kinds with all their fields, its schedulers, and the other models of this process.

    Where compel is missing, prompts are read as they stand alone. `unadapted`: models that take no LoRAs here, and make
    no samples of trainings, which have one. Who does not read the lane of trainings has none of them.
    """
    lacks = [] if find_spec("compel") else ["prompt_syntax"]
    lacks += [] if TRAINING in lanes else [need for need in [value_need("kind", "finetune")] if need]
    names = {offer.name for offer in offers}
    return {
        offer.name: abilities(
            [KINDS[kind] for kind in offer.kinds if kind in KINDS],
            offer.schedulers,
            names - {offer.name},
            [*lacks, "lora:own", "sample_prompts"] if offer.name in unadapted else lacks,
        )
        for offer in offers
    }
