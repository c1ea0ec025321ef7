"""`python -m ops.starter train`: the starter model, from nothing; the other words do one step of it."""

import argparse
from pathlib import Path

import torch

from ops.starter.recipe import make_autoencoder, make_painter

FOLDER = Path.home() / ".cache/darkroom-starter"


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m ops.starter", description=__doc__)
    parser.add_argument("what", choices=["autoencoder", "denoiser", "denoiser-more", "train"])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="checkpoints and curves (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.what == "autoencoder":
        make_autoencoder(arguments.folder)
    else:
        make_painter(arguments.folder, 0)
        if arguments.what != "denoiser":
            make_painter(arguments.folder, 1)


main()
