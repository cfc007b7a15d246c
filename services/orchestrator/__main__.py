"""Runs the orchestrator: `python -m services.orchestrator`."""

from typing import Any

from services.orchestrator.answers import Answers
from services.orchestrator.board import Board
from services.orchestrator.decider import BOT, TASK
from services.orchestrator.doors import Doors
from services.orchestrator.facts import BOT_CODEC, TASK_CODEC
from services.orchestrator.hosts import Hosts
from services.orchestrator.liveness import Liveness
from services.orchestrator.opinions import Opinions
from services.orchestrator.outside import OverNats
from services.orchestrator.performing import Performer
from services.orchestrator.placement import Placement
from services.orchestrator.pool_board import Pools
from services.orchestrator.pools import pools
from services.orchestrator.scene import Moment, Scene
from services.orchestrator.service import Orchestrator
from services.orchestrator.tables import ALIVE, SCHEMA, TOTALS, VERSION, Rows
from shared.contracts.health import Health
from shared.contracts.naming import (
    HEALTH_BUCKET,
    ROUTING_BUCKET,
    bot_health_key,
    children_subject,
    file_subject,
    heartbeat_subject,
    host_report_subject,
)
from shared.contracts.orchestrator.commands import BotRequest, TaskRequest
from shared.contracts.orchestrator.queries import (
    AwaitTask,
    GetBot,
    GetBotHistory,
    GetCounts,
    GetFile,
    GetTask,
    GetTimeline,
    GetTree,
    GetWhy,
    HostDoc,
    ListBots,
    ListHosts,
    ListTasks,
    PutFile,
)
from shared.contracts.scheduler.routing import RoutingTable
from shared.contracts.words import BotId, Page, TaskType
from shared.kernel.messages import Recorded
from shared.runtime.assembly import Assembly, Runtime
from shared.runtime.bucket_watch import BucketWatch
from shared.runtime.files import JetStreamFiles
from shared.runtime.intake import Route
from shared.runtime.living import Live
from shared.runtime.process import run
from shared.runtime.views import Statement


def assemble(runtime: Runtime) -> Assembly:
    """Where the parts meet."""

    def moment() -> Moment:
        return Moment(runtime.now(), runtime.monotonic(), runtime.config())

    async def hosts(_: ListHosts) -> Page[HostDoc]:
        return scene.hosts.told(runtime.monotonic())

    board, opinions = Board(), Opinions()
    placement = Placement(board, opinions, runtime.draw)
    scene = Scene(board, Liveness(runtime.monotonic()), Hosts(), placement)
    changes = Rows()
    files = JetStreamFiles(runtime.connection, runtime.publisher)
    table = runtime.table(
        "tasks",
        version=VERSION,
        schema=SCHEMA,
        codecs={"task": TASK_CODEC, "bot": BOT_CODEC},
        rows=lambda batch, read: [Statement(sql, values) for sql, values in changes(batch, read)],
        forget=changes.forget,
    )
    answers = Answers(scene, table, runtime.store, files, moment=moment, seen=runtime.seen)
    orchestrator = Orchestrator(
        scene,
        answers,
        moment=moment,
        monotonic=runtime.monotonic,
        owned=runtime.owned,
        connected=lambda: runtime.connection.connected,
    )
    tasks = runtime.handler(
        TASK,
        "task",
        TASK_CODEC,
        prepare=orchestrator.prepare,
        released=orchestrator.released,
        on_commit=orchestrator.committed_task,
    )
    bots = runtime.handler(BOT, "bot", BOT_CODEC, on_commit=orchestrator.committed_bot)
    outside = OverNats(runtime.service, runtime.connection, runtime.publisher)
    performer = Performer(tasks, bots, outside, scene, runtime.monotonic)
    doors = Doors(orchestrator, board, files, answers.joining, runtime.connection)
    kept = Pools(scene)
    pooled = pools(runtime, scene, kept, bots, moment)

    def followed(commit: Recorded[Any]) -> None:
        kept.heard(commit, runtime.monotonic())
        orchestrator.followed(commit)

    view = runtime.follow(
        "board",
        {"task": TASK_CODEC, "bot": BOT_CODEC},
        followed,
        live=Live(table, ALIVE, TOTALS, orchestrator.begun),
    )
    runtime.connection.on_reconnect(orchestrator.on_reconnect)
    routing = BucketWatch(
        runtime.connection,
        ROUTING_BUCKET,
        RoutingTable,
        lambda kind, table: opinions.take_table(TaskType(kind), table),
    )
    health = BucketWatch(
        runtime.connection,
        HEALTH_BUCKET,
        Health,
        lambda bot_id, level: opinions.take_health(BotId(bot_id), level),
        under=bot_health_key("*"),
    )
    return Assembly(
        commands=[Route(TaskRequest, tasks), Route(BotRequest, bots), *pooled.commands],
        queries=[
            runtime.answer(GetTask, answers.get_task),
            runtime.answer(AwaitTask, answers.await_task),
            runtime.answer(ListTasks, answers.list_tasks),
            runtime.answer(GetTimeline, answers.get_timeline),
            runtime.answer(GetTree, answers.get_tree),
            runtime.answer(GetWhy, answers.get_why),
            runtime.answer(GetBot, answers.get_bot),
            runtime.answer(ListBots, answers.list_bots),
            runtime.answer(GetBotHistory, answers.get_history),
            runtime.answer(GetCounts, answers.get_counts),
            runtime.answer(ListHosts, hosts),
            runtime.answer(GetFile, answers.get_file),
            runtime.answer(PutFile, answers.put_file),
            *pooled.queries,
        ],
        views=[view, *pooled.views],
        tables=[table, *pooled.tables],
        todo=orchestrator.todo,
        straight=[(heartbeat_subject("*"), doors.on_heartbeat)],
        subscriptions=[
            (host_report_subject("*"), doors.on_host_report),
            (file_subject("*", "*"), doors.on_file),
            (children_subject("*"), doors.on_children),
        ],
        background=[
            lambda: orchestrator.run(performer.perform),
            routing.run,
            health.run,
            *pooled.background,
        ],
    )


def main() -> None:
    """The process' entry."""
    run("orchestrator", assemble)


if __name__ == "__main__":
    main()
