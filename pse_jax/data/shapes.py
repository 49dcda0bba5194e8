"""`shapes`: a generated data set in COCO's own format, for work without a download.

`write_shapes(config, cache_dir)` writes `annotations/instances_{train,val}.json`, `train/*.jpg` and
`val/*.jpg` once; what reads COCO reads it. The same version and config give the same bytes with the
same builds of Pillow and numpy, however many processes draw. `scene.py` draws one picture.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

from pse_jax import processors
from pse_jax.config import ShapesConfig
from pse_jax.data.scene import draw_scene
from pse_jax.data.things import CLASSES
from pse_jax.errors import WriteError
from pse_jax.files import reason, write_whole

VERSION = 1  # a part of the folder's name and of every image's seed; raise it when the bytes change
SPLITS = ("train", "val")
IMAGES_PER_WORKER = 64  # with fewer, starting a process costs more than it saves


def folder_name(config: ShapesConfig) -> str:
    """The data set's folder: version, size and count to read, and a hash of every knob."""
    text = json.dumps([VERSION, dataclasses.asdict(config)], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"shapes-v{VERSION}-{config.image_size}px-{config.train_images}-{digest}"


def draw(
    config: ShapesConfig, split: str, index: int
) -> tuple[np.ndarray, dict[str, Any], list[dict[str, Any]]]:
    """Image `index` of a split: its uint8 pixels [h, w, 3], its COCO record, its annotations.

    A pure function: the annotations have no `id` yet, because that depends on the images before.
    """
    rng = np.random.default_rng((config.seed, VERSION, SPLITS.index(split), index))
    pixels, annotations = draw_scene(config, rng)
    image_id = 1000 + 2 * index + SPLITS.index(split)  # neither contiguous nor shared by the splits
    height, width = pixels.shape[:2]
    name = f"{image_id:012d}.jpg"
    record = {"id": image_id, "file_name": name, "width": width, "height": height}
    return pixels, record, [{"image_id": image_id, **a} for a in annotations]


def _jobs(config: ShapesConfig) -> list[tuple[str, int]]:
    counts = (config.train_images, config.val_images)
    return [(s, i) for s, count in zip(SPLITS, counts, strict=True) for i in range(count)]


def _draw_share(
    config: ShapesConfig, folder: pathlib.Path, worker: int, workers: int
) -> Iterator[dict[str, Any]]:
    """Draws and writes every `workers`-th image from `worker` on; yields each one's records."""
    for split, index in _jobs(config)[worker::workers]:
        pixels, image, annotations = draw(config, split, index)
        Image.fromarray(pixels).save(folder / split / image["file_name"], quality=90)
        yield {"split": split, "image": image, "annotations": annotations}


def _worker_main() -> None:
    """A worker process: draws its share and prints a line of JSON for each image."""
    knobs, folder, worker, workers = sys.argv[1:]
    config = ShapesConfig(**json.loads(knobs))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the caller, which ends this process
    try:
        for drawn in _draw_share(config, pathlib.Path(folder), int(worker), int(workers)):
            print(json.dumps(drawn), flush=True)
    except BrokenPipeError:
        os._exit(1)  # the caller is gone; there is no one left to tell
    except OSError as error:  # the disk is full
        print(json.dumps({"errno": error.errno}), flush=True)


def _draw_parallel(
    config: ShapesConfig, folder: pathlib.Path, workers: int
) -> Iterator[dict[str, Any]]:
    """Same records in the same order as one worker's, drawn by several processes.

    Plain processes and not multiprocessing, whose workers would import the program that called (and
    with it jax) once each, need its `__main__` guard, and can outlive it when it is killed. These
    import this file alone and stop at the next image when nobody reads what they print.
    """
    package_root = str(pathlib.Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    code = "from pse_jax.data.shapes import _worker_main; _worker_main()"
    command = [sys.executable, "-c", code, json.dumps(dataclasses.asdict(config)), str(folder)]
    processes = [
        subprocess.Popen([*command, str(k), str(workers)], stdout=subprocess.PIPE, env=env)
        for k in range(workers)
    ]
    pipes = [process.stdout for process in processes if process.stdout]
    try:
        for i in range(len(_jobs(config))):
            line = pipes[i % workers].readline()
            if not line:
                code = processes[i % workers].wait()
                raise RuntimeError(f"a process that draws shapes stopped with exit code {code}")
            drawn = json.loads(line)
            if (number := drawn.get("errno")) is not None:
                raise OSError(number, os.strerror(number))
            yield drawn
    finally:
        for process, pipe in zip(processes, pipes, strict=True):
            process.kill()
            pipe.close()
            process.wait()


def _write_annotations(path: pathlib.Path, drawn: list[dict[str, Any]]) -> None:
    annotations = [a for one in drawn for a in one["annotations"]]
    categories = [
        {"id": c.category_id, "name": name, "supercategory": c.supercategory}
        for name, c in CLASSES.items()
    ]
    coco = {
        "info": {"description": "shapes, a generated data set", "version": str(VERSION)},
        "licenses": [],
        "images": [one["image"] for one in drawn],
        "annotations": [{"id": i, **a} for i, a in enumerate(annotations, start=1)],
        "categories": categories,
    }
    write_whole(path, json.dumps(coco), "the annotations")


def _write(config: ShapesConfig, folder: pathlib.Path, workers: int) -> None:
    for name in ("annotations", *SPLITS):
        (folder / name).mkdir(parents=True)
    share = _draw_share(config, folder, 0, 1)
    stream = share if workers == 1 else _draw_parallel(config, folder, workers)
    total = len(_jobs(config))
    drawn = list(tqdm(stream, "shapes", total, unit="img", disable=None))
    for split in SPLITS:
        of_split = [one for one in drawn if one["split"] == split]
        _write_annotations(folder / "annotations" / f"instances_{split}.json", of_split)
    made_with = {"numpy": np.__version__, "pillow": PIL.__version__}
    about = {
        "name": "shapes",
        "version": VERSION,
        "knobs": dataclasses.asdict(config),
        "made_with": made_with,
    }
    write_whole(folder / "dataset.json", json.dumps(about, indent=2) + "\n", "what shapes is")


def write_shapes(
    config: ShapesConfig, cache_dir: str | os.PathLike, *, workers: int | None = None
) -> pathlib.Path:
    """Writes the data set once and returns its folder; if it is already there returns at once.

    It is written under another name and renamed when it is whole: a folder of the right name is
    always complete, and of two processes that start together the later one keeps the earlier's.

    Args:
        config: what to draw.
        cache_dir: the folder to write it in; made if need be.
        workers: processes that draw; by default one per CPU core.

    Raises:
        WriteError: if the disk is full or the folder cannot be written to; nothing is left then.
    """
    target = pathlib.Path(cache_dir).expanduser() / folder_name(config)
    if target.exists():
        return target
    if workers is None:
        workers = min(processors.count(), len(_jobs(config)) // IMAGES_PER_WORKER)
    started = time.monotonic()
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        _write(config, partial, max(workers, 1))
        try:
            partial.rename(target)
        except OSError:
            if not target.exists():  # it does when another process was faster
                raise
    except (OSError, WriteError) as error:
        cause = error.__cause__ if isinstance(error, WriteError) else error
        why = reason(cause) if isinstance(cause, OSError) else str(error)
        raise WriteError(
            f"{target}: cannot write the data set: {why}; nothing is left of it. Make room, or "
            "give another --config.data.cache_dir"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"shapes: wrote {target} in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return target
