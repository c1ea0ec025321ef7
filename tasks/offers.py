"""Offers on the wire: written so that the first release reads them, read whatever a later one writes, and joined where
unlike workers serve one model.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, get_args

from darkroom.tasks.adapters import LoraOffer, LoraUse
from darkroom.tasks.catalogue import SCHEDULERS, Kind, Limits, ModelOffer
from darkroom.tasks.needs import RELEASED_VALUES, value_need

_KINDS: tuple[str, ...] = get_args(Kind)
_SCHEDULERS = RELEASED_VALUES["scheduler"]

#: Fields of an offer in the first release, which refuses all others. Never add to them.
RELEASED_OFFER: dict[str, Collection[str]] = {
    "": ("name", "family", "defaults", "limits", "schedulers", "kinds", "description", "license", "prompt_tokens"),
    "defaults": ("width", "height", "num_inference_steps", "guidance_scale", "scheduler", "strength"),
    "limits": ("grid", "min_side", "max_side", "max_pixels", "max_steps", "max_images", "max_prompt_chars"),
}


def released(offer: ModelOffer) -> str:
    """The offer as JSON, with what the first release knows; all of it where that would leave nothing to ask for.

    A producer of the first release leaves out what it cannot read.
    """
    found = _narrowed(offer.model_dump(mode="json"), RELEASED_OFFER, RELEASED_VALUES["kind"], _SCHEDULERS)
    return json.dumps(found) if found["kinds"] and found["schedulers"] else offer.model_dump_json()


def read(text: str | bytes) -> ModelOffer:
    """An offer that some release published, without what this one does not know. Raises ValueError."""
    ours = {"": ModelOffer.model_fields, **{name: _part(name).model_fields for name in ("defaults", "limits")}}
    try:
        return ModelOffer.model_validate(_narrowed(json.loads(text), ours, _KINDS, SCHEDULERS))
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no offer: {error!r}") from None


def joint(offers: Sequence[ModelOffer]) -> ModelOffer:
    """What may be asked of a model that unlike workers serve.

    A job without needs may be given to any of them. So limits, schedulers and kinds of the first release are those that
    all have; what came later is what any has, since it is a need, and sends the job to one that has it. Where they have
    nothing in common, it is the first one's offer: some can do it.
    """
    first = offers[0]
    shared = {
        "limits": _tightest([offer.limits for offer in offers]),
        "schedulers": agreed("scheduler", [offer.schedulers for offer in offers]),
        "kinds": agreed("kind", [offer.kinds for offer in offers]),
        "prompt_tokens": min(offer.prompt_tokens for offer in offers),
    }
    for offer in offers:  # the first defaults that are within
        try:
            return ModelOffer.model_validate({**first.model_dump(), **shared, "defaults": offer.defaults.model_dump()})
        except ValueError:
            continue
    return first


def agreed_loras(offers: Sequence[ModelOffer]) -> list[LoraOffer]:
    """Those that all of these workers have under one name, and as one file: a job may be given to any of them."""
    held = [{lora.name: lora.sha256 for lora in offer.loras} for offer in offers]
    first = offers[0].loras if offers else []
    return [lora for lora in first if all(one.get(lora.name) == lora.sha256 for one in held)]


def _part(name: str) -> Any:
    return ModelOffer.model_fields[name].annotation


def _narrowed(
    data: dict[str, Any], fields: Mapping[str, Collection[str]], kinds: Collection[str], schedulers: Collection[str]
) -> dict[str, Any]:
    """The offer with these fields, kinds and schedulers alone; its default scheduler is among them."""
    found = {name: value for name, value in data.items() if name in fields[""]}
    for part in ("defaults", "limits"):
        found[part] = {name: value for name, value in found.get(part, {}).items() if name in fields[part]}
    for lora_field, known in (("loras", LoraOffer), ("own_loras", LoraUse)):
        if lora_field in found:
            found[lora_field] = [{n: v for n, v in one.items() if n in known.model_fields} for one in found[lora_field]]
    found["schedulers"] = [name for name in found["schedulers"] if name in schedulers]
    found["kinds"] = [name for name in found.get("kinds", RELEASED_VALUES["kind"]) if name in kinds]
    if found["schedulers"] and found["defaults"].get("scheduler") not in found["schedulers"]:
        found["defaults"]["scheduler"] = found["schedulers"][0]
    return found


def _tightest(limits: Sequence[Limits]) -> dict[str, int]:
    def tightest(name: str) -> int:
        values: list[int] = [getattr(one, name) for one in limits]
        return math.lcm(*values) if name == "grid" else max(values) if name.startswith("min_") else min(values)

    return {name: tightest(name) for name in Limits.model_fields}


def agreed(field: str, lists: Sequence[Iterable[str]]) -> list[str]:
    """Of the first release's values those that are in all lists; of what came later all."""
    sets = [set(one) for one in lists]
    every = dict.fromkeys(value for one in lists for value in one)
    return [value for value in every if value_need(field, value) or all(value in one for one in sets)]
