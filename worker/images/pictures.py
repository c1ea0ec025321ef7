"""Pictures as files, with what they were made of inside."""

import io
import json
import struct
from collections.abc import Iterable, Mapping
from importlib.metadata import version

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.tasks.catalogue import SCHEDULERS
from darkroom.tasks.requests.parts import OutputFormat
from darkroom.worker.kinds.asked import Asked

QUALITY = 95  # of JPEG and WebP
_PNG_LEVEL = 1
_CONTENT_TYPES: dict[OutputFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286  # CIPA DC-008, 4.6.3 and 4.6.5
_LONG, _UNDEFINED = 4, 7  # types of TIFF 6.0
_UNICODE = b"UNICODE\x00"
_HASH = 12  # characters of a LoRA's digest
_MAX_COMMENT = 60_000  # bytes; a JPEG's EXIF segment ends at 65,533


def encode(image: Image.Image, form: OutputFormat, parameters: str) -> tuple[bytes, str]:
    """The file's bytes and content type, with the `parameters` text inside; the same bytes for the same input.

    PNG carries the text in a chunk of that name, JPEG and WebP in EXIF's UserComment (cut where it has no room).
    """
    text = parameters.encode("utf-8", "replace").decode()  # a lone surrogate would break every one of them
    out = io.BytesIO()
    if form == "png":
        image.save(out, "PNG", compress_level=_PNG_LEVEL, pnginfo=_chunk(text))
    else:
        image.save(out, form.upper(), quality=QUALITY, exif=_exif(text))
    return out.getvalue(), _CONTENT_TYPES[form]


def parameters_text(
    asked: Asked, seed: int, size: tuple[int, int], model: str, more: Mapping[str, object] | None = None
) -> str:
    """What made the picture, in the form that AUTOMATIC1111's web UI began and other tools read; `more`: the kind's.

    Of a picture that was not denoised, what is known of one.
    """
    negative = [f"Negative prompt: {asked.negative_prompt}"] if asked.negative_prompt else []
    denoised = {
        "Steps": asked.num_inference_steps,
        "Sampler": SCHEDULERS[asked.scheduler][0] if asked.scheduler else "",
        "CFG scale": f"{asked.guidance_scale:g}",
        "Seed": seed,
    }
    facts = {
        **(denoised if asked.scheduler else {}),
        "Size": f"{size[0]}x{size[1]}",
        "Model": model,
        **_of_words(asked),
        **(more or {}),
        "Version": f"Darkroom {version('darkroom')}",
    }
    prompt = [asked.prompt] if asked.prompt else []
    return "\n".join([*prompt, *negative, ", ".join(f"{name}: {value}" for name, value in facts.items())])


def _of_words(asked: Asked) -> dict[str, object]:
    """What was asked for beside the two texts, under the names that readers know; web UIs count clip skip from 1."""
    skip, rescale = asked.clip_skip, asked.guidance_rescale
    found = {
        "Clip skip": skip + 1 if skip else None,
        "Parser": asked.prompt_syntax if asked.prompt_syntax not in (None, "plain") else None,
        "CFG rescale": f"{rescale:g}" if rescale else None,
        "Prompt2": _quoted(asked.prompt_2),
        "Negative2": _quoted(asked.negative_prompt_2),
        "Embeddings": asked.prompt_embeds,
        "Loras": _listed((one.name, f"{one.scale:g}") for one in asked.loras),
        "Lora hashes": _listed((one.name, (one.sha256 or "")[:_HASH]) for one in asked.loras),
    }
    return {name: value for name, value in found.items() if value is not None}


def _listed(pairs: Iterable[tuple[str, str]]) -> str | None:
    """As the web UI writes the hashes of LoRAs: in quotation marks, since there are commas within."""
    listed = ", ".join(f"{name}: {value}" for name, value in pairs)
    return f'"{listed}"' if listed else None


def _quoted(text: str | None) -> str | None:
    """As the web UI writes what would break its line of facts: as JSON."""
    return json.dumps(text, ensure_ascii=False) if text and any(mark in text for mark in ',:"\n') else text


def read_parameters(data: bytes) -> str:
    """The `parameters` text of a file that `encode` made; empty where there is none, or it cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            if image.format == "PNG":
                return str(image.info.get("parameters", ""))
            comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    except Exception:  # noqa: BLE001 - others may have changed the file, and Pillow then raises nearly anything
        return ""
    if not isinstance(comment, bytes):  # a number, as another program may write it
        return ""
    return comment.removeprefix(_UNICODE).decode("utf-16-be", "replace")


def _chunk(text: str) -> PngInfo:
    info = PngInfo()
    info.add_text("parameters", text)  # tEXt where Latin-1 holds it, else iTXt in UTF-8
    return info


def _exif(text: str) -> bytes:
    """An EXIF block of the tag UserComment, of type UNDEFINED: others do not read the BYTE that Pillow writes."""
    # Big endian, block and text alike, as AUTOMATIC1111's web UI writes them.
    cut = text.encode("utf-16-be")[:_MAX_COMMENT].decode("utf-16-be", "ignore")
    comment = _UNICODE + cut.encode("utf-16-be")
    tiff = b"MM\0*" + struct.pack(">L", 8)
    directory = struct.pack(">HHHLLL", 1, _EXIF_IFD, _LONG, 1, 26, 0)
    inner = struct.pack(">HHHLLL", 1, _USER_COMMENT, _UNDEFINED, len(comment), 44, 0)
    return b"Exif\0\0" + tiff + directory + inner + comment
