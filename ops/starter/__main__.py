"""`python -m ops.starter train`, then `export`, `evaluate` and `gallery`: the starter model, from nothing."""

import argparse
from pathlib import Path

import torch

from ops.starter.gallery import write_gallery
from ops.starter.publish import evaluate_model, export_model
from ops.starter.recipe import make_autoencoder, make_painter

FOLDER = Path.home() / ".cache/darkroom-starter"
ROOT = Path(__file__).parents[2]
MODEL, DOCS = ROOT / "worker/starter", ROOT / "docs"


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m ops.starter", description=__doc__)
    parser.add_argument("what", choices=["autoencoder", "train", "export", "evaluate", "gallery"])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="checkpoints and curves (%(default)s)")
    parser.add_argument("--model", type=Path, default=MODEL, help="the exported model (%(default)s)")
    parser.add_argument("--prompts", type=int, default=300, help="how many prompts to evaluate (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.what == "export":
        export_model(arguments.folder, arguments.model)
    elif arguments.what == "evaluate":
        evaluate_model(arguments.model, arguments.prompts)
    elif arguments.what == "gallery":
        write_gallery(DOCS)
    elif arguments.what == "autoencoder":
        make_autoencoder(arguments.folder)
    else:
        make_painter(arguments.folder)


main()
