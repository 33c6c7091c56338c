"""Keys in files: for runs that are resumed, on machines whose files others can see."""

import os
import stat
from pathlib import Path

from dpfunc.checks import require
from dpfunc.random.keys import Key, require_key

_FIRST_LINE = "dpfunc key 1"  # what it is, and the version of the form
_OWNER_ONLY = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_HEX_DIGITS = 64


def save_key(key: Key, path: str | os.PathLike[str]) -> None:
    """Write ``key`` to a new file that its owner alone may read and write (mode 600).

    The file is complete on the disk when this returns. An existing file is never overwritten: the
    key of an earlier run would be gone. The file holds the secret in plain text. Whoever reads it
    can take the noise out of every release of the run, so keep it off shared disks, out of version
    control and out of the checkpoint that you publish; delete it when the run is over.

    FileExistsError where the file exists, TypeError for what is no `Key`; OSError where the system
    cannot write.

    >>> import dpfunc as dp, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.key"
    >>> key = dp.key()
    >>> dp.save_key(key, path)
    >>> dp.load_key(path) == key
    True
    """
    require_key("save_key", key)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError as error:
        raise FileExistsError(
            f"save_key: expected a path without a file but got {os.fspath(path)!r}, which exists; "
            "load that key with dpfunc.load_key, or choose another path."
        ) from error
    try:
        with os.fdopen(file, "w") as lines:
            os.fchmod(lines.fileno(), _OWNER_ONLY)  # whatever the umask says
            lines.write(f"{_FIRST_LINE}\n{key.secret_bytes.hex()}\n")
            lines.flush()
            os.fsync(lines.fileno())
        _sync_folder(Path(path).absolute().parent)
    except BaseException:  # a part of a key serves nobody
        Path(path).unlink()
        raise


def _sync_folder(folder: Path) -> None:
    """See the name of a new file safely on the disk: that of its content does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_key(path: str | os.PathLike[str]) -> Key:
    """The key that `save_key` wrote to ``path``.

    ValueError where the file is none of `save_key`'s, or where anybody but its owner may read or
    change it: such a key may be known to others. FileNotFoundError where there is no file.

    >>> import dpfunc as dp, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.key"
    >>> dp.save_key(dp.key(), path)
    >>> dp.load_key(path) == dp.load_key(path)
    True
    """
    with Path(path).open("rb") as file:
        others = os.fstat(file.fileno()).st_mode & _OTHERS
        content = file.read(1024)
    require(
        not others,
        "load_key",
        "a file that its owner alone may read (mode 600)",
        f"{os.fspath(path)} with mode {oct(others)[2:]:0>3} for others",
        "take a new key with dpfunc.key() unless you are certain that nobody has read it; "
        "chmod 600 then",
    )
    # Nothing of the content goes into a message: it may be a secret that is merely cut short.
    first, _, rest = content.decode("ascii", "replace").partition("\n")
    digits = rest.strip()
    right = first == _FIRST_LINE and len(digits) == _HEX_DIGITS and _is_hex(digits)
    require(
        right,
        "load_key",
        "a file that dpfunc.save_key wrote",
        f"another file, {os.fspath(path)}",
        "pass the path that save_key was given",
    )
    return Key(bytes.fromhex(digits))


def _is_hex(digits: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in digits)
