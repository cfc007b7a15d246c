"""`hive messaging`: how messages between bots and people are doing."""

import click

from cli import screen
from cli.client import decode
from cli.session import Session, talking
from shared.contracts.messenger.queries import MessagingStatus


@click.command()
@talking
def messaging(session: Session) -> None:
    """Say how messaging is doing: messages by state, what waits and for how long, full inboxes."""
    with session.client() as client:
        answer = client.get("/v1/messaging/status")
    if session.as_json:
        screen.document(answer.content)
        return
    told = decode(answer, MessagingStatus)
    waiting = [f"{count:,} {priority}" for priority, count in sorted(told.waiting.items()) if count]
    states = [f"{count:,} {state}" for state, count in sorted(told.states.items()) if count]
    screen.fields(
        [
            ("messages", states or "none"),
            ("waiting", waiting or "none"),
            ("oldest", screen.duration(told.oldest_waiting_s) if waiting else None),
            ("bots with a mailbox open", told.sessions),
            ("full inboxes", told.full_inboxes),
        ]
    )
