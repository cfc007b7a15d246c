"""Runs the gateway: `python -m services.gateway`."""

from typing import Final

from services.gateway import api, dlq
from services.gateway.access import Access
from services.gateway.backpressure import PressedSend, Pressure
from services.gateway.decider import KEY
from services.gateway.facts import KEY_CODEC
from services.gateway.limits import Limits
from services.gateway.login import login_routes
from services.gateway.pages import open_pages
from services.gateway.projection import Keys
from services.gateway.readiness import Ready
from services.gateway.service import GATEWAY, Denials, Gateway, Uses, keep_first_key
from services.gateway.status import status_route
from services.messenger.api import ROUTES as MESSENGER_ROUTES
from services.messenger.api import SOCKETS as MESSENGER_SOCKETS
from services.orchestrator.api import ROUTES as ORCHESTRATOR_ROUTES
from services.orchestrator.api import SOCKETS as ORCHESTRATOR_SOCKETS
from services.scheduler.api import ROUTES as SCHEDULER_ROUTES
from shared.contracts.gateway import GetKey, KeyRequest, ListKeys
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.doors import Doors
from shared.runtime.http import Front, application
from shared.runtime.intake import Route
from shared.runtime.live import BrokerLive
from shared.runtime.process import hive_version, run
from shared.runtime.sockets import Sockets
from shared.runtime.webserver import WebServer
from shared.runtime.whereabouts import BrokerWhereabouts

SERVICES: Final = ("orchestrator", "messenger", "scheduler", GATEWAY)


def assemble(runtime: Runtime) -> Assembly:
    """The gateway's parts: keys and their decider, the doors to the services, the web server before them."""
    keys = Keys()
    gateway = Gateway(keys, now=runtime.now, seen=runtime.seen)
    uses = Uses(runtime.send)
    denials = Denials(runtime.store, runtime.now)
    access = Access(keys, Limits(runtime.monotonic), now=runtime.now, used=uses.note, denied=denials.note)
    pressure = Pressure(runtime.connection, SERVICES)
    live = BrokerLive(runtime.connection)
    doors = Doors(
        send=PressedSend(runtime.send, pressure.loads),
        ask=runtime.ask,
        whereabouts=BrokerWhereabouts(runtime.connection, runtime.ask),
        live=live,
        config=runtime.config,
        services=SERVICES,
        now=runtime.now,
    )
    ready = Ready(
        runtime.ask,
        SERVICES,
        connected=lambda: runtime.connection.connected,
        monotonic=runtime.monotonic,
    )
    app = application(
        [
            *api.ROUTES,
            *dlq.ROUTES,
            status_route(pressure.loads, hive_version),
            *ORCHESTRATOR_ROUTES,
            *MESSENGER_ROUTES,
            *SCHEDULER_ROUTES,
        ],
        doors=doors,
        guard=access.guard,
        open_routes=[
            *open_pages(ready, hive_version()),
            *login_routes(keys, runtime.send, now=runtime.now, seen=runtime.seen),
        ],
    )
    sockets = Sockets([*ORCHESTRATOR_SOCKETS, *MESSENGER_SOCKETS], doors=doors, knock=access.knock)
    server = WebServer(Front(app, sockets), runtime.settings, doors.patience)
    background = [server.run, pressure.watch, uses.run, denials.run, live.run, sockets.watch]
    if (file := runtime.settings.admin_key_file) is not None:
        background.append(lambda: keep_first_key(file, runtime.send))
    return Assembly(
        commands=[
            Route(KeyRequest, runtime.handler(KEY, "key", KEY_CODEC, on_commit=keys.apply)),
        ],
        queries=[runtime.answer(ListKeys, gateway.list_keys), runtime.answer(GetKey, gateway.get_key)],
        views=[runtime.follow("keys", {"key": KEY_CODEC}, keys.apply)],
        background=background,
        closing=[server.drain, denials.record],
    )


def main() -> None:
    """Run until a signal."""
    run(GATEWAY, assemble)


if __name__ == "__main__":
    main()
