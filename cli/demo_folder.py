"""What the demo keeps, and where: pictures survive it, and the model they can be made again with."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = "weights"
CATALOGUE = "catalogue.json"
LOCAL_NAME = "demo"


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The folder `--output` names."""

    root: Path

    @property
    def objects(self) -> Path:
        """Pictures and manifests, unless a store is configured."""
        return self.root / "objects"

    @property
    def model(self) -> Path:
        """Weights, catalogue, and the lock file that pins them."""
        return self.root / "demo-model"

    @property
    def catalogue(self) -> Path:
        """Names the model for the worker and for `darkroom replay`."""
        return self.model / CATALOGUE

    @property
    def shared_name(self) -> str:
        """The model's name on a server that others use: a worker of another demo must not take this one's jobs."""
        return f"{LOCAL_NAME}-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"

    @contextmanager
    def new_model(self) -> Iterator[Path]:
        """A folder to make the model in, which then appears whole or, where the making raises, not at all."""
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=self.root))
        try:
            yield making
            making.chmod(0o755)  # mkdtemp makes it private
            making.rename(self.model)
        except OSError:
            if not self.catalogue.is_file():  # another demo was faster, with the same
                raise
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def name_model(self, name: str) -> None:
        """Enters the model in its catalogue under one more name."""
        models = json.loads(self.catalogue.read_text())["models"]
        if name not in [model["name"] for model in models]:
            written = self.catalogue.with_suffix(f".{os.getpid()}")
            written.write_text(json.dumps({"models": [*models, {**models[0], "name": name}]}, indent=2) + "\n")
            written.replace(self.catalogue)

    def environment(self, redis_url: str) -> dict[str, str]:
        """The variables of the worker, and of whoever follows the demo from another terminal."""
        return {
            "DARKROOM_REDIS_URL": redis_url,
            "DARKROOM_STORAGE_URL": os.environ.get("DARKROOM_STORAGE_URL") or self.objects.as_uri(),
            "DARKROOM_CATALOGUE": str(self.catalogue),
            "DARKROOM_MODELS_DIR": str(self.model),
        }
