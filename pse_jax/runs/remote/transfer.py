"""Files of a folder, from a disk to an address and back, many at once."""

import concurrent.futures
from collections.abc import Callable
from pathlib import Path

from pse_jax import addresses
from pse_jax.addresses import Place

THREADS = 8  # that copy the files of a checkpoint


def stamp(file: Path) -> tuple[int, int]:
    """Size and time of a file: what changes when it does."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def local_files(folder: Path) -> list[str]:
    """Files below a local folder, at any depth."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def files_below(folder: Place, prefix: str = "") -> list[str]:
    """Of a remote folder, at any depth."""
    names = addresses.names(folder)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        kinds = pool.map(
            lambda path: addresses.asked(path, path.is_dir), map(folder.joinpath, names)
        )
    found = []
    for name, is_folder in zip(names, kinds, strict=True):
        inside = files_below(folder / name, f"{prefix}{name}/") if is_folder else [prefix + name]
        found += inside
    return found


def download(folder: Place, name: str, to: Path) -> None:
    """Copies one file of a remote folder below a local one."""
    content = addresses.read(folder / name)
    (to / name).parent.mkdir(parents=True, exist_ok=True)
    (to / name).write_bytes(content)


def all_at_once(act: Callable[[str], None], names: list[str]) -> None:
    """For every name; raises the first error when all have ended."""
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(act, name) for name in names]:
            done.result()
