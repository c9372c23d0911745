"""What is wrong with a setting, said of the option that people gave."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping

from muzero_rc.errors import InputError

__all__ = ["naming_encoder_options", "naming_options"]


@contextlib.contextmanager
def naming_options(
    names: Collection[str], called: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Puts an option's name in the place of a setting's, where an error begins with that.

    Args:
      names: of settings.
      called: options without dashes by the settings that have another name.

    Raises:
      InputError: what was raised within, of the option.
    """
    try:
        yield
    except InputError as error:
        name, _, rest = str(error).partition(" ")
        if name not in names:
            raise
        option = (called or {}).get(name, name).replace("_", "-")
        raise InputError(f"--{option} {rest}") from None


def naming_encoder_options(
    called: Mapping[str, str] | None = None,
) -> contextlib.AbstractContextManager[None]:
    """`naming_options` of all settings of the encoder."""
    from muzero_rc.env.control.settings import EncoderSettings

    return naming_options({field.name for field in dataclasses.fields(EncoderSettings)}, called)
