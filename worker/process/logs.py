"""Logs are events: one line each, a fixed `action` and the job's fields. Never secrets, prompts only at debug."""

import logging
import sys
from typing import Literal, TextIO

import structlog

LogFormat = Literal["auto", "json", "text"]


def configure_logs(form: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Sends our lines and the libraries' (warnings and worse) to `stream`, as text for a terminal, else as JSON.

    Without a stream: to standard error.
    """
    stream = stream or sys.stderr
    text = form == "text" or (form == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = (
        structlog.dev.ConsoleRenderer(event_key="action", colors=stream.isatty())
        if text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.processors.EventRenamer("action"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = _ForeignLines()
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _ForeignLines(logging.Handler):
    """Lines of the libraries, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line of another library."""
        log = structlog.get_logger()
        log.log(record.levelno, "library.log", logger=record.name, message=record.getMessage()[:500])
