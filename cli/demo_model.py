"""Makes the demo's model: run as a process of its own, so that the demo itself loads no torch and can end at once."""

import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from darkroom.cli.demo_folder import CATALOGUE, LOCAL_NAME, WEIGHTS
from darkroom.tasks.catalogue import FolderSource


def make_model(folder: Path) -> None:
    """Writes weights and a catalogue; the folder appears whole or not at all.

    Whoever was faster has made the same: the weights follow from a fixed seed.
    """
    from darkroom.worker.tiny import make_tiny

    making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        tiny = make_tiny("sdxl", making / WEIGHTS, size=256)
        entry = tiny.model_copy(update={"name": LOCAL_NAME, "source": FolderSource(path=Path(WEIGHTS))})
        models = {"models": [entry.model_dump(mode="json")]}
        (making / CATALOGUE).write_text(json.dumps(models, indent=2) + "\n")
        making.chmod(0o755)  # mkdtemp makes it private
        making.rename(folder)
    except OSError:
        if not (folder / CATALOGUE).is_file():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)  # so that the unfinished folder goes


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    make_model(Path(sys.argv[1]))
