"""Decoded images in memory: the same batches, within the budget, from any number of threads."""

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from coco_files import write

from pse_jax.config import Config, DataConfig
from pse_jax.data import coco, survey
from pse_jax.data.cache import PixelCache, cached_ends
from pse_jax.data.pipeline import batches
from pse_jax.data.plan import TrainPlan, buckets_for, choose_buckets
from pse_jax.errors import DataError, ImageError


@pytest.fixture
def dataset(tmp_path):
    return coco.load(*write(tmp_path))


def sizes_of(dataset):
    return (dataset.sizes_hw.prod(axis=1) * 3).tolist()


def test_the_budget_is_kept_and_said(dataset, caplog):
    sizes = sizes_of(dataset)
    for count in range(len(sizes) + 1):
        exactly = sum(sizes[:count])
        for spare in (0, 1):
            if count + spare > len(sizes):
                continue
            budget = exactly / 1e9 if not spare else (exactly + sizes[count] - 1) / 1e9
            cache = PixelCache(dataset, budget)
            assert cache.count == count and cache.block.nbytes == exactly
            assert cached_ends(dataset, budget).max(initial=0) == exactly
    caplog.clear()
    with caplog.at_level(logging.INFO):
        PixelCache(dataset, 0.0)
        assert not caplog.text
        PixelCache(dataset, sizes[0] / 1e9)
    assert f"1 of {len(sizes)} decoded images fit into" in caplog.text


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_batches_are_the_same_with_and_without(dataset, share):
    plan = TrainPlan(choose_buckets(dataset.sizes_hw, 64, 96, 2), 2, 1, 0.5, 12)
    cache = PixelCache(dataset, share * sum(sizes_of(dataset)) / 1e9)
    plain, cached = (
        list(batches(dataset, plan, rows=slice(0, 2), threads=3, prefetch=2, cache=cache_))
        for cache_ in (None, cache)
    )
    for a, b in zip(plain, cached, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    assert cache.filled.all() and 0 < cache.count <= len(dataset)
    assert (cache.count == len(dataset)) == (share == 1.0)


def test_an_image_is_decoded_once_and_cannot_be_written_to(dataset, monkeypatch):
    decoded = []
    read = type(dataset).pixels_of

    def counted(self, i):
        decoded.append(i)
        return read(self, i)

    monkeypatch.setattr(type(dataset), "pixels_of", counted)
    cache = PixelCache(dataset, 1.0)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(cache.pixels_of, [0, 1, 2] * 50))
    for i, pixels in enumerate(found):
        np.testing.assert_array_equal(pixels, read(dataset, i % 3))
    before = len(decoded)
    assert before <= 3 * 8  # threads that came at the same time
    for i in range(3):
        with pytest.raises(ValueError, match="read-only"):
            cache.pixels_of(i)[0, 0] = 0
    assert len(decoded) == before


def test_an_image_that_cannot_be_read_is_an_error_every_time(dataset, tmp_path):
    victim = dataset.name_of(0)
    with open(victim, "wb") as file:
        file.write(b"no image")
    cache = PixelCache(dataset, 1.0)
    for _ in range(2):
        with pytest.raises(ImageError, match="cannot be decoded"):
            cache.pixels_of(0)
    assert not cache.filled[0]


def test_the_forecast_of_memory_counts_the_cache(dataset, monkeypatch):
    config = Config(data=DataConfig(short_side=64, long_side=96, batch_size=2))
    buckets = buckets_for(dataset.sizes_hw, config.data)
    ahead = survey.need(buckets, config, 2).ahead
    monkeypatch.setattr(survey, "_memory", lambda: (ahead + 100_000_000, 1 << 60))
    survey.look(dataset, buckets, config, 2, cached=100_000_000)
    with pytest.raises(DataError) as raised:
        survey.look(dataset, buckets, config, 2, cached=100_000_001)
    assert "0.1 GB of that for config.data.cache_gb; " not in str(raised.value)
    assert "0.1 GB of that for config.data.cache_gb, and there are" in str(raised.value)
    assert "cache_gb, or take out" in str(raised.value)


def test_other_budgets_change_no_result():
    from pse_jax.runs import agreement, evaluate, folder

    assert all("data.cache_gb" in names for names in
               (agreement.MAY_DIFFER, folder.MAY_CHANGE, evaluate.NO_MATTER))  # fmt: skip
    for name in ("data.jitter", "data.repeat_threshold", "optimizer.ema_decay"):
        assert not name.startswith(folder.MAY_CHANGE) and name not in agreement.MAY_DIFFER
    assert "train.accumulate".startswith(folder.MAY_CHANGE)
    assert dataclasses.replace(DataConfig(), cache_gb=2.0).cache_gb == 2.0
