"""When a run stops early, against a plain count by hand."""

from hypothesis import given
from hypothesis import strategies as st

from pse_jax.evaluation.patience import best, exhausted

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), max_size=12)


def at_steps(scores):
    return [(10 * (i + 1), ap) for i, ap in enumerate(scores)]


def test_by_hand():
    assert not exhausted(at_steps([0.3]), 1)
    assert exhausted(at_steps([0.3, 0.2]), 1)
    assert exhausted(at_steps([0.3, 0.3]), 1)  # as good is not better
    assert not exhausted(at_steps([0.1, 0.0, 0.2, 0.1]), 2)
    assert exhausted(at_steps([0.1, 0.0, 0.2, 0.1, 0.2]), 2)
    assert not exhausted(at_steps([0.3, 0.2, 0.1, 0.1]), 0) and not exhausted([], 3)
    assert best(at_steps([0.1, 0.3, 0.3])) == (20, 0.3)


@given(SCORES, st.integers(1, 5))
def test_it_counts_as_one_who_watches_the_run(scores, patience):
    record, waited, stopped = -1.0, 0, []
    for ap in scores:
        record, waited = (ap, 0) if ap > record else (record, waited + 1)
        stopped.append(waited >= patience)
    found = [exhausted(at_steps(scores[: n + 1]), patience) for n in range(len(scores))]
    assert found == stopped
