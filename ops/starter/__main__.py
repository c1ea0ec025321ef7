"""`python -m ops.starter train`, then `export`, `evaluate` and `gallery`: the starter model, from nothing.

`loras`, `few-steps` and `style` then train what comes with it; `evaluate-loras` and `evaluate-style` judge that, and
`evaluate-finetune` what jobs train.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

import torch

from ops.starter.extras import evaluate_loras, make_few_steps, make_loras
from ops.starter.finetuning import evaluate_finetuning
from ops.starter.gallery import write_gallery
from ops.starter.publish import evaluate_model, export_model
from ops.starter.recipe import make_autoencoder, make_painter
from ops.starter.style.evaluate import evaluate_style
from ops.starter.style.export import make_style

FOLDER = Path.home() / ".cache/darkroom-starter"
ROOT = Path(__file__).parents[2]
MODEL, DOCS = ROOT / "worker/starter", ROOT / "docs"


_COMMANDS: dict[str, Callable[[Namespace], object]] = {
    "autoencoder": lambda given: make_autoencoder(given.folder),
    "train": lambda given: make_painter(given.folder),
    "export": lambda given: export_model(given.folder, given.model),
    "evaluate": lambda given: evaluate_model(given.model, given.prompts),
    "gallery": lambda _: write_gallery(DOCS),
    "loras": lambda given: make_loras(given.model, given.folder),
    "few-steps": lambda given: make_few_steps(given.model, given.folder),
    "evaluate-loras": lambda given: evaluate_loras(given.model, given.prompts),
    "style": lambda given: make_style(given.model, given.folder),
    "evaluate-finetune": lambda given: evaluate_finetuning(given.model, given.prompts, given.folder, DOCS),
    "evaluate-style": lambda given: evaluate_style(given.model, given.prompts),
}


def main() -> None:
    """Reads the arguments and runs."""
    parser = ArgumentParser(prog="python -m ops.starter", description=__doc__)
    parser.add_argument("what", choices=list(_COMMANDS))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="checkpoints and curves (%(default)s)")
    parser.add_argument("--model", type=Path, default=MODEL, help="the exported model (%(default)s)")
    parser.add_argument("--prompts", type=int, default=300, help="how many prompts to evaluate (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    _COMMANDS[arguments.what](arguments)


main()
