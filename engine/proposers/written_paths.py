"""Which file a model means by the path that it wrote. Pure.

Models put ``./`` or a made-up root (``/repo/train.py``) before paths. What can mean one file only is put straight;
everything else is refused with what there is. Whether the file may be changed is ``engine.scope``'s business.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from engine.errors import EditRejected
from engine.scope import Scope, malformed

_LISTED = 60
_LONGEST = 4096
# How models call the top of a project that they were never told the place of.
_ROOTS = ("repo", "workspace", "workdir", "project", "app", "code", "testbed", "root", "home", "mnt")


def resolve(path: str, known: Collection[str], scope: Scope, *, new: bool = False) -> str:
    """The file that ``path`` means, of the ``known`` ones. ``new``: a plain path to another one will do.

    ``./x``, ``a//x`` and ``a/../x`` are put straight; of an absolute path, or one with a folder too many in front,
    the end counts when just one known file has it. Raises EditRejected with what there is.
    """
    if path in known:
        return path
    plain = _plain(path, known)
    absolute = path.lstrip().startswith("/")
    if not absolute and plain in known:
        return plain
    parts = plain.split("/")
    if new and not absolute and parts[0] in _ROOTS and parts[0] not in _folders(known):
        rest = "/".join(parts[1:])
        if rest in known:
            raise EditRejected(f"{said(path)} may mean {rest} or a new file", f"write {rest}, or another name")
    if new and not absolute and scope.check(plain) is None:
        return plain
    ends = ["/".join(parts[start:]) for start in range(0 if absolute else 1, len(parts))]
    found = [end for end in ends if end in known]
    if not found and new and absolute:
        found = _new_file(ends, known)
    if len(found) == 1:
        return found[0]
    if found:
        raise EditRejected(f"{said(path)} may mean {' or '.join(found)}", "give the path within the project")
    if new and not absolute:
        return plain  # to be refused with the scope's reason
    near = difflib.get_close_matches(plain[:200], sorted(known)[:2000], 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise EditRejected(f"{said(path)} is no file that you may read or change{hint}", f"there are: {_all(known)}")


def folder(path: str, known: Collection[str]) -> str | None:
    """The folder that ``path`` means, "" for the project's own; None when it means none."""
    if path in known or len(path) > _LONGEST or ".." in path.split("/"):
        return None
    parts = [part for part in path.strip().split("/") if part not in ("", ".")]
    if not parts:
        return ""
    there = _folders(known)
    if not path.lstrip().startswith("/"):
        return "/".join(parts) if "/".join(parts) in there else None
    found = [end for start in range(len(parts)) if (end := "/".join(parts[start:])) in there]
    if found:
        return found[0] if len(found) == 1 else None
    return "" if len(parts) == 1 and parts[0] in _ROOTS else None


def said(path: str) -> str:
    """A path for a message: quoted, control characters spelled out, not too long."""
    return repr(path if len(path) <= 120 else path[:117] + "...")


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "none") + more


def _all(known: Collection[str]) -> str:
    return listed(sorted(known))


def _plain(path: str, known: Collection[str]) -> str:
    """``path`` relative and without detours. Raises EditRejected when it leaves the project or is no path."""
    if len(path) > _LONGEST:
        raise EditRejected("the path is too long", f"there are: {_all(known)}")
    parts: list[str] = []
    for part in path.strip().split("/"):
        if part == "..":
            if not parts:
                raise EditRejected(
                    f"{said(path)} leaves the project through '..'",
                    f"give a path within the project; there are: {_all(known)}",
                )
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    plain = "/".join(parts)
    if reason := malformed(plain):
        raise EditRejected(f"{said(path)}: {reason}", f"there are: {_all(known)}")
    return plain


def _new_file(ends: Sequence[str], known: Collection[str]) -> list[str]:
    """What a new file's absolute path can mean: in a folder that is there, or just below a usual root.

    ``ends``: the path's ends, the longest first.
    """
    there = _folders(known)
    inside = [end for end in ends if end.rpartition("/")[0] in there]
    if inside:
        # "/app/new.py" where the project has a folder "app": it may as well stand for the root.
        return inside + ([ends[-1]] if len(ends) == 2 and ends[0].split("/")[0] in _ROOTS else [])
    if len(ends) == 1 or (len(ends) == 2 and ends[0].split("/")[0] in _ROOTS):
        return [ends[-1]]
    return []


def _folders(known: Collection[str]) -> set[str]:
    """Folders that hold files, the project's own left out."""
    return {path[:end] for path in known for end, letter in enumerate(path) if letter == "/"}
