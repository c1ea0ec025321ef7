"""What workers say they serve, for lists that go without it where Redis is away."""

from darkroom.cli.screen import Screen
from darkroom.tasks import Darkroom, Market, QueueError


def market_if_heard(screen: Screen, what: str) -> Market | None:
    """None where Redis does not answer, of which the reader is told."""
    try:
        with Darkroom() as client:
            return client.models()
    except QueueError as error:
        screen.note(f"which are {what} is not known: {error.message}")
        return None
