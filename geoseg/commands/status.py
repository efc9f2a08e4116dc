"""geoseg status: how far a job is, from its ledger."""

from __future__ import annotations

import json

import click

__all__ = ["command"]


@click.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(job: str, as_json: bool) -> None:
    r"""Tell what is done of JOB: an output that is being made, or its .geoseg-job folder.

    \b
    geoseg status terrain.gpkg
    geoseg status s3://bucket/job --json
    """
    from geoseg.engine.status import read_status

    status = read_status(job)
    click.echo(json.dumps(status.to_dict(), indent=2) if as_json else str(status))
