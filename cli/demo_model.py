"""Makes the demo's model: run as a process of its own, so that the demo itself loads no torch and can end at once."""

import json
import sys
from pathlib import Path

from darkroom.cli.demo_folder import CATALOGUE, LOCAL_NAME, WEIGHTS
from darkroom.tasks.catalogue import FolderSource
from darkroom.worker.tiny import make_tiny


def make_model(folder: Path) -> None:
    """Writes weights and a catalogue; the same each time, since the weights follow from a fixed seed."""
    tiny = make_tiny("sdxl", folder / WEIGHTS, size=256)
    entry = tiny.model_copy(update={"name": LOCAL_NAME, "source": FolderSource(path=Path(WEIGHTS))})
    models = {"models": [entry.model_dump(mode="json")]}
    (folder / CATALOGUE).write_text(json.dumps(models, indent=2) + "\n")


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))
