"""What a job can be asked for, and what of it does not go together: the table that every pair is tested by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from darkroom.tasks.catalogue import SCHEDULERS, Family
from darkroom.tasks.requests import KINDS


@dataclass(frozen=True)
class Ability:
    """One thing to ask for. `sort`: of one sort a job has one at a time. `shows`: whether results differ by it.

    `made`: ends the name of a model that is made of the family's.
    """

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    sort: str = ""
    family: Family | None = None
    shows: bool = True
    made: str = ""

    @property
    def kind(self) -> str | None:
        """The kind of job, where it is one."""
        return self.fields.get("kind")


#: Stand for inputs that the test has made: a picture, a mask, latents and embeddings of the model.
PICTURE, MASK, LATENTS, EMBEDS = "<picture>", "<mask>", "<latents>", "<embeds>"

#: The end of the name of a model with a LoRA of its own, which is on in every picture.
FEW_STEPS = "-few"

#: One of each sort: of the second order, with noise in each step, by two calls a step, of another sort of model.
SAMPLERS = ("dpmpp_2m_karras", "euler_a", "dpmpp_sde", "unipc", "lcm", "edm_euler")

KIND_ABILITIES = (
    Ability("txt2img", {"kind": "txt2img"}, "kind", shows=False),
    Ability("img2img", {"kind": "img2img", "image": PICTURE, "strength": 0.8}, "kind"),
    Ability("inpaint", {"kind": "inpaint", "image": PICTURE, "mask": MASK, "strength": 0.8}, "kind"),
    Ability("outpaint", {"kind": "inpaint", "image": PICTURE, "extend": {"left": 16}}, "kind"),
    Ability("interpolate", {"kind": "interpolate", "frames": 3, "prompt_to": "the sea", "seed_to": 5}, "kind"),
    Ability("embed", {"kind": "embed"}, "kind"),
    Ability("encode", {"kind": "encode", "image": PICTURE}, "kind"),
    Ability("decode", {"kind": "decode", "image": LATENTS}, "kind", shows=False),  # it is the picture that they had
    Ability("img2img of latents", {"kind": "img2img", "image": LATENTS, "strength": 0.8}, "kind"),
)

ABILITIES = (
    *KIND_ABILITIES,
    Ability("stylize", {"kind": "stylize", "styles": [PICTURE]}, "kind"),
    Ability("stylize a picture", {"kind": "stylize", "styles": [PICTURE], "image": PICTURE, "strength": 0.8}, "kind"),
    *(Ability(f"family {name}", sort="family", family=name, shows=False) for name in ("sd", "playground")),
    Ability("few steps", sort="family", made=FEW_STEPS),
    Ability("LoRA", {"loras": ["told:0.7"]}, "loras"),
    Ability("two LoRAs", {"loras": ["wide:0.5", "told:0.5"]}, "loras"),
    Ability("negative prompt", {"negative_prompt": "a cat"}),
    Ability("long prompt", {"prompt": "a very red fox in deep snow, " * 20}),
    Ability("weights", {"prompt": "a (red)1.5 fox in (deep)0.5 snow", "prompt_syntax": "compel"}),
    Ability("embeddings", {"prompt_embeds": EMBEDS}),
    Ability("second prompt", {"prompt_2": "the sea"}),
    Ability("clip skip", {"clip_skip": 1}),
    Ability("size conditioning", {"original_size": [64, 32], "crop": [8, 0]}),
    Ability("guidance rescale", {"guidance_rescale": 0.7}),
    Ability("no guidance", {"guidance_scale": 1.0}),
    Ability("latents out", {"output": ["image", "latents"]}, "output"),
    Ability("latents alone", {"output": ["latents"]}, "output"),
    Ability("hires", {"hires": {"scale": 1.5, "strength": 0.6}}, "hires"),
    Ability("hires of latents", {"hires": {"scale": 1.5, "strength": 0.6, "upscale": "latent"}}, "hires"),
    Ability("denoising end", {"denoising_end": 0.5, "output": ["latents"]}, "output"),
    Ability("several images", {"num_images": 2}),
    Ability("jpeg", {"output_format": "jpeg"}, "format"),
    Ability("webp", {"output_format": "webp"}, "format"),
    Ability("solo", {"batching": "solo"}, shows=False),
    Ability("bulk lane", {"lane": "bulk"}, shows=False),
    *(Ability(SCHEDULERS[name][0], {"scheduler": name}, "scheduler") for name in SAMPLERS),
)

#: Pairs that do nothing together, each with its reason: the one says that the other has no say.
IDLE = {
    ("guidance rescale", "no guidance"): "the warning guidance_rescale_ignored says so",
    ("negative prompt", "no guidance"): "the warning negative_prompt_ignored says so",
    ("decode", "few steps"): "nothing is denoised",
    ("embeddings", "long prompt"): "a prompt beside embeddings is for people",
}

#: Pairs that are refused: the field at fault, and the technical reason, which docs/11-kinds.md tells.
REFUSED = {
    ("embed", "two LoRAs"): ("loras.0.name", "text encoder"),
    ("embeddings", "negative prompt"): ("negative_prompt", "have been encoded"),
    ("embeddings", "weights"): ("prompt_syntax", "have been encoded"),
    ("embeddings", "second prompt"): ("prompt_2", "have been encoded"),
    ("embeddings", "clip skip"): ("clip_skip", "have been encoded"),
    ("family sd", "second prompt"): ("prompt_2", "one text encoder"),
    ("family sd", "size conditioning"): ("original_size", "told of no sizes"),
    ("family sd", "denoising end"): ("denoising_end", "no part of a schedule"),
    ("family playground", "denoising end"): ("denoising_end", "noise levels"),
    ("hires", "denoising end"): ("denoising_end", "unfinished image"),
    ("hires of latents", "denoising end"): ("denoising_end", "unfinished image"),
    ("DPM++ SDE", "denoising end"): ("denoising_end", "two stages"),
    **{
        (form, without): ("output_format", "none are kept")
        for form in ("jpeg", "webp")
        for without in ("latents alone", "denoising end")
    },
}


def pairs() -> Iterator[tuple[Ability, Ability]]:
    """Every two that are not of one sort."""
    for one, other in combinations(ABILITIES, 2):
        if not one.sort or one.sort != other.sort:
            yield one, other


def asked(*abilities: Ability) -> dict[str, Any]:
    """The fields of a request for all of these; prompts of several are said one after the other."""
    found: dict[str, Any] = {"kind": "txt2img"}
    for ability in abilities:
        text = [found["prompt"]] if "prompt" in found and "prompt" in ability.fields else []
        found |= ability.fields
        if text:
            found["prompt"] = ", ".join([*text, ability.fields["prompt"]])
    return found


def foreign(fields: Mapping[str, Any]) -> set[str]:
    """The fields that the kind does not have."""
    return fields.keys() - KINDS[fields["kind"]].model_fields.keys()
