"""The worker's part of the error tree; the root is `darkroom.tasks.errors.DarkroomError`.

WorkerError
├── ModelError                                         the process cannot serve the model: it ends, with exit code 4
│   ├── ModelUnknown          model_unknown            not in the catalogue
│   ├── ModelMissing          model_missing            weights or configs are not on this machine
│   ├── ModelCorrupt          model_corrupt            truncated, or not what its header says
│   ├── ModelDigestMismatch   model_digest_mismatch    a file is not the one that was pinned
│   ├── ModelUnsafe           model_unsafe             pickle formats, or code in the repository
│   ├── LockInvalid           model_lock_invalid       the lock file cannot be read or written
│   └── ModelIncompatible     model_incompatible       not of the entry's family, or its files make no picture
├── AdapterError                                       a LoRA or another adapter cannot be used
│   ├── AdapterMissing        adapter_missing          its file is not on this machine, or cannot be read
│   ├── AdapterCorrupt        adapter_corrupt          truncated, not what its header says, or numbers that are none
│   ├── AdapterDigestMismatch adapter_digest_mismatch  its file is not the one that was asked for
│   ├── AdapterUnsafe         adapter_unsafe           a pickle
│   └── AdapterIncompatible   adapter_incompatible     not made for this model, or of a kind that is not run
├── TrainingError                                      no LoRA is made
│   ├── TrainingDiverged      training_diverged        the loss is no number any more
│   ├── TrainingUnavailable   training_unavailable     what the training needs is not to be had on this worker
│   └── CheckpointInvalid     checkpoint_invalid       a training's state that is broken, or that of another training
├── AdapterNotKept            adapter_not_kept   (r)   a tenant's LoRA was fetched, and the disk here does not take it
├── DeviceUnavailable         device_unavailable       no such device, or it cannot do what was asked of it
├── MetricsUnavailable        metrics_unavailable      metrics cannot be served at the host and port of the settings
├── ConsumerFailed            consumer_failed    (r)   Celery stopped taking messages by itself
├── GenerationFailed          generation_failed        the pipeline raised
├── OutOfMemory               out_of_memory      (r)   the device's memory did not suffice
├── DeviceBroken              device_broken      (r)   the device gives nothing but errors to this process: it ends
└── ManifestInvalid           manifest_invalid         a manifest that cannot be replayed
InvalidRequest
├── PromptSyntax              prompt_syntax            a prompt cannot be read in the syntax that it is said to have
└── DatasetInvalid            dataset_invalid          pictures or captions that cannot be trained on

(r): worth trying again as it is.
"""

from darkroom.tasks.errors import DarkroomError, Fault, InvalidRequest


class WorkerError(DarkroomError):
    """Root of the worker's errors."""

    code = "worker_error"


class ModelError(WorkerError):
    """This process cannot serve the model."""

    code = "model_error"
    exit_code = 4


class ModelUnknown(ModelError):
    """The name is not in the catalogue."""

    code = "model_unknown"
    hint = "`darkroom models list` shows the names; own models go into the file that DARKROOM_CATALOGUE names"


class ModelMissing(ModelError):
    """Weights or configs are not on this machine."""

    code = "model_missing"
    hint = "run `darkroom models pull NAME`, or correct the path in your catalogue file"


class ModelCorrupt(ModelError):
    """A file is truncated, or not what its header says."""

    code = "model_corrupt"
    hint = "delete the file and pull the model again"


class ModelDigestMismatch(ModelError):
    """A file is not the one that was pinned."""

    code = "model_digest_mismatch"
    hint = "pull the model again; if the change is wanted, delete its entry in the lock file first"


class ModelUnsafe(ModelError):
    """Pickle formats can run code when loaded, and so can code in a repository."""

    code = "model_unsafe"
    hint = "convert the weights to .safetensors"


class LockInvalid(ModelError):
    """The lock file cannot be read or written."""

    code = "model_lock_invalid"


class ModelIncompatible(ModelError):
    """The files are not of the family that the entry says, or do not fit one another: they make no picture."""

    code = "model_incompatible"
    hint = "check `family` in the catalogue entry"


class AdapterError(WorkerError):
    """A LoRA or another adapter cannot be used. `callers_fault`: it is the tenant's own, who alone can mend it."""

    code = "adapter_error"
    exit_code = 4
    callers_fault = False


class AdapterMissing(AdapterError):
    """Its file is not on this machine, or cannot be read."""

    code = "adapter_missing"
    hint = "check its path in your catalogue file"


class AdapterCorrupt(AdapterError):
    """A file is truncated, not what its header says, or holds numbers that are none."""

    code = "adapter_corrupt"
    hint = "fetch the file again; if it is your own, save it again"


class AdapterDigestMismatch(AdapterError):
    """A file is not the one that was asked for."""

    code = "adapter_digest_mismatch"
    hint = "restore the file; if the change is wanted, start the worker again and submit a new job"


class AdapterUnsafe(AdapterError):
    """Pickle formats can run code when loaded."""

    code = "adapter_unsafe"
    hint = "convert it to .safetensors"


class AdapterIncompatible(AdapterError):
    """Not made for this model, or of a kind that is not run."""

    code = "adapter_incompatible"
    hint = "use a plain LoRA that was trained for this model's family"


class TrainingError(WorkerError):
    """No LoRA is made."""

    code = "training_error"


class TrainingDiverged(TrainingError):
    """The loss, or the norm of its gradient, is no number any more."""

    code = "training_diverged"
    hint = "try a lower learning_rate, more warmup_steps, or precision float32"


class TrainingUnavailable(TrainingError):
    """What the training needs is not to be had on this worker."""

    code = "training_unavailable"


class CheckpointInvalid(TrainingError):
    """The state of a training that is broken, or that of another training."""

    code = "checkpoint_invalid"
    hint = "submit the training again, from its beginning"


class AdapterNotKept(WorkerError):
    """A tenant's LoRA was fetched, and this machine's disk does not take it."""

    code = "adapter_not_kept"
    retryable = True
    hint = "make room in the worker's DARKROOM_MODELS_DIR, and let it write there"


class DeviceUnavailable(WorkerError):
    """No such device, or it cannot do what was asked of it."""

    code = "device_unavailable"
    exit_code = 6
    hint = "`darkroom doctor` lists the devices"


class MetricsUnavailable(WorkerError):
    """Metrics cannot be served where the settings want them."""

    code = "metrics_unavailable"
    hint = "check DARKROOM_METRICS_HOST and DARKROOM_METRICS_PORT; without the port none are served"
    exit_code = 2


class ConsumerFailed(WorkerError):
    """Celery stopped taking messages by itself."""

    code = "consumer_failed"
    retryable = True
    hint = "the log has the reason; the process is started again"


class GenerationFailed(WorkerError):
    """The pipeline raised."""

    code = "generation_failed"


class OutOfMemory(WorkerError):
    """The device's memory did not suffice."""

    code = "out_of_memory"
    retryable = True
    hint = "ask for a smaller picture, or start the worker with a leaner --memory mode"


class DeviceBroken(WorkerError):
    """The device gives nothing but errors to this process, which has to end."""

    code = "device_broken"
    retryable = True
    hint = "the worker's process is started again; if it comes back, look at the GPU and its driver (nvidia-smi, dmesg)"


class ManifestInvalid(WorkerError):
    """A manifest that cannot be replayed."""

    code = "manifest_invalid"
    exit_code = 2


class PromptSyntax(InvalidRequest):
    """A prompt cannot be read in the syntax that it is said to have; the fault names the place."""

    code = "prompt_syntax"


class DatasetInvalid(InvalidRequest):
    """Pictures or captions that cannot be trained on.

    The first 20 faults are in `faults` and in the message, which says how many more there are; `field` is the name of
    a file, or `dataset`.
    """

    code = "dataset_invalid"
    hint = "correct all of this and upload the data set again"
    most_faults = 20

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults[: self.most_faults])
        self.more = len(faults) - len(self.faults)
        if self.more:
            self.args = (f"{self.args[0]}; and {self.more:,} more",)
