"""The peers' own environment: what they need would not live beside what we pin."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
WANTED = ROOT / "requirements" / "peers.lock"
PLACE = ROOT / ".venv-peers"


def interpreter() -> Path:
    """The Python that has the peers, made at first use and anew when what is wanted changed."""
    python, stamp = PLACE / "bin" / "python", PLACE / "stamp"
    if not stamp.exists() or stamp.read_bytes() != WANTED.read_bytes():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, PLACE], check=True)
        install = [uv, "pip", "install", "-q", "--require-hashes", "--python", python, "-r", WANTED]
        subprocess.run(install, check=True)
        stamp.write_bytes(WANTED.read_bytes())
    return python
