"""Opens an event in the operator's editor. The file may show personal data, so it is deleted afterwards.

Only a text that was typed and does not fit stays, in a folder that the operator alone can read.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from millstream.errors import ConfigurationError

if TYPE_CHECKING:
    from millstream.operate.dlq.editing import Draft, Edited


def in_editor(draft: "Draft") -> "Edited":
    """Open an event in $VISUAL or $EDITOR and return it as edited.

    Raises `ConfigurationError` where there is no such editor, or it fails, or the text does not fit: then the error
    names the file that has the text.
    """
    command, shown = _command(), draft.text().encode()
    # A private folder: the copies that editors leave beside a file are deleted with it.
    folder, keep = Path(tempfile.mkdtemp(prefix="dead-letter-")), False
    path = folder / "event.json"
    try:
        path.write_bytes(shown)
        written = _edited(command, path)
        try:
            return draft.with_text(written)
        except ConfigurationError as error:
            if written.split() == shown.split():
                raise
            keep = True
            raise ConfigurationError(
                f"{error}. Your text is in {path}: correct it, give it with --value-file, and delete it"
            ) from None
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _command() -> list[str]:
    name = next((name for name in ("VISUAL", "EDITOR") if os.environ.get(name, "").strip()), None)
    if name is None:
        raise ConfigurationError("Which editor? Set EDITOR, or give --set FIELD=VALUE or --value-file FILE")
    try:
        return shlex.split(os.environ[name])
    except ValueError as error:
        raise ConfigurationError(
            f"{name}={os.environ[name]} is no command ({error}): correct it, or give --set or --value-file"
        ) from None


def _edited(command: list[str], path: Path) -> bytes:
    editor = shlex.join(command)
    try:
        ended = subprocess.run([*command, str(path)], check=False).returncode  # noqa: S603 (the user's editor)
    except OSError as error:
        raise ConfigurationError(
            f"The editor cannot be started: {error}. Set EDITOR to another, or give --set or --value-file"
        ) from None
    if ended != 0:
        raise ConfigurationError(f"{editor} ended with {ended}; nothing was written")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{editor} left no text: {error}; nothing was written. Save it where it was") from None
