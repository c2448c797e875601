"""Both domains under one command, for a checkout: `python cli.py med`, `python cli.py rec`."""

import typer

from medssl.cli import app as med
from recssl.cli import app as rec

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback()(lambda: None)
app.add_typer(med, name="med", short_help="Medical images: from a folder to a report.")
app.add_typer(rec, name="rec", short_help="Recommenders: from an interaction log to a report.")

if __name__ == "__main__":
    app()
