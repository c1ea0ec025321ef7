"""The second pass: a finished image, scaled up and denoised again at its new size."""

import torch
from PIL import Image

from darkroom.tasks.sizes import enlarged
from darkroom.worker.kinds.base import PreparedJob, Run
from darkroom.worker.kinds.latents import FACTOR


def with_second_pass(prepared: PreparedJob, run: Run, first: torch.Tensor) -> torch.Tensor:
    """The latents (1, 4, h/8, w/8) as they are, or what a second pass at its own size makes of them.

    As img2img has it: where no step is left it only scales, and at full strength it begins with noise alone.
    """
    hires, second = prepared.asked.hires, prepared.asked.second
    if hires is None or second is None:
        return first
    height, width = (FACTOR * side for side in first.shape[2:])
    size = enlarged(width, height, hires.scale, second.limits)
    other = prepared.further[hires.model] if hires.model else None
    by, words = (run.by(other.tools), other.conditioning) if other else (run, prepared.conditioning)
    if second.from_noise:
        return by.latents("txt2img", second, words, width=size[0], height=size[1])
    larger = (
        scaled(first, size) if hires.upscale == "latent" else run.decode(first).resize(size, Image.Resampling.LANCZOS)
    )
    if second.steps < 1:
        return run.encode(larger) if isinstance(larger, Image.Image) else larger
    return by.latents("img2img", second, words, image=larger, strength=second.strength)


def scaled(latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Latents of a picture of this width and height (pixels), by bilinear interpolation, as the web UI's "Latent" is.

    Computed in float32, whatever the model's dtype.
    """
    sides = [side // FACTOR for side in reversed(size)]
    return torch.nn.functional.interpolate(latents.float(), sides, mode="bilinear").to(latents.dtype)


def hires_facts(prepared: PreparedJob) -> dict[str, object]:
    """What a picture's file says of its second pass, as AUTOMATIC1111's web UI does: the size is the first one's.

    Nothing is said of steps, of their model or of a scaling where there are none.
    """
    asked, hires, second = prepared.asked, prepared.asked.hires, prepared.asked.second
    if hires is None or second is None:
        return {}
    if asked.width and asked.height:
        scaled = {"Size": f"{asked.width}x{asked.height}", "Hires upscale": f"{hires.scale:g}"}
    else:  # of a source's own size: the text has the result's, which a reader of "Hires upscale" would scale again
        scaled = {"Hires scale": f"{hires.scale:g}"}
    return {
        **scaled,
        **({"Hires steps": second.num_inference_steps} if second.steps else {}),
        **({} if second.from_noise else {"Hires upscaler": hires.upscale.capitalize()}),
        **({"Hires checkpoint": hires.model} if hires.model and second.steps else {}),
    }
