"""Answers what it was asked, or does exactly what a script in the task's input says: to test and measure."""

import asyncio
from typing import Annotated

import msgspec

from bots.engines import Emit, Work
from shared.contracts.orchestrator.commands import Done, End, Undone
from shared.contracts.orchestrator.facts import Output, TaskError, Usage

Count = Annotated[int, msgspec.Meta(ge=0)]


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to fail."""

    code: str
    detail: str = "as scripted"
    retryable: bool = True


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do: wait `delay_s` in all, say `chunks` on the way, then fail, or end with `output`.

    Without `output` the chunks are the output; without those, the task's content.
    """

    delay_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    chunks: tuple[str, ...] = ()
    tokens_in: Count = 0
    tokens_out: Count = 0
    cost_usd: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    fail: Failure | None = None
    output: str | None = None


_scripts = msgspec.json.Decoder(Script)


class Echo:
    """The engine `echo`."""

    async def run(self, work: Work, out: Emit) -> End:
        """Follow the script if there is one."""
        if work.input is None or not work.input.lstrip().startswith("{"):
            return Done(output=text_output(work.task.content))
        try:
            script = _scripts.decode(work.input)
        except msgspec.DecodeError as error:
            return Undone(error=TaskError(code="script_invalid", detail=f"input: {error}"), retryable=False)
        return await follow(script, work.task.content, out)


async def follow(script: Script, content: str, out: Emit) -> End:
    """Do what the script says."""
    steps = max(1, len(script.chunks))
    for step in range(steps):
        if script.delay_s:
            await asyncio.sleep(script.delay_s / steps)
        if script.chunks:
            out.write(script.chunks[step])
            out.progress((step + 1) / steps)
    usage = Usage(tokens_in=script.tokens_in, tokens_out=script.tokens_out, cost_usd=script.cost_usd)
    if script.fail is not None:
        error = TaskError(code=script.fail.code, detail=script.fail.detail)
        return Undone(error=error, output=out.output(), usage=usage, retryable=script.fail.retryable)
    if script.output is not None:
        return Done(output=text_output(script.output), usage=usage)
    return Done(output=out.output() if script.chunks else text_output(content), usage=usage)


def text_output(text: str) -> Output:
    """A text as a whole output."""
    return Output(text=text, size_bytes=len(text.encode()))
