"""Runs an exported detector without pse_jax: run_stablehlo.py FOLDER IMAGE.npy ...

Needs jax, numpy and flatbuffers (with which jax reads the program). An image is an array as
np.save writes it, uint8 RGB [height, width, 3]: np.asarray(PIL.Image.open(file).convert("RGB")).
"""

import json
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np

folder, *files = map(Path, sys.argv[1:])
names = {
    label["id"]: label["name"]
    for label in json.loads((folder / "model.json").read_text())["labels"]
}
weights = jax.device_put(dict(np.load(folder / "weights.npz")))
program = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
detect = jax.jit(program.call)

images = [np.load(file) for file in files]  # of any sizes: each goes in the top left corner
sizes = np.array([image.shape[:2] for image in images], np.int32)
batch = np.zeros((len(images), *sizes.max(axis=0), 3), np.uint8)
for row, image in zip(batch, images, strict=True):
    row[: image.shape[0], : image.shape[1]] = image

found = jax.device_get(detect(weights, batch, sizes))
for i, file in enumerate(files):
    for j in range(found["count"][i]):
        box = " ".join(f"{value:.2f}" for value in found["boxes_xyxy"][i, j])
        print(
            file.name, names[int(found["category_ids"][i, j])], f"{found['scores'][i, j]:.6f}", box
        )
