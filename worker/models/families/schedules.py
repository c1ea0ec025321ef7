"""The scheduler classes that a model may bring, by the name in its `scheduler_config.json`.

The class is looked up here and nowhere else: a name in a model's files never reaches an import.
"""

from typing import Any

import diffusers

EDM_SCHEDULERS: dict[str, type[Any]] = {
    name: getattr(diffusers, name) for name in ("EDMDPMSolverMultistepScheduler", "EDMEulerScheduler")
}

DIFFUSION_SCHEDULERS: dict[str, type[Any]] = {
    name: getattr(diffusers, name)
    for name in (
        "DDIMScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSDEScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    )
}
