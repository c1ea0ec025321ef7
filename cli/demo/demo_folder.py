"""What the demo keeps, and where it works: pictures survive it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The folder `--output` names."""

    root: Path

    @property
    def objects(self) -> Path:
        """Pictures and manifests, unless a store is configured."""
        return self.root / "objects"

    @property
    def sheet(self) -> Path:
        """All pictures of the demo on one."""
        return self.root / "contact-sheet.png"

    def environment(self, redis_url: str, *, shared: bool) -> dict[str, str]:
        """The variables of the worker, and of whoever follows the demo from another terminal.

        On a server that others use it works under keys of its own: no other worker takes its jobs, it takes no other's.
        """
        found = {
            "DARKROOM_REDIS_URL": redis_url,
            "DARKROOM_STORAGE_URL": os.environ.get("DARKROOM_STORAGE_URL") or self.objects.as_uri(),
        }
        if shared:
            mark = hashlib.sha256(str(self.root).encode()).hexdigest()[:8]
            found["DARKROOM_REDIS_PREFIX"] = f"{os.environ.get('DARKROOM_REDIS_PREFIX', 'darkroom:')}demo-{mark}:"
        return found
