"""`darkroom batch`: files of many requests."""

import typer

from darkroom.cli.batch import rehearsal
from darkroom.cli.names import normal

app = typer.Typer(help="Files of many requests.", no_args_is_help=True)


@app.callback()
def batch() -> None:
    """Files of many requests, JSON lines or CSV."""


app.command("check", epilog=rehearsal.EXAMPLES, context_settings={"token_normalize_func": normal})(rehearsal.check)
