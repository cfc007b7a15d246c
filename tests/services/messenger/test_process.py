"""The messenger as its own process, on a real broker, with bots in bare nats-py."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.messenger.service import SESSION_S
from shared.contracts import naming
from shared.contracts.dead import DropDead, GetDead, ListDead, ReplayDead
from shared.contracts.messenger.commands import ReplayMessage
from shared.contracts.messenger.queries import (
    AwaitConversation,
    GetBroadcast,
    GetConversation,
    GetInbox,
    GetMessagingStatus,
)
from shared.contracts.words import LANE_WINDOW, PARTITIONS, BotId, MessageKind, Party, Priority
from shared.kernel.messages import AlreadySo, Committed, Refused
from shared.runtime.clock import monotonic
from tests.services.messenger.builders import broadcast, send
from tests.services.messenger.builders import post as posted
from tests.services.messenger.post import Bot, Post, post

pytestmark = pytest.mark.nats
BETA = Party("beta")
BACKLOG = 10_000


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Post]:
    async with post(tmp_path) as one:
        await one.launched("alpha", "beta")
        await one.person("ann")
        one.start_messenger()
        await one.answers()
        yield one


async def test_a_message_goes_to_its_bot_and_is_read(office: Post) -> None:
    async with office.bot("beta") as beta:
        answer = await beta.hello()
        assert (answer.session, answer.lane_window) == (beta.session, LANE_WINDOW)
        await office.committed(send("m1"))
        (mail,) = await beta.got(1)
        assert (mail.content, mail.sender, mail.index, mail.delivery) == ("hello", "@ann", 0, 1)
        inbox = await office.ask(GetInbox(party=BETA))
        assert (inbox.unread, inbox.pending) == (1, 1)
        assert isinstance(await beta.read(mail), Committed)
        doc = await office.message("m1")
        assert (doc.state, doc.deliveries) == ("read", 1)
        assert (await office.ask(GetInbox(party=BETA, at_least=doc.version))).unread == 0


async def test_what_a_bot_posts_reaches_a_bot_and_a_person(office: Post) -> None:
    async with office.bot("alpha") as alpha, office.bot("beta") as beta:
        await beta.hello()
        assert isinstance(await alpha.say(posted("m1")), Committed)
        (mail,) = await beta.got(1)
        assert mail.sender == "alpha"
        assert isinstance(await beta.say(posted("m2", bot_id="beta", recipient="@ann")), Committed)
        assert (await office.message("m2")).state == "delivered"
        refused = await alpha.say(posted("m3", content="x" * 10_001))
        assert isinstance(refused, Refused)
        assert refused.code == "bad_content"


async def test_nobody_is_sent_to_whom_nobody_knows_unless_it_is_to_be_held(office: Post) -> None:
    refused = await office.send(send("m1", recipient="betta"), actor="key-1", wait_s=10)
    assert isinstance(refused, Refused)
    assert (refused.code, "beta" in refused.detail) == ("recipient_unknown", True)

    await office.committed(send("m2", recipient="gamma", hold=True))
    assert (await office.message("m2")).held
    await office.launched("gamma")
    async with office.bot("gamma") as gamma:
        await gamma.hello()
        (mail,) = await gamma.got(1)
        assert mail.message_id == "m2"


async def test_mail_that_was_lost_comes_again_after_a_hello(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        for number in range(5):
            await office.committed(send(f"m{number}"))
        first = await beta.got(5)
        assert [mail.index for mail in first] == [0, 1, 2, 3, 4]
        kept, read = first[0], first[1]
        await beta.take(kept, kept=True)
        await beta.read(read)

        await beta.hello(holding=[kept.message_id])  # as after a gap: all but what it holds was lost
        again = await beta.got(3)
        assert [(mail.message_id, mail.index, mail.delivery) for mail in again] == [
            ("m2", 0, 1),
            ("m3", 1, 1),
            ("m4", 2, 1),
        ]


async def test_a_session_has_a_name_and_not_a_book(office: Post) -> None:
    async with office.bot("beta") as beta:
        for session in ("", "a.b", "x" * 51, "x" * 900_000):
            assert await beta.is_met(session) is False, session[:60]
        assert await beta.is_met("x" * 50)


async def test_a_bot_that_says_hello_all_the_time_gets_its_mail_a_few_times_a_second(office: Post) -> None:
    async with office.bot("beta") as beta:
        await office.committed(send("m1"))
        await beta.hello()
        began, sessions = monotonic(), 0
        while monotonic() - began < 2.0:
            await beta.hello()
            sessions += 1
        assert sessions <= 2.0 / SESSION_S + 1
        assert [mail.message_id for mail in await beta.got(1)] == ["m1"]


async def test_what_a_dead_process_had_taken_comes_again_and_only_the_first_counts(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        for number in range(3):
            await office.committed(send(f"m{number}", kind=MessageKind.CHAT))
        for mail in list(await beta.got(3)):
            await beta.take(mail, kept=True)

        await beta.hello()
        again = await beta.got(3)
    assert [(mail.message_id, mail.delivery) for mail in again] == [("m0", 2), ("m1", 2), ("m2", 2)]
    docs = [await office.message(f"m{number}") for number in range(3)]
    assert [doc.deliveries for doc in docs] == [1, 0, 0]
    assert [doc.state for doc in docs] == ["pending"] * 3


async def test_at_most_a_window_of_each_priority_is_on_its_way(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        commands = [send(f"low{number}", priority=Priority.P3) for number in range(LANE_WINDOW + 10)]
        await asyncio.gather(*map(office.committed, commands))
        await office.committed(send("urgent", priority=Priority.P0))
        mails = await beta.until(lambda mails: any(mail.message_id == "urgent" for mail in mails))
        assert sum(mail.priority is Priority.P3 for mail in mails) == LANE_WINDOW
        await beta.read(mails[0])
        await beta.got(LANE_WINDOW + 2)
        sequences = [mail.sequence for mail in beta.mails if mail.priority is Priority.P3]
        assert sequences == sorted(sequences)


async def test_p0_overtakes_a_backlog_of_ten_thousand_p3(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        for start in range(0, BACKLOG, 1_000):
            commands = [send(f"low{start + number}", priority=Priority.P3) for number in range(1_000)]
            await asyncio.gather(*map(office.committed, commands))
        refused = await office.send(send("high", priority=Priority.P1), actor="key-1", wait_s=5)
        assert isinstance(refused, Refused)
        assert refused.code == "inbox_full"

        began = monotonic()
        await office.committed(send("urgent", priority=Priority.P0))
        mails = await beta.until(lambda mails: any(mail.message_id == "urgent" for mail in mails))
        assert monotonic() - began < 1.0
        assert len(mails) == LANE_WINDOW + 1

        await beta.hello()  # and in a session that has not begun yet
        mails = await beta.got(LANE_WINDOW + 1)
        assert mails[0].message_id == "urgent"
        sequences = [mail.sequence for mail in mails[1:]]
        assert sequences == sorted(sequences)
    inbox = await office.ask(GetInbox(party=BETA))
    assert inbox.unread == BACKLOG + 1


async def test_a_message_that_fails_lies_in_the_dead_letters_and_can_be_put_back(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1", deliveries_max=2, ttl_s=60.0))
        (mail,) = await beta.got(1)
        assert mail.again
        assert isinstance(await beta.give_back(mail), Committed)
        _, mail = await beta.got(2)
        assert (mail.delivery, mail.again) == (2, False)
        assert isinstance(await beta.give_back(mail), Committed)
        failed = await office.message("m1")
        assert (failed.state, failed.reason) == ("failed", "engine_failed: exit 1")

        (letter,) = (await office.ask(ListDead(), service="messenger")).items
        assert "hello" in letter.body
        assert letter.reason == "message_failed: engine_failed: exit 1"
        outcome = await office.ask(ReplayDead(id=letter.id, actor="key-1"), service="messenger")
        assert isinstance(outcome, Committed)
        *_, mail = await beta.got(3)
        assert (mail.message_id, mail.delivery, mail.index) == ("m1", 3, 2)
        assert isinstance(await beta.read(mail), Committed)
        doc = await office.message("m1")
        assert (doc.state, doc.deliveries, doc.deliveries_max) == ("read", 3, 4)
        assert (await office.ask(ListDead(), service="messenger")).items == []


async def test_a_dead_letter_can_be_dropped(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1"))
        (mail,) = await beta.got(1)
        assert isinstance(await beta.give_back(mail, retryable=False), Committed)
    (letter,) = (await office.ask(ListDead(), service="messenger")).items
    await office.ask(DropDead(id=letter.id, actor="key-1"), service="messenger")
    assert (await office.ask(GetDead(id=letter.id), service="messenger")).state == "dropped"
    assert (await office.message("m1")).state == "failed"


async def test_a_returned_message_stops_its_sender_only(office: Post) -> None:
    async with office.bot("alpha") as alpha, office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1"))
        (mail,) = await beta.got(1)
        await beta.give_back(mail)
        await office.committed(send("m2"))
        await alpha.say(posted("m3"))
        mails = await beta.got(4)
    assert [mail.message_id for mail in mails] == ["m1", "m3", "m1", "m2"]


async def test_messages_expire_by_themselves_and_while_the_messenger_is_down(office: Post) -> None:
    await office.committed(send("m1", ttl_s=1.0))
    await office.has("m1", "expired")
    await office.committed(send("m2", ttl_s=1.0))
    office.end_messengers()
    await asyncio.sleep(1.1)  # the time itself is what is tested
    office.start_messenger()
    await office.answers()
    await office.has("m2", "expired")
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m3"))
        (mail,) = await beta.got(1)
        assert mail.message_id == "m3"
        assert isinstance(await beta.let_expire(mail), Refused)


async def test_what_an_absent_bot_had_kept_expires_too(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1", ttl_s=1.0))
        (mail,) = await beta.got(1)
        await beta.take(mail, kept=True)
        office.end_messengers()
        office.start_messenger()
        await office.has("m1", "expired")  # greeted for 10 s in vain


async def test_a_restarted_messenger_asks_for_a_hello_and_goes_on(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1"))
        await beta.got(1)
        office.end_messengers()
        assert await office.send(send("m2"), actor="key-1", wait_s=0.1) is None  # stored, not decided
        office.start_messenger()
        async with asyncio.timeout(20):
            await beta.greeted.wait()
        await beta.hello()
        mails = await beta.got(2)
        assert [(mail.message_id, mail.index) for mail in mails] == [("m1", 0), ("m2", 1)]


async def test_a_restarted_broker_loses_nothing(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1"))
        await beta.got(1)
        office.broker.kill()
        office.broker.restart()
        async with asyncio.timeout(20):
            await beta.greeted.wait()
        await beta.hello()

        async def stored() -> bool:
            return isinstance(await office.send(send("m2"), actor="key-1", wait_s=10), Committed | AlreadySo)

        await office.until(stored)
        mails = await beta.got(2)
        assert [mail.message_id for mail in mails] == ["m1", "m2"]


async def test_a_bot_that_takes_no_mail_is_asked_for_a_hello(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1"))
        await beta.got(1)
        began = monotonic()
        async with asyncio.timeout(20):
            await beta.greeted.wait()
        assert monotonic() - began > 4.0


async def test_a_standby_takes_over(office: Post) -> None:
    office.start_messenger("two")
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1"))
        await beta.got(1)
        office.kill_messenger(0)
        async with asyncio.timeout(20):
            await beta.greeted.wait()
        await beta.hello()
        (mail,) = await beta.got(1)
        assert isinstance(await beta.read(mail), Committed)
        await office.committed(send("m2"))
        assert [mail.message_id for mail in await beta.got(2)] == ["m1", "m2"]


async def test_two_colours_share_the_bots_and_each_gets_all_its_mail_once(tmp_path: Path) -> None:
    names = [f"bot{number}" for number in range(6)]
    async with post(tmp_path) as office:
        await office.launched(*names)
        await office.person("ann")
        await office.split_partitions()
        office.start_messenger("one", naming.BLUE)
        office.start_messenger("two", naming.GREEN)
        await office.answers()
        wanted = [f"m{number}" for number in range(20)]
        for number, message_id in enumerate(wanted):
            for name in names:
                await office.committed(send(f"{message_id}-{name}", recipient=name, content=str(number)))
        for name in names:
            async with office.bot(name) as bot:
                await bot.hello()
                mails = await bot.got(20)
                assert [mail.content for mail in mails] == [str(number) for number in range(20)]
                assert isinstance(await bot.read(mails[0]), Committed)


async def test_a_bot_that_moves_to_the_other_colour_gets_all_its_mail_in_order(tmp_path: Path) -> None:
    async with post(tmp_path) as office:
        await office.launched("alpha", "beta")
        await office.own(naming.GREEN, ())
        office.start_messenger("one", naming.BLUE)
        office.start_messenger("two", naming.GREEN)
        await office.answers()
        async with office.bot("alpha") as alpha, office.bot("beta") as beta:
            await beta.hello()
            sent: list[str] = []
            read: list[str] = []

            async def moved_and_all_read() -> bool:
                """Read one after another; a greeting begins a new session."""
                if beta.greeted.is_set():
                    await beta.hello()
                for mail in [each for each in beta.mails if each.message_id not in read]:
                    read.append(mail.message_id)
                    await beta.read(mail)
                return "last" in read and len(read) == len(sent)

            async def write() -> None:
                """On and on, while the partitions move, until the new owner has asked for a Hello."""
                while beta.hellos < 2 or len(sent) < 20:
                    if len(sent) == 10:
                        await office.own(naming.BLUE, ())
                        await office.own(naming.GREEN, range(PARTITIONS))
                    sent.append(f"m{len(sent)}")
                    assert isinstance(await alpha.say(posted(sent[-1])), Committed | AlreadySo)
                sent.append("last")
                await alpha.say(posted("last"))

            async with asyncio.TaskGroup() as group:
                group.create_task(write())
                await office.until(moved_and_all_read)
            assert read == sent


async def test_a_full_inbox_takes_only_what_is_critical(office: Post) -> None:
    await office.configure(inbox_max=20)
    outcomes = await asyncio.gather(
        *(office.send(send(f"m{number}"), actor="key-1", wait_s=10) for number in range(40))
    )
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 20
    assert {outcome.code for outcome in outcomes if isinstance(outcome, Refused)} == {"inbox_full"}
    await office.committed(send("urgent", priority=Priority.P0))
    status = await office.ask(GetMessagingStatus())
    assert status.full_inboxes == ("beta",)
    assert status.waiting == {"P0": 1, "P2": 20}
    assert (await office.ask(GetInbox(party=BETA))).unread == 21


async def test_a_broadcast_is_one_command_and_one_message_for_each_bot(office: Post) -> None:
    await office.launched("gamma", "delta", pool="coders")
    version = await office.committed(broadcast("b1", sender=Party("gamma")))

    async def spread() -> bool:
        return (await office.ask(GetBroadcast(broadcast_id="b1", at_least=version))).missing == 0

    await office.until(spread)
    summary = await office.ask(GetBroadcast(broadcast_id="b1"))
    assert (summary.recipients, summary.states, summary.refused) == (3, {"pending": 3}, {})
    async with office.bot("delta") as delta:
        await delta.hello()
        (mail,) = await delta.got(1)
        assert (mail.broadcast, mail.content) == ("b1", "freeze at noon")
    nobody = await office.send(broadcast("b2", pool="painters"), actor="key-1", wait_s=10)
    assert isinstance(nobody, Refused)
    assert nobody.code == "no_recipients"


async def test_who_waits_in_a_conversation_hears_at_once(office: Post) -> None:
    before = await office.committed(send("m1"))
    wait = AwaitConversation(one=BETA, other=Party("@ann"), after=before, wait_s=10)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(office.ask(wait, timeout_s=12))
        async with office.bot("beta") as beta:
            await beta.say(posted("m2", bot_id="beta", recipient="@ann"))
    assert [doc.id for doc in waiting.result().items] == ["m2"]
    whole = await office.ask(GetConversation(one=BETA, other=Party("@ann"), at_least=before))
    assert [doc.id for doc in whole.items] == ["m2", "m1"]


async def test_a_backlog_longer_than_a_window_is_sent_to_its_end_after_a_restart(office: Post) -> None:
    commands = [send(f"m{number}", content=str(number)) for number in range(300)]
    await asyncio.gather(*map(office.committed, commands))
    office.end_messengers()
    office.start_messenger()
    async with office.bot("beta") as beta:
        await beta.hello()
        seen: list[int] = []
        while len(seen) < len(commands):
            fresh = (await beta.got(len(seen) + 1))[len(seen) :]
            seen += [mail.sequence for mail in fresh]
            await asyncio.gather(*map(beta.read, fresh))
    assert len(seen) == 300
    assert seen == sorted(seen)


async def test_a_failed_message_cannot_be_put_back_twice(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        await office.committed(send("m1"))
        (mail,) = await beta.got(1)
        await beta.give_back(mail, retryable=False)
        again = ReplayMessage(message_id=mail.message_id, sender=mail.sender, recipient=BETA, content="")
        assert isinstance(await office.send(again, actor="key-1", wait_s=10), Committed)
        await beta.got(2)
        refused = await office.send(again, actor="key-1", wait_s=10)
    assert isinstance(refused, Refused)
    assert refused.code == "not_failed"


async def test_a_messenger_that_starts_anew_knows_what_is_alive(office: Post) -> None:
    await office.configure(inbox_max=4)
    async with office.bot("beta") as beta:
        await beta.hello()
        for number in range(4):
            await office.committed(send(f"m{number}"))
        read, failed, unread, _ = await beta.got(4)
        await beta.read(read)
        await beta.give_back(failed, retryable=False)
        await beta.take(unread)
        await office.committed(send("held", recipient="gamma", hold=True))

        office.end_messengers()
        office.start_messenger()
        await office.answers()
        for number in (4, 5):  # two are unread
            await office.committed(send(f"m{number}"))
        refused = await office.send(send("m6"), actor="key-1", wait_s=10)
        assert isinstance(refused, Refused)
        assert refused.code == "inbox_full"
        await beta.hello()
        assert [mail.message_id for mail in await beta.got(3)] == ["m3", "m4", "m5"]
        (letter,) = (await office.ask(ListDead(), service="messenger")).items
        outcome = await office.ask(ReplayDead(id=letter.id, actor="key-1"), service="messenger")
        assert isinstance(outcome, Committed)
        mails = await beta.got(4)
        assert (mails[3].message_id, mails[3].delivery) == ("m1", 2)
    refused = await office.send(send("m7", recipient="nobody"), actor="key-1", wait_s=10)
    assert isinstance(refused, Refused)
    assert refused.code == "recipient_unknown"
    await office.committed(send("m8", recipient="@ann"))


async def test_a_broadcast_that_a_crash_left_half_done_is_spread_by_the_next_messenger(office: Post) -> None:
    names = [f"bot{number}" for number in range(200)]
    await office.launched(*names)
    version = await office.committed(broadcast("b1"))
    office.end_messengers()
    office.start_messenger()

    async def spread() -> bool:
        return (await office.ask(GetBroadcast(broadcast_id="b1", at_least=version))).missing == 0

    await office.until(spread)
    summary = await office.ask(GetBroadcast(broadcast_id="b1"))
    assert summary.states == {"pending": 202}


def lanes_of(bot: Bot) -> dict[Priority, list[int]]:
    """The indices of what came, by lane."""
    return {priority: [m.index for m in bot.mails if m.priority is priority] for priority in Priority}


async def test_each_lane_counts_for_itself(office: Post) -> None:
    async with office.bot("beta") as beta:
        await beta.hello()
        for number in range(8):
            await office.committed(send(f"m{number}", priority=list(Priority)[number % 4]))
        await beta.got(8)
        assert lanes_of(beta) == {priority: [0, 1] for priority in Priority}
        assert beta.bot_id == BotId("beta")
