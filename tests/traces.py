"""Reads what JAX's profiler writes."""

from jax.profiler import ProfileData


def traced(folder):
    """The steps of the one trace in a folder, and the names of all that it saw."""
    (file,) = folder.rglob("*.xplane.pb")
    events = [
        event
        for plane in ProfileData.from_file(str(file)).planes
        for line in plane.lines
        for event in line.events
    ]
    steps = {dict(event.stats).get("step_num") for event in events if event.name == "train"}
    return steps, {event.name for event in events}
