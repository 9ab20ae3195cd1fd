"""`koppel users`: who may log in, and as what."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli.options import ConfigFile, DataDir, Json, effective, print_json

if TYPE_CHECKING:
    from relay.config import Settings

__all__ = ["register"]

RoleName = Literal["agent", "supervisor", "admin"]


def register(application: typer.Typer) -> None:
    """Add the commands."""
    users = typer.Typer(help="People and programs that may log in.", no_args_is_help=True)
    users.command(epilog="Example: koppel users add anna --role agent")(add)
    users.callback()(_group)
    application.add_typer(users, name="users")


def _group() -> None:
    """People and programs that may log in."""


def add(
    name: Annotated[str, typer.Argument(show_default=False, help="Small letters, digits, dots, dashes, underscores.")],
    role: Annotated[RoleName, typer.Option("--role", help="What the user may do.")] = "agent",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Add a user and print its token: once, since only a hash of it is kept."""
    token = asyncio.run(_add(effective(config_file, data_dir).settings, name, role))
    if json:
        print_json({"user": name, "role": role, "token": token})
        return
    print(f"{role} {name} may log in with this token. It is shown only now:")
    print(token)


async def _add(settings: Settings, name: str, role: RoleName) -> str:
    from relay.data_directory import DataDirectory  # noqa: PLC0415 - see relay.cli.application
    from relay.instance_database import open_database  # noqa: PLC0415
    from signaling import access  # noqa: PLC0415

    user = access.parse_user_name(name)
    wall = time.time()
    database = await open_database(settings, DataDirectory.open(settings.data_dir), wall=wall)
    try:
        token = await database.add_user(user, access.Role(role), wall=wall)
        await database.append_audit("system", "user.added", f"user:{user}", wall=wall, details={"role": role})
    finally:
        await database.close()
    return token.reveal()
