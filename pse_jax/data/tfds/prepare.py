"""Prepares coco/2017 with tensorflow_datasets: the one step that needs TensorFlow."""

import importlib.util
import logging
from pathlib import Path

from pse_jax.data.tfds.prepared import FORMAT, INSTALL_PREPARE, NAME, VERSION, find
from pse_jax.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


def prepare(root: Path, *, num_shards: int | None = None) -> Path:
    """Downloads coco/2017 below a folder and writes it as array_record, unless it is there.

    Args:
        root: TFDS's data_dir.
        num_shards: files a split; by default as many as TFDS chooses.

    Returns:
        The folder of the prepared data set.

    Raises:
        ConfigError: if tensorflow_datasets or TensorFlow is not installed.
        DataError: if it cannot be downloaded or written, or was prepared in another format.
    """
    if (there := find(root)) is not None:
        return there
    for package in ("tensorflow_datasets", "tensorflow", "array_record"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"preparing {NAME} needs {package}: {INSTALL_PREPARE}")
    import tensorflow_datasets

    logger.info(
        "%s: preparing %s: TFDS downloads 25 GiB of images and annotations and writes as much",
        root / NAME / VERSION,
        NAME,
    )
    try:
        builder = tensorflow_datasets.builder(NAME, data_dir=root, file_format=FORMAT)
        options = tensorflow_datasets.download.DownloadConfig(num_shards=num_shards)
        builder.download_and_prepare(download_config=options)
    except Exception as error:  # of the network, the disk, a checksum, a missing library
        raise DataError(
            f"{root}: TFDS cannot prepare {NAME}: {type(error).__name__}: {error}. What it has "
            "downloaded is kept: run the same command again"
        ) from error
    return Path(builder.data_dir)
