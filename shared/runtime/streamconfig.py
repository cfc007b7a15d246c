"""Streams and consumers as JetStream's API writes them; a field left alone has the server's own default."""

from datetime import timedelta

import msgspec

DEFAULT_WINDOW = timedelta(minutes=2)


def ns(duration: timedelta) -> int:
    """A duration in JetStream's unit."""
    return duration // timedelta(microseconds=1) * 1_000


class SubjectTransform(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream renames what it stores."""

    src: str
    dest: str


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A stream. Times in ns; -1 is no limit.

    What the server answers is read into the same class, so that a comparison sees every field that we state
    or leave to its default, and nothing that the server adds.
    """

    name: str
    subjects: tuple[str, ...]
    retention: str = "limits"
    storage: str = "file"
    discard: str = "old"
    num_replicas: int = 1
    max_age: int = 0
    max_bytes: int = -1
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    duplicate_window: int = ns(DEFAULT_WINDOW)
    subject_transform: SubjectTransform | None = None
    allow_direct: bool = False
    allow_atomic: bool = False
    allow_msg_ttl: bool = False
    allow_rollup_hdrs: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    persist_mode: str = ""  # `async` would undo what durability promises


class ConsumerConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A durable pull consumer. Times in ns."""

    durable_name: str
    ack_policy: str = ""
    deliver_policy: str = ""
    replay_policy: str = ""
    ack_wait: int = 0
    max_deliver: int = 0
    max_ack_pending: int = 0
    max_expires: int = 0
    filter_subject: str = ""
    filter_subjects: tuple[str, ...] = ()


class ConsumerRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `CONSUMER.CREATE`; `action` `create` refuses one that is there with another form."""

    stream_name: str
    config: ConsumerConfig
    action: str = ""

    @property
    def subject(self) -> str:
        """Where it is sent, under `$JS.API.`."""
        return f"CONSUMER.CREATE.{self.stream_name}.{self.config.durable_name}"
