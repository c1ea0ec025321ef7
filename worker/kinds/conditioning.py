"""What a prompt becomes."""

import torch

#: The pipelines' keyword arguments; nothing writes to them.
Conditioning = dict[str, torch.Tensor]
