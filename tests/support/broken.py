"""Files that break while they are open."""

import sqlite3
from pathlib import Path


def break_file(path: Path) -> None:
    """Overwrite all but the first page of an SQLite file, and let nobody have the others in memory."""
    other = sqlite3.connect(path)
    with other:
        other.execute("CREATE TABLE noise (x)")
        other.executemany("INSERT INTO noise VALUES (?)", [("x" * 500,)] * 100)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
