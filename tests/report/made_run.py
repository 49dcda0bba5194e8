"""A run's folder as training leaves it, made by hand: no detector is trained."""

import json

import numpy as np
from PIL import Image, ImageDraw

from pse_jax.config import Config, DataConfig, OptimizerConfig, to_dict

COLOURS = ("#e69f00", "#56b4e9")
IMAGES = 9


def make(folder):
    """Nine images of squares, two evaluations, curves; returns the run's folder."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations, results = [], [], []
    for image in range(1, IMAGES + 1):
        picture = Image.new("RGB", (160, 120), "#456")
        pen = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(1, 4))):
            x, y, side = *rng.integers(0, 80, 2).tolist(), int(rng.integers(12, 40))
            label = int(rng.integers(1, 3))
            pen.rectangle((x, y, x + side, y + side), fill=COLOURS[label - 1])
            row = {"image_id": image, "category_id": label}
            box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
            annotations.append({**row, **box, "id": len(annotations) + 1})
            for shift in (1, 5):
                score = round(float(rng.random()), 3)
                results.append({**row, "bbox": [x + shift, y, side, side], "score": score})
        picture.save(folder / "images" / f"{image}.jpg")
        images.append({"id": image, "file_name": f"{image}.jpg", "width": 160, "height": 120})
    categories = [{"id": 1, "name": "<b>orange</b>"}, {"id": 2, "name": "blue"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    run = folder / "run"
    run.mkdir()
    _write(run, folder, results)
    return run


def _write(run, root, results):
    config = Config(
        name="squares",
        optimizer=OptimizerConfig(steps=40, milestones=(30,)),
        data=DataConfig(
            root=str(root),
            train_annotations="instances.json",
            val_annotations="instances.json",
            train_images="images",
            val_images="images",
        ),
    )
    (run / "config.json").write_text(json.dumps(to_dict(config)))
    numbers = {"AP": 0.25, "AP50": 0.5, "AP75": None, "APS": 0.125, "PCC": 0.5, "SCC": 0.25}
    numbers |= {"KCC": 0.125, "oracle_AP": 0.75, "AR100": 0.625}
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(2, 41, 2):
            row = {"step": step, "loss": 40 / step, "cls": 20 / step, "box": 20 / step}
            row |= {"assoc": 0.0, "quality": 0.0, "lr": 0.01, "images_per_second": 80.0}
            file.write(json.dumps(row) + "\n")
            if step % 20 == 0:
                values = {"AP": 0.3, "AP50": 0.5} if step == 20 else numbers
                file.write(json.dumps({"step": step, **values}) + "\n")
    per_class = {"<b>orange</b>": 0.375, "blue": None}
    for step in (20, 40):
        content = {"step": step, **numbers, "per_class": per_class}
        (run / f"eval_{step}.json").write_text(json.dumps(content))
        (run / f"detections_{step}.json").write_text(json.dumps(results))
    seconds = {"start": 5.0, "compile": 20.0, "data": 1.0, "step": 60.0, "evaluate": 12.0}
    session = {"began": "", "from_step": 0, "to_step": 40, "seconds": {**seconds, "save": 2.0}}
    (run / "times.json").write_text(json.dumps({"sessions": [session]}))
    job = {"command": "python train.py --workdir squares", "devices": "1 device (cpu)"}
    (run / "job.json").write_text(json.dumps({**job, "versions": {"jax": "0.0.1"}}))
    change = {"optimizer.steps": [30, 40]}
    (run / "config_history.jsonl").write_text(json.dumps({"step": 30, "changed": change}) + "\n")
