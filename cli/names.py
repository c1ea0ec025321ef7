"""What options are called: names shorter than the fields', the fields' own, and those that others have for them."""

from collections.abc import Collection

#: Options that people know by shorter names.
FLAGS = {
    "model": ("--model", "-m"),
    "negative_prompt": ("--negative",),
    "num_inference_steps": ("--steps",),
    "num_train_steps": ("--steps",),
    "guidance_scale": ("--guidance",),
    "num_images": ("--num-images", "-n"),
    "output_format": ("--format",),
    "seeds": ("--seed",),
    "loras": ("--lora",),
    "styles": ("--style",),
    "class_prompts": ("--class-prompt",),
    "sample_prompts": ("--sample-prompt",),
}

#: A field's own name, where its option has another one: it is taken, too.
ALIASES = {own: flags[0] for name, flags in FLAGS.items() if (own := f"--{name.replace('_', '-')}") != flags[0]}

#: What other programs call it, and what it is here.
_ELSEWHERE = {
    **dict.fromkeys(("--sampler", "--sampler-name", "--sampling-method"), "--scheduler"),
    **dict.fromkeys(("--cfg", "--cfg-scale"), "--guidance"),
    **dict.fromkeys(("--denoise", "--denoising-strength"), "--strength"),
    **dict.fromkeys(("--batch-count", "--batch-size", "--n-iter"), "--num-images"),
    **dict.fromkeys(("--init-image", "--input"), "--image"),
    **dict.fromkeys(("--hr-scale", "--enable-hr", "--upscale"), "--hires"),
    **dict.fromkeys(("--out", "--outdir"), "--save"),
    "--mask-image": "--mask",
    "--outpaint": "--extend",
    "--prompt": "prompt",
    "--sample-every-n-steps": "--sample-every",
    "--validation-prompt": "--sample-prompt",
    "--sampling-steps": "--steps",
}

#: What to say of a part of a field, where its name or value is one of another program's.
PARTS = {
    "hires.upscale": "by how much is scale=2",
    "hires.upscaler": "did you mean upscale?",
    "hires.denoising_strength": "did you mean strength?",
}


def normal(name: str) -> str:
    """The name of an option as the command has it; without its dashes, as click asks."""
    return ALIASES.get(f"--{name}", f"--{name}")[2:]


def meant(option: str, known: Collection[str]) -> str | None:
    """What to tell those who come from another program, where the command has what they mean."""
    near = _ELSEWHERE.get(option)
    if near is None or near not in known:
        return None
    return f"did you mean {near}?" if near.startswith("--") else f"the {near} goes without a name"
