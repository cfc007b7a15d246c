"""Subjects, streams, buckets, senders: the one place that builds or splits them."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from shared.contracts.words import PARTITIONS

EVENTS: Final = "EVENTS"
DISPATCH: Final = "DISPATCH"
LIVE: Final = "LIVE"
DEAD: Final = "DEAD"
FILES: Final = "FILES"

CONFIG_BUCKET: Final = "config"
ROUTING_BUCKET: Final = "routing"
HEALTH_BUCKET: Final = "health"
MODE_BUCKET: Final = "mode"
TRAFFIC_BUCKET: Final = "traffic"
SEATS_BUCKET: Final = "seats"
SUSPECTS_BUCKET: Final = "suspects"

GATEWAY: Final = "gateway"
BLUE: Final = "blue"
GREEN: Final = "green"
COLOURS: Final = (BLUE, GREEN)

REPLY_HEADER: Final = "Hive-Reply"
"""Where the outcome of a command is to go; obeyed only under `_INBOX.<sender>.>`."""

PARCEL_HEADER: Final = "Hive-Parcel"
"""On a command that came in a bot's parcel: its address may be that of the parcel."""


STRAY: Final = -1


class CommandAddress(NamedTuple):
    """A stored command's subject, split; of a stray one the partition is STRAY."""

    service: str
    partition: int
    sender: str
    aggregate_id: str


def service_sender(service: str) -> str:
    """The broker user of a service: `gateway` is its own, the others are `svc-<service>`."""
    return GATEWAY if service == GATEWAY else f"svc-{service}"


def bot_sender(bot_id: str) -> str:
    """The broker user of a bot."""
    return f"bot-{bot_id}"


def sender_kind(sender: str) -> str:
    """`gateway`, `service` or `bot`."""
    if sender == GATEWAY:
        return "gateway"
    return "service" if sender.startswith("svc-") else "bot"


def inbox_prefix(sender: str) -> str:
    """Under which a sender may be answered."""
    return f"_INBOX.{sender}"


def command_stream(service: str) -> str:
    """The work queue of a service."""
    return f"CMD_{service.upper()}"


def command_subject(service: str, sender: str, aggregate_id: str) -> str:
    """Where a sender publishes a command."""
    return f"cmd.{service}.{sender}.{aggregate_id}"


def stored_command_filter(service: str, partition: int) -> str:
    """The stored commands of one partition: what a consumer's filter names."""
    return f"cmd.{service}.{partition}.*.*"


def stored_command_filters(service: str, partitions: Iterable[int]) -> tuple[str, ...]:
    """What the consumer that owns these partitions filters for.

    Whoever ends a subject in `*` or `>`, which the broker lets pass, finds no transform: such a command is
    stored as it came, in no partition. It goes with partition 0, so that it is refused, and does not stay.
    """
    owned = sorted(partitions)
    strays = (f"cmd.{service}.*.*",) if 0 in owned else ()
    return (*strays, *(stored_command_filter(service, partition) for partition in owned))


def stored_command_transform() -> str:
    """How the server stores `cmd.*.*.*`: with the partition of the last token as the second."""
    return (
        f"cmd.{{{{wildcard(1)}}}}.{{{{partition({PARTITIONS},3)}}}}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}"
    )


def waiting_command_filter(service: str, aggregate_id: str) -> str:
    """The stored commands that wait for one aggregate."""
    return f"cmd.{service}.*.*.{aggregate_id}"


_TOKEN: Final = re.compile(r"[!-)+\-/-=?-~]{1,200}")  # printable ASCII but . * > and the space


def is_token(aggregate_id: str) -> bool:
    """Whether an id can stand in a subject, in the place of one token."""
    return _TOKEN.fullmatch(aggregate_id) is not None


def stored_command(service: str, sender: str, aggregate_id: str) -> str:
    """The subject under which a sender's command is stored."""
    return f"cmd.{service}.{partition_of(aggregate_id)}.{sender}.{aggregate_id}"


def parse_stored_command(subject: str) -> CommandAddress:
    """Split `cmd.<service>.<partition>.<sender>.<aggregate_id>`, or a stray one, without a partition."""
    _, service, *partition, sender, aggregate_id = subject.split(".")
    return CommandAddress(service, int(partition[0]) if partition else STRAY, sender, aggregate_id)


def command_consumer(service: str, colour: str) -> str:
    """The durable consumer of one service and colour; its filters are the partitions it owns."""
    return f"{service}-{colour}"


def partition_of(aggregate_id: str) -> int:
    """FNV-1a 32 of the id, mod PARTITIONS: what the server's `partition(128,3)` computes."""
    digest = 0x811C9DC5
    for byte in aggregate_id.encode():
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest % PARTITIONS


def event_subject(aggregate: str, aggregate_id: str) -> str:
    """The literal subject of one aggregate's commits."""
    return f"evt.{aggregate}.{aggregate_id}"


def parse_event(subject: str) -> tuple[str, str]:
    """(aggregate, aggregate id) of a commit's subject."""
    _, aggregate, aggregate_id = subject.split(".")
    return aggregate, aggregate_id


def audit_subject(service: str) -> str:
    """Where a service records what is no fact of an aggregate: refusals, denied access."""
    return event_subject("audit", service)


def run_subject(bot_id: str) -> str:
    """Assignments on their way to a bot."""
    return f"run.{bot_id}"


LANES: Final = ("p0", "p1", "p2", "p3")
GREETING: Final = "hello"
"""In the place of a lane: the messenger asks a bot to say Hello."""


def inbox_subject(bot_id: str, lane: str) -> str:
    """Messages on their way to a bot; a lane for each priority, `p0` to `p3`, and `hello`."""
    return f"inbox.{bot_id}.{lane}"


def mail_subject(bot_id: str) -> str:
    """Where a bot says Hello to the messenger, as a request."""
    return f"mail.{bot_id}"


def bot_consumer(bot_id: str) -> str:
    """A bot's durable consumer on DISPATCH."""
    return f"bot-{bot_id}"


def heartbeat_subject(bot_id: str) -> str:
    """Where a bot's heartbeats, requests, go."""
    return f"hb.{bot_id}"


def control_subject(bot_id: str) -> str:
    """One-way word from the orchestrator to a bot: cancel, stop."""
    return f"ctl.{bot_id}"


def live_subject(bot_id: str, task_id: str) -> str:
    """Output chunks of a running task."""
    return f"live.{bot_id}.{task_id}"


def file_subject(bot_id: str, verb: str) -> str:
    """A bot's requests for files: `get` or `put`."""
    return f"file.{bot_id}.{verb}"


def children_subject(bot_id: str) -> str:
    """Where a bot asks about the tasks that it has spawned."""
    return f"children.{bot_id}"


def dead_subject(service: str, aggregate_id: str, letter_id: str) -> str:
    """One dead letter about an aggregate; the newest message on the subject is its state."""
    return f"dead.{service}.{aggregate_id}.{letter_id}"


def aggregate_id_of(command_subject: str) -> str:
    """What a command is about, wherever it is sent or stored: the last token of its subject."""
    return command_subject.rpartition(".")[2]


def query_subject(service: str, query: str) -> str:
    """Where a service answers a query."""
    return f"ask.{service}.{query}"


def host_subject(host_id: str) -> str:
    """Where a bot host takes its orders: a request the orchestrator repeats until it is so."""
    return f"host.{host_id}.order"


def host_report_subject(host_id: str) -> str:
    """Where a bot host says, each second, what runs on it."""
    return f"host.{host_id}.report"


def seat_key(service: str, colour: str) -> str:
    """The seat of a service and colour in the `seats` bucket."""
    return f"{service}.{colour}"


def routing_subject(task_type: str) -> str:
    """Where the opinions about bots at one type of task lie, in the bucket `routing`."""
    return f"$KV.{ROUTING_BUCKET}.{task_type}"


def bucket_subject(bucket: str, key: str) -> str:
    """Where a key of a bucket is put and watched."""
    return f"$KV.{bucket}.{key}"


def bot_health_key(bot_id: str) -> str:
    """Of a bot in the bucket `health`."""
    return f"bot.{bot_id}"


def bucket_stream(bucket: str) -> str:
    """The stream that holds a key-value bucket."""
    return f"KV_{bucket}"


def object_stream(store: str) -> str:
    """The stream that holds an object store."""
    return f"OBJ_{store}"
