"""Every error that a user can fix: the message says where, what and the remedy.

Commands print the message without a traceback and exit with 2.
"""


class UserError(ValueError):
    """The root: something in what the user gave cannot be used."""


class ConfigError(UserError):
    """An invalid value, field or file of the configuration."""


class DataError(UserError):
    """Annotations or images that cannot be used; names the file, the id and the value."""


class ImageError(UserError):
    """An image that cannot be used; names the file and what is wrong with it."""


class ResultsError(UserError):
    """Detections that cannot be evaluated; names the entry."""


class CheckpointError(UserError):
    """A checkpoint that is missing or does not fit."""


class DamagedError(CheckpointError):
    """A checkpoint whose content is not what was saved."""


class WeightsError(UserError):
    """A file of weights that cannot be found, read or used."""


class TrainingError(UserError):
    """Training that cannot continue."""


class WriteError(UserError):
    """A file or folder that cannot be written: a full disk, a read-only or impossible path."""


class ProcessError(UserError):
    """Processes of one job that disagree, or of which another cannot continue; all raise it."""


class ClusterError(UserError):
    """Other processes of this job, which the environment shows, cannot be joined."""


class LockError(UserError):
    """A folder that another process is writing to."""
