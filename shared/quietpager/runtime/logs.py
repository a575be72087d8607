"""Structured logs, one JSON object a line on standard error, with function and incident id."""

import logging
import os

import structlog
from structlog.typing import EventDict, WrappedLogger

from quietpager.masking.told import masked


def mask_entry(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Mask every text of an entry, tracebacks included; the last processor before it is written."""
    kept: EventDict = masked(entry)
    return kept


def configure_logs() -> None:
    """Set structlog up; called once by whatever starts a process. `QUIETPAGER_LOG` sets the level."""
    level = logging.getLevelNamesMapping().get(os.environ.get("QUIETPAGER_LOG", "INFO").upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            mask_entry,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(open(2, "w", closefd=False, buffering=1)),  # noqa: SIM115 (standard error itself)
    )
