"""Where weights come from: a file, an https address, or a short name for one."""

import contextlib
import difflib
import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests

from pse_jax import progress
from pse_jax.addresses import Place, is_remote, place, read
from pse_jax.errors import WeightsError
from pse_jax.files import make_folder, reason, write_whole

logger = logging.getLogger(__name__)

BACKBONES = {  # to train from
    "msra_r50": "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl",
    "torchvision_r50_v1": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "torchvision_r50_v2": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
}
DETECTORS = {  # to use, or to train from; torchvision's FCOS_ResNet50_FPN_Weights.COCO_V1
    "torchvision_fcos_r50": (
        "https://download.pytorch.org/models/fcos_resnet50_fpn_coco-99b0c9b7.pth"
    ),
}
SHORT_NAMES = BACKBONES | DETECTORS
# Hosts whose file names end in the first digits of the SHA-256: resnet50-0676ba61.pth.
HASHED_NAMES = ("download.pytorch.org", "download.openmmlab.com")
ATTEMPTS = 5
SECONDS_BETWEEN = 2.0
TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
CHUNK = 1 << 16  # bytes; at most this much is lost when a download is interrupted


def resolve(where: str, cache_dir: Path) -> Path:
    """The local file that `where` stands for; what is not local is kept in `cache_dir`/weights.

    A download resumes where it was interrupted, appears in the cache only when complete, and is
    checked against the SHA-256 in its published name or at the address's end (`#sha256=...`).

    Raises:
        WeightsError: if there is no such file or name, or the download fails or has a wrong hash.
    """
    address = SHORT_NAMES.get(where, where)
    parts = urlsplit(address)
    local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    if parts.scheme != "https" and not local:
        if parts.scheme == "http":
            raise WeightsError(f"{where} is not encrypted; give its https:// address")
        if parts.scheme and is_remote(remote := place(where)):
            return _from_store(remote, cached_path(address, cache_dir))
        return _local_file(where)
    target = cached_path(address, cache_dir)
    address, published = address.partition("#")[0], _published_hash(address)
    make_folder(target.parent, "the cache of downloaded weights (config.data.cache_dir)")
    with _alone(target):
        if not target.exists():
            part = target.with_name(target.name + ".part")
            _download(address, part, target)
            _check_hash(part, published, address)
            os.replace(part, target)
        else:
            _check_hash(target, published, address)
    return target


def cached_path(address: str, cache_dir: Path) -> Path:
    """The cached file of an address: below its host and path, as many are called R-50.pkl."""
    parts = urlsplit(address)
    names = [name for name in parts.path.split("/") if name not in ("", ".", "..")]
    if not names:
        raise WeightsError(f"{address} names a site, not a file")
    if parts.query:
        names[-1] += "." + quote(parts.query, safe="=")
    return cache_dir.expanduser() / "weights" / parts.netloc.replace(":", "_") / Path(*names)


def _from_store(remote: Place, target: Path) -> Path:
    """A file of gs:// or the like, copied anew each time: it may be another by now."""
    make_folder(target.parent, "the cache of downloaded weights (config.data.cache_dir)")
    try:
        content = read(remote)
    except OSError as error:
        raise WeightsError(f"{remote} cannot be read: {reason(error)}") from error
    write_whole(target, content, "the weights")
    return target


def _local_file(where: str) -> Path:
    path = Path(where).expanduser()
    if path.is_file():
        return path
    close = difflib.get_close_matches(where, SHORT_NAMES, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"names: {', '.join(SHORT_NAMES)}"
    what = "a folder, not" if path.is_dir() else "not"
    raise WeightsError(f"{where!r} is {what} a file, an https:// address or a short name; {hint}")


def _published_hash(address: str) -> str:
    """The first digits of the file's SHA-256, or all of them; empty where none are published."""
    if match := re.search(r"#sha256=([0-9a-fA-F]{8,64})$", address):
        return match[1].lower()
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", urlsplit(address).path)
    return match[1] if match and urlsplit(address).hostname in HASHED_NAMES else ""


def _check_hash(file: Path, published: str, address: str) -> None:
    if not published:
        logger.info("weights     %s (not verified: no SHA-256 is published)", address)
        return
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest.startswith(published):
        logger.info("weights     %s (SHA-256 %s..., as published)", address, digest[:8])
        return
    if file.suffix == ".part":
        file.unlink()  # a wrong file must not be resumed
        remedy = "it was deleted; try again, or tell its publisher"
    else:
        remedy = f"delete {file}, or put the right file there"
    raise WeightsError(
        f"{file} is not what {address} publishes: its SHA-256 begins with "
        f"{digest[: len(published)]} and must begin with {published}; {remedy}"
    )


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Lets one process of this machine at a time fetch a file; the others wait for it."""
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(address: str, part: Path, target: Path) -> None:
    """Fills `part`; each attempt resumes where the last one stopped."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            logger.warning("the download of %s failed (%s); trying again", address, reason)
            time.sleep(SECONDS_BETWEEN * attempt)
        try:
            _attempt(address, part)
            return
        except requests.RequestException as error:
            reason = str(error)
            unreachable = isinstance(error, requests.ConnectionError) and not part.exists()
            status = error.response.status_code if error.response is not None else 500
            if unreachable or (status < 500 and status != 429):
                break  # waiting does not help
        except OSError as error:  # the disk is full
            reason = str(error)
            break
    raise WeightsError(
        f"{address} cannot be downloaded. Run the same command again to resume, or get the file "
        f"elsewhere and put it into the cache as {target}, or give a local file instead (to train "
        f"from it: --config.model.init_from=FILE). The reason: {reason}"
    )


def _attempt(address: str, part: Path) -> None:
    """One request, for what `part` still lacks if the server's file is still the same."""
    tag_file = part.with_name(part.name + ".tag")
    have = part.stat().st_size if part.exists() and tag_file.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag_file.read_text()}
    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if not response.url.startswith(("https:", address)):
            raise WeightsError(f"{address} redirects to {response.url}, which is not encrypted")
        resumed = response.status_code == 206
        range_sent = response.headers.get("Content-Range", "")
        if response.status_code == 416 or (resumed and f" {have}-" not in range_sent):
            part.unlink()  # complete already, or the server sends another range: start again
            raise requests.RequestException(f"cannot resume at byte {have}")
        response.raise_for_status()
        have = have if resumed else 0
        total = have + int(response.headers.get("Content-Length", 0))
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified", "")
        if tag and not tag.startswith("W/"):  # a weak tag does not promise the same bytes
            tag_file.write_text(tag)
        else:
            tag_file.unlink(missing_ok=True)
        logger.info("download    %s, %.1f MB%s", address, total / 1e6, ", resumed" * resumed)
        with (
            part.open("ab" if resumed else "wb") as file,
            progress.bar(total, part.stem, have, unit="B") as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total > have and part.stat().st_size < total:
        raise requests.exceptions.ChunkedEncodingError(f"{part.stat().st_size} of {total} bytes")
    tag_file.unlink(missing_ok=True)
