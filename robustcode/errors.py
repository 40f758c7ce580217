"""Everything this package raises on purpose.

RobustcodeError
    ConfigError             the run was described wrongly
        UnknownNameError    ... by a name nothing provides
        DataError           ... by data that cannot be read or are not images in [0, 1]
        CheckpointError     ... by weights that are missing, unsafe or of another architecture
        StoreError          ... by a run folder that is taken, altered or of another run
    PluginError             an installed plug-in cannot be imported or is not what it says
    ContractError           a component broke a promise its base class states
    EngineError             work was lost and the run is incomplete

What merely weakens the evidence (a zero gradient, noise as strong as the attack) is no error:
it is a Finding, kept with the run and printed under its table.
"""

from typing import ClassVar


class RobustcodeError(Exception):
    """Base class: catch this to catch all of them and nothing else."""

    exit_code: ClassVar[int] = 3


class ConfigError(RobustcodeError, ValueError):
    """The run was described wrongly."""

    exit_code = 2


class UnknownNameError(ConfigError, LookupError):
    """A name was asked for that no built-in and no installed plug-in provides."""


class DataError(ConfigError):
    """The data are missing, damaged, or not images in [0, 1] with labels in range."""


class CheckpointError(ConfigError):
    """The weights are missing, would run code when read, or fit another architecture."""


class StoreError(ConfigError):
    """A run folder is in use, altered, of another run, or cannot be written."""


class PluginError(RobustcodeError):
    """An installed plug-in could not be imported, or is not what it says it is."""

    exit_code = 2


class ContractError(RobustcodeError):
    """A component broke a promise its base class states."""


class EngineError(RobustcodeError):
    """Work was lost, and the run is incomplete; the same command goes on where it stopped."""

    exit_code = 4
