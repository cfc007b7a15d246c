"""What can be wrong, told apart by what the caller should do next."""


class Rejected(Exception):
    """A rule of the domain says no. Asking again will not help."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class NotFound(Exception):
    """There is no such thing. Asking later may help, asking again will not."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class VersionConflict(Exception):
    """Someone else wrote first. Load again and decide again."""


class Unavailable(Exception):
    """The log or the network is away, or the answer is unknown. The same request may work later."""


class NotStored(Unavailable):
    """The log takes nothing now, and said so: nothing was stored. The same request may work later."""


class Behind(Exception):
    """A view has not yet seen the sequence that the caller named. Ask again in a moment."""


class Undecodable(Exception):
    """Bytes that no reader of ours understands. Decoding them again will not help."""
