"""A URDF as text for other programs, which do not know the folder that its meshes are relative to."""

import re
from pathlib import Path

from mbrl_ros.errors import ConfigError

SCHEMES = ("package://", "file://", "http://", "https://")


def urdf_text(path: Path) -> str:
    """Content of the URDF; names of meshes that are relative to its folder become ``file://`` names.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"urdf {path}: {error}") from None

    def absolute(match: re.Match[str]) -> str:
        name = match[2]
        return match[0] if name.startswith(SCHEMES) else f"{match[1]}file://{(path.parent / name).resolve()}{match[3]}"

    return re.sub(r"""(<mesh\b[^>]*\bfilename\s*=\s*["'])([^"']+)(["'])""", absolute, text)
