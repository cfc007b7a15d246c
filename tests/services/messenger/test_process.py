"""The messenger as its own process, on a real broker, with bots in bare nats-py."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.messenger.queries import GetInbox
from shared.contracts.words import Party
from shared.kernel.messages import Committed
from tests.services.messenger.builders import post as posted
from tests.services.messenger.builders import send
from tests.services.messenger.post import Post, post

pytestmark = pytest.mark.nats


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
        assert (answer.session, answer.lane_window) == (beta.session, 64)
        await office.committed(send("m1"))
        (mail,) = await beta.got(1)
        assert (mail.content, mail.sender, mail.index, mail.delivery) == ("hello", "@ann", 0, 1)
        inbox = await office.ask(GetInbox(party=Party("beta")))
        assert (inbox.unread, inbox.pending) == (1, 1)
        assert isinstance(await beta.read(mail), Committed)
        doc = await office.message("m1")
        assert (doc.state, doc.deliveries) == ("read", 1)
        assert (await office.ask(GetInbox(party=Party("beta"), at_least=doc.version))).unread == 0


async def test_what_a_bot_posts_reaches_a_bot_and_a_person(office: Post) -> None:
    async with office.bot("alpha") as alpha, office.bot("beta") as beta:
        await beta.hello()
        assert isinstance(await alpha.say(posted("m1")), Committed)
        (mail,) = await beta.got(1)
        assert mail.sender == "alpha"
        assert isinstance(await beta.say(posted("m2", bot_id="beta", recipient="@ann")), Committed)
    assert (await office.message("m2")).state == "delivered"
