"""Commands of the recommender domain about single users and items; see `recssl.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from recssl.options import Features, Items, Length, NewItems, Run, Table, Users
from sslcore.cli import Assignments, ConfigFile, resolve
from sslcore.console import user_errors
from sslcore.interrupts import load_torch


@user_errors()
def recommend(
    run: Run,
    users: Users = None,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Items of new users instead: CSV, TSV, JSON lines or Parquet."
        ),
    ] = None,
    new_items: NewItems = None,
    k: Length = 20,
    out: Table = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """List unseen items for users, the best first."""
    from recssl.settings.export import RecommendConfig

    settings = resolve(RecommendConfig, config, assignments)
    load_torch()
    from recssl.recommend import recommend as job

    found = job(run, settings, users=users, history=history, new_items=new_items, k=k, out=out)
    typer.echo(out or found.write_csv(separator="\t", float_precision=4).rstrip())


@user_errors()
def similar(
    run: Run,
    items: Items,
    new_items: NewItems = None,
    k: Length = 20,
    out: Table = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """List the items nearest to others."""
    from recssl.settings.export import RecommendConfig

    settings = resolve(RecommendConfig, config, assignments)
    load_torch()
    from recssl.recommend import similar as job

    found = job(run, settings, items, new_items=new_items, k=k, out=out)
    typer.echo(out or found.write_csv(separator="\t", float_precision=4).rstrip())


@user_errors()
def new_items(
    run: Run,
    features: Features = None,
    history: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead: which known users had the new items."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Parquet file.")] = Path("new_items.parquet"),
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Embed items that came after the log, from their features or from who had them."""
    from recssl.settings.export import RecommendConfig

    settings = resolve(RecommendConfig, config, assignments)
    load_torch()
    from recssl.new_items import embed_new_items as job

    found = job(run, settings, features=features, history=history, out=out)
    typer.echo(f"{len(found)} items\n{out}")
