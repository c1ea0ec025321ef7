"""The message that wakes a worker: Celery's, protocol 2. It says that one more job waits in the lane, and no more.

Which job that is the claim decides (`scripts/shared/turns.lua`). One that comes with a submit names its job, for
workers of before, which take that one.

It is written by the submit script together with the record, so there is no moment with one and without the other;
kombu's client would send it on its own. The form: docs.celeryq.dev, "Message Protocol", and kombu's virtual transport
(`kombu/transport/virtual/base.py`, `Channel.prepare_message`). A test compares it with what Celery itself sends.
"""

import base64
import json
import uuid

TASK_NAME = "darkroom.run"
NO_JOB = str(uuid.UUID(int=0))
TRAINING = "training"
LANES = ("interactive", "bulk", TRAINING)  # in the order in which workers read them


def queue_name(model: str, lane: str) -> str:
    """The Celery queue of a model's lane; its list is this name behind the key prefix."""
    return f"queue:{model}:{lane}"


def bare_knock() -> str:
    """A message that names no job, for a script to put `<lane>` and `<tag>` in; the same in every process."""
    return knock(NO_JOB, "queue:<lane>", "<tag>")


def knock(job_id: str, queue: str, tag: str = "") -> str:
    """One message, as the list of the queue holds it. `tag`: what the worker knows it by, of no other message."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[job_id], {}, embed]).encode()
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": TASK_NAME,
                "id": job_id,
                "root_id": job_id,
                "parent_id": None,
                "group": None,
                "eta": None,
                "expires": None,
                "retries": 0,
                "timelimit": [None, None],
                "ignore_result": True,
                "argsrepr": f"({job_id!r},)",
                "kwargsrepr": "{}",
            },
            "properties": {
                "correlation_id": job_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": tag or str(uuid.uuid4()),
            },
        }
    )
