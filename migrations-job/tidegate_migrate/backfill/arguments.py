"""The command line of ``tidegate migrate backfill``; light, because every command builds it."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add what only this command has."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="backfills/NAME.toml; without it, list all"
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin at the first row again, whatever was done"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the statements and their plan; change nothing"
    )
    parser.add_argument(
        "--duty",
        type=_share,
        metavar="SHARE",
        help="share of the time in which a batch runs, above 0 and up to 1",
    )
    parser.add_argument(
        "--max-active", type=_whole, metavar="N", help="pause while more sessions are active"
    )
    parser.add_argument(
        "--max-lag",
        type=_seconds,
        metavar="SECONDS",
        help="pause while a standby is further behind",
    )


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 1")
    return share


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return seconds
