"""What the worker does for each kind of job: a file a kind, as its request has one in `darkroom.tasks.requests`."""

from darkroom.tasks.requests import JobRequest
from darkroom.worker.kinds.base import Kind
from darkroom.worker.kinds.decode import DecodeKind
from darkroom.worker.kinds.embed import EmbedKind
from darkroom.worker.kinds.encode import EncodeKind
from darkroom.worker.kinds.finetune import FinetuneKind
from darkroom.worker.kinds.img2img import Img2ImgKind
from darkroom.worker.kinds.inpaint import InpaintKind
from darkroom.worker.kinds.interpolate import InterpolateKind
from darkroom.worker.kinds.stylize import StylizeKind
from darkroom.worker.kinds.txt2img import Txt2ImgKind

_ALL = (
    Txt2ImgKind(),
    Img2ImgKind(),
    InpaintKind(),
    EncodeKind(),
    DecodeKind(),
    InterpolateKind(),
    EmbedKind(),
    StylizeKind(),
    FinetuneKind(),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}


def kind_of(request: JobRequest) -> Kind:
    """What is done for a request."""
    return KINDS[request.kind]
