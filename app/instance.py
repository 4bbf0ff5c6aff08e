"""What this installation keeps outside its database, in the folder `instance`: its secret, SHOP_ID, the API key.

They are not in the database, so a restore does not replace them. Each is made at random by the process that needs it
first.
"""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "instance"


def has(name: str) -> bool:
    """Return whether the file instance/<name> was made before."""
    return (FOLDER / name).exists()


def kept(name: str) -> str:
    """Return the text of the file instance/<name>. If it is missing, make it: 64 random hexadecimal digits.

    The folder has mode 0700 and the file 0600. Raises OSError.
    """
    path = FOLDER / name
    if not has(name):
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        # Written completely, then linked, so that two first starts at the same time use the same text.
        with tempfile.NamedTemporaryFile("w", dir=FOLDER) as new:
            new.write(secrets.token_hex(32))
            new.flush()
            with suppress(FileExistsError):
                os.link(new.name, path)
    return path.read_text().strip()
