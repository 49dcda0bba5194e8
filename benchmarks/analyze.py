"""Times `analyze` on a data set of COCO val2017's size: python benchmarks/analyze.py.

Makes 5,000 images with about 7 objects each and 250,000 detections of 80 classes in a temporary
folder and prints wall time, CPU time and peak memory of the whole process tree (Linux). With
`--files 2` two results files are compared: their own analyses and 1,000 resamples.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

Row = dict[str, object]


def synthetic(
    images: int, detections: int, classes: int = 80, seed: int = 0
) -> tuple[dict[str, list[Row]], list[Row]]:
    """Annotations and detections: half near an object, scored in part by fit, half anywhere."""
    rng = np.random.default_rng(seed)
    annotations: list[Row] = []
    results: list[Row] = []
    for image in range(1, images + 1):
        count = int(rng.poisson(7))
        palette = rng.choice(classes, 3)
        boxes = _boxes(rng, count)
        labels = rng.choice(palette, count)
        for box, label in zip(boxes, labels, strict=True):
            row: Row = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": int(label) + 1,
            }
            row |= {"bbox": box.tolist(), "area": float(box[2] * box[3] * 0.7)}
            annotations.append(row | {"iscrowd": int(rng.random() < 0.01)})
        number = detections // images
        found, kinds = _boxes(rng, number), rng.choice(palette, number)
        scores = rng.beta(1, 6, number)
        if count:
            near = rng.random(number) < 0.5
            which = rng.integers(count, size=number)
            noise = rng.choice([0.03, 0.1, 0.3], number)[:, None]
            moved = boxes[which].copy()
            moved[:, :2] += moved[:, 2:] * rng.normal(size=(number, 2)) * noise
            moved[:, 2:] *= np.exp(rng.normal(size=(number, 2)) * noise)
            found[near], kinds[near] = moved[near], labels[which][near]
            fit = 0.7 * (1 - 2 * noise[:, 0]) + 0.3 * rng.random(number)
            scores = np.where(near, np.clip(fit, 0.05, 1), scores)
        rows = zip(found.round(2).tolist(), kinds.tolist(), scores.round(4).tolist(), strict=True)
        results += [
            {"image_id": image, "category_id": kind + 1, "bbox": box, "score": score}
            for box, kind, score in rows
        ]
    ids: list[Row] = [
        {"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480}
        for i in range(1, images + 1)
    ]
    categories: list[Row] = [{"id": k + 1, "name": f"class {k + 1}"} for k in range(classes)]
    return {"images": ids, "annotations": annotations, "categories": categories}, results


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    size = np.exp(rng.uniform(np.log(10), np.log(300), (count, 2)))
    corner = rng.random((count, 2)) * (np.array([640.0, 480.0]) - size)
    return np.concatenate([corner, size], axis=1)


def tree_memory(root: int) -> int:
    """Resident bytes of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(entry.name))
    total, todo = 0, [root]
    while todo:
        process = todo.pop()
        todo += children.get(process, [])
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        total += pages * 4096
    return total


def main() -> None:
    """Makes the data, runs the command, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=250_000)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations, results = synthetic(options.images, options.detections)
        (folder / "instances.json").write_text(json.dumps(annotations))
        files = [folder / f"results_{n}.json" for n in range(options.files)]
        rng = np.random.default_rng(1)
        for file in files:
            file.write_text(json.dumps(results))
            for row in results:  # the next detector's scores differ a little
                row["score"] = float(np.clip(float(str(row["score"])) + rng.normal() / 50, 0, 1))
        command = [sys.executable, "-m", "pse_jax", "analyze"]
        command += ["--annotations", str(folder / "instances.json")]
        command += ["--detections", *map(str, files), "--out", str(folder / "out")]
        command += ["--resamples", str(options.resamples)]
        start, peak = time.perf_counter(), 0
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - start
        size = (folder / "out" / "report.html").stat().st_size
    print(f"{options.detections:,} detections on {options.images:,} images")
    print(f"wall time    {seconds:6.1f} s")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU time     {usage.ru_utime + usage.ru_stime:6.1f} s")
    print(f"peak memory  {peak / 2**30:6.2f} GiB, all processes")
    print(f"report.html  {size / 2**20:6.2f} MiB")
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
