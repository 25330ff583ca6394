"""What a self-test found: whether slots give the promised results, and how fast they are."""

import msgspec


class SelftestKey(msgspec.Struct, frozen=True):
    """What a verdict holds for: slots on a device, with these versions and these weights.

    `device` names all of the hardware that results depend on. `engine` is the version of the code
    that decodes in slots.
    """

    device: str
    versions: dict[str, str]
    model_fingerprint: str
    parallel: int
    engine: str


class SelftestVerdict(msgspec.Struct, frozen=True):
    """The result of a self-test.

    `failed` says which check failed, `None` if it passed; `layer` is the first layer that differed,
    `None` where the check knows none. `speeds` are tokens a second by the number of slots, for
    those that were timed; `recommended` is the number to use, `None` if none was timed.
    """

    passed: bool
    failed: str | None = None
    layer: int | None = None
    speeds: dict[int, float] = {}
    recommended: int | None = None

    @property
    def what_failed(self) -> str:
        """What failed, and at which layer if that is known."""
        layer = "" if self.layer is None else f", first at layer {self.layer}"
        return f"{self.failed}{layer}"
