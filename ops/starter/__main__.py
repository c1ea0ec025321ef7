"""`python -m ops.starter train`, then `export` and `evaluate`: the starter model, from nothing."""

import argparse
from pathlib import Path

import torch

from ops.starter.publish import evaluate_model, export_model
from ops.starter.recipe import make_autoencoder, make_painter

FOLDER = Path.home() / ".cache/darkroom-starter"
MODEL = Path(__file__).parents[2] / "worker/starter"


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m ops.starter", description=__doc__)
    parser.add_argument("what", choices=["autoencoder", "denoiser", "train", "export", "evaluate"])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="checkpoints and curves (%(default)s)")
    parser.add_argument("--model", type=Path, default=MODEL, help="the exported model (%(default)s)")
    parser.add_argument("--prompts", type=int, default=300, help="how many prompts to evaluate (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.what == "export":
        export_model(arguments.folder, arguments.model)
    elif arguments.what == "evaluate":
        evaluate_model(arguments.folder, arguments.model, arguments.prompts)
    else:
        _train(arguments.what, arguments.folder)


def _train(what: str, folder: Path) -> None:
    """Everything, or up to the autoencoder or the denoiser's first part."""
    if what == "autoencoder":
        make_autoencoder(folder)
        return
    make_painter(folder, 0)
    if what == "train":
        make_painter(folder, 1)


main()
