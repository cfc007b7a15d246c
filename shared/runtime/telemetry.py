"""Spans and JSON logs. Spans are made only when an OTLP endpoint is set; their context travels in headers."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from shared.kernel.codec import encode
from shared.runtime.clock import now

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_tracer: "Tracer | None" = None


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, message, and what was given as `extra={"data": …}`."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._base = {"service": service, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, Any] = {
            "at": now(),
            "level": record.levelname.lower(),
            **self._base,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if isinstance(data := getattr(record, "data", None), dict):
            line.update(data)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return encode(line).decode()
        except (TypeError, msgspec.EncodeError):
            return encode({**self._base, "message": record.getMessage()}).decode()


def start_logging(service: str, instance: str, level: str) -> None:
    """Write JSON lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service, instance))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def start_tracing(service: str, instance: str, endpoint: str | None) -> None:
    """Export spans to an OTLP endpoint, if there is one. Imports OpenTelemetry only then."""
    global _tracer  # noqa: PLW0603 - one tracer for a process, set once before its loop starts
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"hive-{service}", "service.instance.id": instance})
    )
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))
    )
    _tracer = provider.get_tracer("hive")


def span(
    name: str, *, incoming: Mapping[str, str] | None = None, **attributes: str | int
) -> AbstractContextManager[None]:
    """A span round a block; `incoming` are the headers of the message that caused it."""
    return nullcontext() if _tracer is None else _span(_tracer, name, incoming, attributes)


@contextmanager
def _span(
    tracer: "Tracer", name: str, incoming: Mapping[str, str] | None, attributes: dict[str, str | int]
) -> Iterator[None]:
    from opentelemetry.propagate import extract  # noqa: PLC0415

    context = extract(dict(incoming)) if incoming else None
    with tracer.start_as_current_span(f"hive.{name}", context=context, attributes=dict(attributes)):
        yield


def outgoing() -> dict[str, str]:
    """The headers that carry the current span to who hears the message."""
    if _tracer is None:
        return {}
    from opentelemetry.propagate import inject  # noqa: PLC0415

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier
