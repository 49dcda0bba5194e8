"""A coco/2017 that tensorflow_datasets (TFDS) has prepared: where it lies and how it is opened.

Reading needs no TensorFlow, if it was prepared as array_record.
"""

import dataclasses
import importlib
import os
from pathlib import Path
from typing import Any

from pse_jax.categories import COCO
from pse_jax.errors import ConfigError, DataError, UserError

NAME, VERSION, FORMAT = "coco/2017", "1.1.0", "array_record"
SPLITS = {"train": "train", "val": "validation"}  # ours: TFDS's
INSTALL = 'pip install "pse-jax[tfds]"'
INSTALL_PREPARE = 'pip install "pse-jax[tfds,tfds-prepare]"'
PREPARE = "python -m pse_jax prepare-tfds --out DIR"
AGAIN = f"copy it again, or delete the folder and prepare it again ({PREPARE})"


def default_root() -> Path:
    """TFDS's own data_dir: TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(root: Path) -> Path | None:
    """The folder of the newest version below TFDS's data_dir, or below a folder nearer to it."""
    for below in (".", "*", "2017/*", "coco/2017/*"):
        found = sorted(file.parent for file in root.glob(f"{below}/dataset_info.json"))
        if found := [folder for folder in found if not folder.name.startswith("incomplete")]:
            return found[-1]
    return None


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of one split, one after the other over all of its shards.

    Any number of threads may read: array_record has one reader a shard, which is safe for that.
    """

    folder: Path
    split: str  # TFDS's name
    shards: tuple[Path, ...]
    lengths: tuple[int, ...]  # records of each shard
    source: Any  # bytes of record i
    parse: Any  # of those bytes to TensorFlow's Example

    def __len__(self) -> int:
        return sum(self.lengths)

    def name(self, index: int) -> str:
        """`.../coco-train.array_record-00001-of-00256, record 7`."""
        for shard, length in zip(self.shards, self.lengths, strict=True):
            if index < length:
                return f"{shard}, record {index}"
            index -= length
        return f"{self.folder}, record {index} after the last"

    def read(self, index: int, error: type[UserError] = DataError) -> Any:
        """The features of a record: of each name, lists of bytes, floats or integers.

        Raises:
            UserError: of the type `error`, if the shard is damaged or has fewer records.
        """
        try:
            # TFDS's own decoding takes five times as long, most of it for what is not used here.
            return self.parse(self.source[index]).features.feature
        except Exception as caught:  # array_record raises RuntimeError, protobuf its own
            raise error(f"{self.name(index)} cannot be read: {caught}; {AGAIN}") from caught


def open_records(folder: Path, split: str) -> Records:
    """Opens a split of a prepared folder; its shards are there, and none has been read yet.

    Args:
        folder: that holds dataset_info.json.
        split: "train" or "val".

    Raises:
        ConfigError: if a package is missing.
        DataError: if it is another data set, in another format, or incomplete.
    """
    tensorflow_datasets = _library()
    try:
        builder = tensorflow_datasets.builder_from_directory(folder)
        info, features = builder.info, builder.info.features
        formats = {file_format.value for file_format in info.available_file_formats()}
        name, there = f"{info.name}/{info.config_name}", SPLITS[split] in info.splits
        names = tuple(features["objects"]["label"].names) if name == NAME else ()
    except Exception as error:  # each of its files can be missing or damaged
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{folder} cannot be opened by TFDS ({why}); {AGAIN}") from error
    if name != NAME:
        raise DataError(
            f"{folder} holds {name}; only {NAME} can be read. Write other data sets in COCO's "
            "format, and read them with --config.data.source=coco"
        )
    if names != COCO.names:
        raise DataError(f"{folder} has other classes than COCO's 80: {names[:5]}, ...; {AGAIN}")
    if FORMAT not in formats:
        raise DataError(_other_format(folder, formats))
    if not there:
        raise DataError(f"{folder} has no split {SPLITS[split]}; {AGAIN}")
    raw = tensorflow_datasets.decode.DeserializeMethod.RAW_BYTES
    source = builder.as_data_source(SPLITS[split], deserialize_method=raw)
    of_split = builder.info.splits[SPLITS[split]]
    shards = tuple(Path(file) for file in of_split.filepaths)
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(shards)} shards of {SPLITS[split]}: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}; {AGAIN}"
        )
    lengths = tuple(of_split.shard_lengths)
    return Records(folder, of_split.name, shards, lengths, source, _parser())


def _library() -> Any:
    """tensorflow_datasets, which is slow to import."""
    for name in ("tensorflow_datasets", "array_record"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"config.data.source=tfds needs {error.name or name}: {INSTALL}"
            ) from error
    return importlib.import_module("tensorflow_datasets")


def _parser() -> Any:
    """Imported before there are threads: TFDS's lazy imports are not made for them."""
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString  # pyright: ignore[reportAttributeAccessIssue]


def _other_format(folder: Path, formats: set[str]) -> str:
    """What to do with a data set that only TensorFlow can read."""
    return (
        f"{folder} is prepared as {' and '.join(sorted(formats))}, which cannot be read image by "
        f"image without TensorFlow. Write it as {FORMAT} beside that, without another download:\n"
        f"  {INSTALL_PREPARE} apache-beam mlcroissant\n"
        f"  tfds convert_format --dataset_version_dir={folder} --out_file_format={FORMAT}\n"
        f"or prepare it again in another folder: {PREPARE}"
    )
