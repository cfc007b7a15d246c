"""What every user of the broker may publish and subscribe to; everything else is denied.

The lists stand in the accounts' JWTs, a scoped signing key for each role; a user's own JWT says its name
only.

Bots live in an account of their own. A list of subjects alone would not hold them: the broker answers a
pull or a publish on whatever reply subject it names, with the broker's own rights, be it `evt.task.1` or
`$JS.API.STREAM.DELETE.EVENTS`. Between accounts an answer finds only the one who asked.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.contracts import naming
from shared.contracts.words import BROKER_PAYLOAD_BYTES_MAX, INPUT_BYTES_MAX

OPS: Final = "ops"
ORCHESTRATOR: Final = "orchestrator"
MESSENGER: Final = "messenger"
SCHEDULER: Final = "scheduler"
GATEWAY_SENDER: Final = naming.service_sender(naming.GATEWAY)
ORCHESTRATOR_SENDER: Final = naming.service_sender(ORCHESTRATOR)
MESSENGER_SENDER: Final = naming.service_sender(MESSENGER)
SCHEDULER_SENDER: Final = naming.service_sender(SCHEDULER)
BOT_HOST_SENDER: Final = naming.service_sender("bots")
SYSTEM_SENDER: Final = "sys"
"""The one user of the system account: it pushes revocations."""
BOT: Final = "bot"
"""The role that every bot's user has; the senders above are the roles of one user each."""

SERVICES: Final = (naming.GATEWAY, ORCHESTRATOR, MESSENGER, SCHEDULER)
"""The services with a work queue, a seat and consumers of their own."""

CLAIMS_UPDATE_SUBJECT: Final = "$SYS.REQ.CLAIMS.UPDATE"
SERVERS_SUBJECT: Final = "$SYS.REQ.SERVER.PING.VARZ"
"""Where every server of a cluster says how it is configured."""

REVOKE_SUBJECT: Final = "ops.revoke"
"""Where a bot host asks that a user be revoked; see revocation.py."""

ANSWERED_WITHIN: Final = timedelta(seconds=60)
"""After this an answer no longer finds its way back into the bots' account."""
BOT_SUBSCRIPTIONS_MAX: Final = 32
BOT_PAYLOAD_BYTES_MAX: Final = INPUT_BYTES_MAX + 100_000  # a whole file and its headers

Subjects = tuple[str, ...]


@dataclass(frozen=True)
class Crossing:
    """Subjects that reach from one account into the other. `answers` to a request: `one` or `many`.

    A `service` goes from the bots to the services, and its answers back; a `stream` goes to the bots only.
    """

    subject: str
    kind: str = "service"
    answers: str = "one"


@dataclass(frozen=True)
class Role:
    """The subjects one kind of user may publish and subscribe to, and how much."""

    publish: Subjects
    subscribe: Subjects
    subscriptions_max: int = -1
    payload_bytes_max: int = BROKER_PAYLOAD_BYTES_MAX


def _messages_of(stream: str) -> Subjects:
    """Single messages of a stream."""
    return (
        f"$JS.API.STREAM.MSG.GET.{stream}",  # the leader's word, where a replica's may be old
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.>",
    )


def _look_at(stream: str) -> Subjects:
    """State of a stream, and single messages of it."""
    return (f"$JS.API.STREAM.INFO.{stream}", *_messages_of(stream))


def _consume(stream: str) -> Subjects:
    """Consumers of one's own, which the server forgets when they are idle."""
    return (f"$JS.API.CONSUMER.CREATE.{stream}.>", f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*")


def _follow(stream: str) -> Subjects:
    """Read a stream in order."""
    return (*_look_at(stream), *_consume(stream))


def _work_on(stream: str, consumer: str) -> Subjects:
    """Pull from a durable consumer that is there already, and ack."""
    return (
        f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
    )


_WATCHED: Final = (
    naming.CONFIG_BUCKET,
    naming.ROUTING_BUCKET,
    naming.HEALTH_BUCKET,
    naming.MODE_BUCKET,
    naming.TRAFFIC_BUCKET,
)


def _service(service: str, aggregates: Subjects) -> Subjects:
    """What every service with a queue may publish, in its own name only."""
    queue = naming.command_stream(service)
    buckets = (*_WATCHED, naming.SEATS_BUCKET, naming.SUSPECTS_BUCKET)
    return (
        *(naming.event_subject(aggregate, "*") for aggregate in aggregates),
        naming.audit_subject(service),
        naming.command_subject("*", naming.service_sender(service), "*"),
        naming.dead_subject(service, "*", "*"),
        "_INBOX.>",  # outcomes and answers, to whoever asked
        "_R_.>",  # answers into the bots' account
        *_follow(naming.EVENTS),
        *_look_at(naming.DEAD),
        *_look_at(queue),
        *(subject for colour in naming.COLOURS for subject in _work_on(queue, f"{service}-{colour}")),
        *(subject for bucket in buckets for subject in _look_at(naming.bucket_stream(bucket))),
        f"$KV.{naming.SEATS_BUCKET}.{service}.*",
        f"$KV.{naming.SUSPECTS_BUCKET}.{service}.>",
        # These vanish with the broker's process, so whoever misses them makes them again.
        f"$JS.API.STREAM.CREATE.{naming.LIVE}",
        f"$JS.API.STREAM.CREATE.{naming.DISPATCH}",
        f"$JS.API.STREAM.INFO.{naming.DISPATCH}",
        f"$JS.API.STREAM.INFO.{naming.LIVE}",
        f"$JS.API.STREAM.CREATE.{naming.bucket_stream(naming.SEATS_BUCKET)}",
    )


def _doors(service: str) -> Subjects:
    """What every service may subscribe to."""
    return (
        f"{naming.inbox_prefix(naming.service_sender(service))}.>",
        naming.query_subject(service, ">"),
        "$SRV.>",
        *(f"$KV.{bucket}.>" for bucket in _WATCHED),
    )


_FILES: Final = naming.object_stream(naming.FILES)

ROLES: Final[dict[str, Role]] = {
    # Makes the topology, and answers for it; no service can change a stream.
    OPS: Role(
        publish=(
            "$JS.API.>",
            "$KV.config.>",
            "$KV.mode.>",
            "$KV.traffic.>",
            "$SRV.>",
            "ask.>",
            "_INBOX.>",
        ),
        subscribe=(f"{naming.inbox_prefix(OPS)}.>", REVOKE_SUBJECT, "$JS.EVENT.ADVISORY.>"),
    ),
    GATEWAY_SENDER: Role(
        publish=(
            *_service(naming.GATEWAY, ("key",)),
            "ask.>",
            *_look_at(naming.command_stream(ORCHESTRATOR)),
            *_look_at(naming.command_stream(MESSENGER)),
            *_look_at(naming.command_stream(SCHEDULER)),
            *_messages_of(naming.LIVE),  # its state, every service may ask for
            *_consume(naming.LIVE),
        ),
        subscribe=_doors(naming.GATEWAY),
    ),
    ORCHESTRATOR_SENDER: Role(
        publish=(
            *_service(ORCHESTRATOR, ("task", "bot", "pool")),
            naming.run_subject("*"),
            naming.control_subject("*"),
            naming.host_subject("*"),
            f"$JS.API.CONSUMER.CREATE.{naming.DISPATCH}.>",
            f"$JS.API.CONSUMER.DELETE.{naming.DISPATCH}.*",
            f"$JS.API.STREAM.PURGE.{naming.DISPATCH}",
            f"$O.{naming.FILES}.>",
            *_look_at(_FILES),
        ),
        subscribe=(
            *_doors(ORCHESTRATOR),
            naming.heartbeat_subject("*"),
            naming.file_subject("*", "*"),
            naming.children_subject("*"),
            naming.host_report_subject("*"),
        ),
    ),
    MESSENGER_SENDER: Role(
        publish=(*_service(MESSENGER, ("message", "broadcast")), naming.inbox_subject("*", "*")),
        subscribe=(*_doors(MESSENGER), naming.mail_subject("*")),
    ),
    SCHEDULER_SENDER: Role(
        publish=(*_service(SCHEDULER, ("performance", "schedule")), naming.routing_subject("*")),
        subscribe=_doors(SCHEDULER),
    ),
    BOT_HOST_SENDER: Role(
        publish=(
            naming.host_report_subject("*"),
            naming.command_subject("*", BOT_HOST_SENDER, "*"),
            f"{naming.inbox_prefix(ORCHESTRATOR_SENDER)}.>",  # answers to its orders
            REVOKE_SUBJECT,
        ),
        subscribe=(f"{naming.inbox_prefix(BOT_HOST_SENDER)}.>", naming.host_subject("*")),
    ),
    # The server puts the bot's name, which its JWT states, into each subject.
    BOT: Role(
        publish=(
            naming.command_subject("*", naming.bot_sender("{{name()}}"), "*"),
            naming.heartbeat_subject("{{name()}}"),
            naming.live_subject("{{name()}}", "*"),
            naming.file_subject("{{name()}}", "get"),
            naming.file_subject("{{name()}}", "put"),
            naming.children_subject("{{name()}}"),
            naming.mail_subject("{{name()}}"),
            f"$JS.API.CONSUMER.MSG.NEXT.{naming.DISPATCH}.{naming.bot_consumer('{{name()}}')}",
            f"$JS.ACK.{naming.DISPATCH}.{naming.bot_consumer('{{name()}}')}.>",
        ),
        subscribe=(
            f"{naming.inbox_prefix(naming.bot_sender('{{name()}}'))}.>",
            naming.control_subject("{{name()}}"),
            naming.inbox_subject("{{name()}}", "*"),
        ),
        subscriptions_max=BOT_SUBSCRIPTIONS_MAX,
        payload_bytes_max=BOT_PAYLOAD_BYTES_MAX,
    ),
}

SYSTEM_ROLE: Final = Role(
    publish=(CLAIMS_UPDATE_SUBJECT, SERVERS_SUBJECT),
    subscribe=(f"{naming.inbox_prefix(SYSTEM_SENDER)}.>",),
)
"""Of the system account, which shares no subject with the hive's."""

CROSSINGS: Final = (
    Crossing(naming.command_subject("*", "*", "*")),
    Crossing(naming.heartbeat_subject("*")),
    Crossing(naming.live_subject("*", "*")),
    Crossing(naming.file_subject("*", "*")),
    Crossing(naming.children_subject("*")),
    Crossing(f"$JS.API.CONSUMER.MSG.NEXT.{naming.DISPATCH}.*", answers="many"),
    Crossing(f"$JS.ACK.{naming.DISPATCH}.>"),
    Crossing(naming.mail_subject("*")),
    Crossing(naming.control_subject("*"), kind="stream"),
    Crossing(naming.inbox_subject("*", "*"), kind="stream"),
    Crossing(f"{naming.inbox_prefix('*')}.>", kind="stream"),  # outcomes; a bot may hear its own inbox only
)
"""All that passes between the bots' account and the services'; a bot's role bounds it to its own name."""
