"""`millstream help`: the pages of the documentation, which come with the package."""

from pathlib import Path
from typing import Annotated

import typer

SHIPPED = Path(__file__).parents[2] / "docs"
"""The folder of the pages in a wheel."""
SOURCE = Path(__file__).parents[4] / "docs"
"""The folder of the pages in a checkout."""


def help_(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="Such as verify; default: what there is.")
    ] = None,
) -> None:
    """Read a page of the documentation, or list what there is.

    Examples:

      millstream help

      millstream help verify
    """
    from millstream.errors import ConfigurationError, did_you_mean

    pages = pages_by_topic()
    if topic is None:
        width = max(map(len, pages), default=0)
        for name, page in pages.items():
            typer.echo(f"{name:<{width}}  {_title(page)}")
        return
    if topic not in pages:
        raise ConfigurationError(
            f"There is no page {topic!r}{did_you_mean(topic, pages)}; `millstream help` lists what there is"
        )
    typer.echo(pages[topic].read_text(), nl=False)


def pages_by_topic() -> dict[str, Path]:
    """The pages, by the name that `millstream help` takes."""
    folder = SHIPPED if SHIPPED.is_dir() else SOURCE
    return {page.stem: page for page in sorted(folder.glob("*.md"))}


def _title(page: Path) -> str:
    with page.open() as text:
        return text.readline().lstrip("# ").strip()
