"""The trace that --profile writes, read again; that of a whole run is in test_training.py."""

import pytest

from pse_jax.errors import UserError
from pse_jax.training import profile
from pse_jax.training.profile import Profile
from tests.traces import traced


def test_a_run_that_ends_before_its_trace_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--profile=5 .* steps 14 to 18, but .* ends at step 17;"):
        Profile(tmp_path, start=3, total=17, steps=5)
    Profile(tmp_path, start=3, total=18, steps=5)
    Profile(tmp_path, start=3, total=4, steps=0)


def test_a_run_that_stops_early_ends_its_trace(tmp_path):
    one = Profile(tmp_path, start=0, total=100, steps=20)
    with one.step(profile.BEFORE):
        pass
    assert not one.tracing
    with one.step(profile.BEFORE + 1):
        assert one.tracing
    one.close()
    assert traced(tmp_path)[0] == {11}
