"""Where the package's data files lie: installed by colcon, or beside the sources."""

from pathlib import Path


def share_directory() -> Path:
    """Folder that holds ``config/`` and ``launch/``."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "config" / "robots").is_dir():
        return checkout
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("mbrl_ros"))
