"""The files that a data set is published as: checked, fetched where a program may, unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from ...files import open_regular
from ..events import StoredPath
from ..faults import FormatError, MissingFilesError, damage_told
from ..unpacking import check_unpacked

__all__ = ["Resource", "extract_archive", "file_md5", "require_files", "unpack_all"]

Resource = tuple[str, str, str | None]
"""Name of a file, where it is published, and its MD5 if there is one."""

NO_SIZES: Mapping[str, str] = {}

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

TOLD = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
MOST_TOLD = 1 << 20
"""Bytes that a .tar may say of a member."""


def file_md5(path: Path) -> str:
    """The MD5 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def require_files(
    owner: str, folder: Path, resources: Iterable[Resource], downloadable: bool, sizes: Mapping[str, str] = NO_SIZES
) -> None:
    """See that all files are in the folder, whole; fetch those that a program may; refuse in words otherwise.

    Nothing is deleted: a file with another checksum is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(resources)
    problems = {resource: problem for resource in wanted if (problem := _problem(folder / resource[0], resource[2]))}
    reason = ""
    for resource in [resource for resource in problems if downloadable and problems[resource] == "is missing"]:
        reason = _fetch(folder, resource)
        if reason:
            break
        del problems[resource]
    if problems:
        lines = [_line(resource, problem, sizes) for resource, problem in problems.items()]
        begin = f"A download was tried and failed ({reason}). " if reason else ""
        raise MissingFilesError(
            f"{owner} needs files that are not in {folder}. {begin}Fetch them with a browser, and put them there as "
            "they are:\n" + "\n".join(lines)
        )


def _problem(path: Path, md5: str | None) -> str:
    if not path.exists():
        return "is missing"
    found = file_md5(path) if md5 else None
    if found == md5:
        return ""
    return f"is there with {path.stat().st_size:,} bytes, but is another or was cut off: its MD5 is {found}"


def _line(resource: Resource, problem: str, sizes: Mapping[str, str]) -> str:
    name, url, md5 = resource
    size = f", {sizes[name]}" if name in sizes else ""
    return f"  {name} {problem}; from {url}, MD5 {md5 or 'not published'}{size}"


def _fetch(folder: Path, resource: Resource) -> str:
    """Download one file; the reason if that fails."""
    name, url, md5 = resource
    if not url.startswith("https://"):
        return f"{url} is not an https address"
    draft = folder / f"{name}.part"
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0"})  # https alone
        with urllib.request.urlopen(request, timeout=30) as answer, open(draft, "wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
        if md5 and (found := file_md5(draft)) != md5:
            return f"what came from {url} has the MD5 {found}"
        draft.replace(folder / name)
    except (OSError, urllib.error.URLError, ValueError) as error:
        return str(error)
    finally:
        draft.unlink(missing_ok=True)
    return ""


def extract_archive(archive: StoredPath, folder: StoredPath) -> None:
    """Unpack a .zip or .tar.gz into a folder; members that would land outside of it are refused."""
    source, target = Path(archive), Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with damage_told(source, "an archive", "; fetch it again"), open_regular(source) as file:
        if source.name.endswith(".zip"):
            with zipfile.ZipFile(file) as held:
                check_unpacked(source, source.stat().st_size, sum(member.file_size for member in held.infolist()))
                for name in held.namelist():
                    if not (target / name).resolve().is_relative_to(target.resolve()):
                        raise FormatError(
                            f"{source} is refused: its member {name!r} would be written outside {target}."
                        )
                held.extractall(target)
        elif source.name.endswith(ARCHIVES):
            with tarfile.open(fileobj=file, tarinfo=_Member) as tar:
                members = _within(tar, source)
                if hasattr(tarfile, "data_filter"):
                    tar.extractall(target, members, filter="data")
                else:  # Python 3.11.3 and before
                    tar.extractall(target, (_plain(member, target) for member in members))
        else:
            raise FormatError(f"{source} is none of the archives that can be unpacked here: {', '.join(ARCHIVES)}.")


class _Member(tarfile.TarInfo):
    """A member of an archive; one that only says something of the next, such as its name, is read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The member of which these bytes are the head."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in TOLD and member.size > MOST_TOLD:
            raise ValueError(f"what it says of a member takes {member.size:,} bytes")
        return member


def _within(tar: tarfile.TarFile, source: Path) -> Iterator[tarfile.TarInfo]:
    """The members, as long as they do not unpack to too much."""
    packed, unpacked = source.stat().st_size, 0
    for member in tar:
        unpacked += member.size
        check_unpacked(source, packed, unpacked)
        yield member


def _plain(member: tarfile.TarInfo, target: Path) -> tarfile.TarInfo:
    """A file or a folder inside the target, owned by whoever unpacks it; all else is refused."""
    if not (member.isreg() or member.isdir()):
        raise ValueError(f"{member.name!r} is no file and no folder; Python 3.11.4 or later unpacks links")
    if not (target / member.name).resolve().is_relative_to(target.resolve()):
        raise ValueError(f"{member.name!r} would be written outside {target}")
    if hasattr(os, "getuid"):
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def unpack_all(download_root: StoredPath, extract_root: StoredPath) -> None:
    """Unpack every archive of a folder."""
    for source in sorted(Path(download_root).iterdir()):
        if source.name.endswith(ARCHIVES):
            extract_archive(source, extract_root)


def unpack_nested(archive: Path, extract_root: Path) -> None:
    """Unpack an archive of archives: what is in those inside goes into the folder."""
    inside = Path(f"{extract_root}.inside")
    shutil.rmtree(inside, ignore_errors=True)
    try:
        extract_archive(archive, inside)
        for source in sorted(inside.rglob("*.zip")):
            extract_archive(source, extract_root)
    finally:
        shutil.rmtree(inside, ignore_errors=True)
