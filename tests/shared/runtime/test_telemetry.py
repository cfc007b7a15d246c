"""A trace goes through headers, and its spans go where the operator said; without that nothing is made."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.runtime import telemetry

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


class Collector:
    """An OTLP endpoint on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str]] = []
        self.heard = threading.Event()
        collector = self

        class Intake(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += [(span.name, span.trace_id.hex()) for span in scope.spans]
                self.send_response(200)
                self.end_headers()
                collector.heard.set()

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Intake)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setattr(telemetry, "_tracer", None)
    collector = Collector()
    yield collector
    collector.close()


def test_without_an_endpoint_nothing_is_traced_and_nothing_is_said() -> None:
    with telemetry.span("send", incoming=CALLER):
        assert {} == telemetry.outgoing()


def test_a_callers_trace_goes_on_from_message_to_message_and_is_exported(collector: Collector) -> None:
    telemetry.start_tracing("gateway", "one", collector.endpoint)

    with telemetry.span("http", incoming=CALLER), telemetry.span("send"):
        headers = telemetry.outgoing()
    with telemetry.span("decide", incoming=headers, command="SubmitTask"):
        pass

    assert headers["traceparent"].split("-")[1] == TRACE
    assert collector.heard.wait(20)
    assert {("hive.http", TRACE), ("hive.send", TRACE), ("hive.decide", TRACE)} == set(collector.spans)
