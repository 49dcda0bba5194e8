"""The same objects by two detectors: the best-scored box of each. Made the picture of the README.

    python docs/examples/before_after.py runs/shapes_fcos runs/shapes_pse before_after.png

Both are runs that evaluated the same images. Counts every object on which both have a detection of
its class with IoU 0.5 or more, and draws those whose best-scored box the second places better by
most: ground truth dashed, in white.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pse_jax.data import coco, sources
from pse_jax.drawing import NEUTRAL, draw_boxes
from pse_jax.evaluation.arrays import GroundTruth, xywh_to_xyxy
from pse_jax.evaluation.matching import best_object
from pse_jax.report.pictures import captioned, crop, sheet
from pse_jax.runs.folder import Run

COLUMNS, CELL = 6, (240, 240)


def top_boxes(folder: str, truth: GroundTruth) -> dict[int, tuple[float, float, np.ndarray]]:
    """For every object: IoU, score and xyxy of the best-scored detection that lies on it."""
    files = Path(folder).glob("detections_*.json")
    found = coco.load_results(max(files, key=lambda file: int(file.stem.split("_")[1])), truth)
    objects, ious = best_object(truth, found)
    top: dict[int, tuple[float, float, np.ndarray]] = {}
    boxes = xywh_to_xyxy(found.boxes_xywh)
    for d in np.argsort(-found.scores, kind="stable"):
        if ious[d] >= 0.5:
            top.setdefault(int(objects[d]), (float(ious[d]), float(found.scores[d]), boxes[d]))
    return top


def main(before: str, after: str, out: str) -> None:
    """Counts, and draws."""
    truth = sources.open_split(Run(Path(after)).config().data, "val")
    first, second = top_boxes(before, truth), top_boxes(after, truth)
    both = sorted(first.keys() & second.keys())
    ious = np.array([(first[g][0], second[g][0]) for g in both])
    gain = ious[:, 1] - ious[:, 0]
    print(
        f"{len(both)} objects: mean IoU of the best-scored box {ious[:, 0].mean():.3f} and "
        f"{ious[:, 1].mean():.3f}; better on {np.sum(gain > 0)}, worse on {np.sum(gain < 0)}; by "
        f"over 0.1: {np.sum(gain > 0.1)} and {np.sum(gain < -0.1)}"
    )
    cells = []
    chosen = [both[i] for i in np.argsort(-gain, kind="stable")[:COLUMNS]]
    for top, name in ((first, "without PSE"), (second, "with PSE")):
        for g in chosen:
            image = Image.fromarray(truth.pixels_of(int(truth.image[g])))
            real = xywh_to_xyxy(truth.boxes_xywh[g : g + 1])
            view = np.concatenate([real, first[g][2][None], second[g][2][None]])
            picture, boxes = crop(image, view, CELL)
            drawn = boxes[[0, 1 if top is first else 2]]
            picture = draw_boxes(picture, drawn, groups=(NEUTRAL, 1), dashed=(True, False))
            cells.append(captioned(picture, f"{name}: IoU {top[g][0]:.2f}, score {top[g][1]:.2f}"))
    sheet(cells, COLUMNS).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
