"""Every metric of the services by name, unit and label."""

from prometheus_client import Counter, Gauge, Histogram

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

DECISIONS = Counter("hive_decisions_total", "Commands answered.", ["service", "command", "answer"])
DECISION_SECONDS = Histogram(
    "hive_decision_seconds", "From taking a command to its outcome.", ["service"], buckets=_FAST
)
CONFLICTS = Counter("hive_conflicts_total", "Appends that lost to another writer.", ["service"])
DEAD_LETTERS = Counter("hive_dead_letters_total", "Commands given up.", ["service", "reason"])
REFUSED_SENDERS = Counter("hive_refused_senders_total", "Commands from who may not send them.", ["service"])
LAG = Gauge("hive_view_lag_facts", "Commits that a view has yet to see.", ["service", "view"])
SEAT = Gauge("hive_seat_held", "1 while this process is the active one of its colour.", ["service", "colour"])
PARTITIONS_OWNED = Gauge("hive_partitions_owned", "Partitions decided here.", ["service", "colour"])
QUERIES = Histogram("hive_query_seconds", "Time to answer a query.", ["service", "query"], buckets=_FAST)
RECONNECTS = Counter("hive_broker_reconnects_total", "Times the broker came back.", ["service"])
HTTP_SECONDS = Histogram(
    "hive_http_request_seconds",
    "Time to answer an HTTP request.",
    ["method", "route", "status"],
    buckets=_FAST,
)
MAILS = Counter("hive_mails_total", "Messages pushed to bots, repeats included.", ["priority"])
MAIL_WAITING = Gauge("hive_mail_waiting", "Messages that wait to be pushed to bots of ours.", ["priority"])
MAIL_SESSIONS = Gauge("hive_mail_sessions", "Bots that get their mail from this process.")
GREETINGS = Counter("hive_mail_greetings_total", "Times a bot was asked to say Hello.")
TICKS = Counter("hive_schedule_ticks_total", "Due times of schedules that were decided here.", ["outcome"])
TICK_LATE = Histogram(
    "hive_schedule_late_seconds", "From when a tick should fire to its decision.", buckets=_FAST
)
WEBSOCKETS = Gauge("hive_websockets", "WebSockets that are open.", ["route"])
BUILD = Gauge("hive_build_info", "1, with the version as its label.", ["version"])
