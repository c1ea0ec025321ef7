"""Keeps diffusers and transformers from printing; imported before them where pipelines are.

Darkroom says itself what they would: truncated prompts are warnings of the job, faults are errors with a code.
"""

import diffusers
import transformers

# Importing the pipelines already logs (about torchvision), hence at import and not in a function that is called later.
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
