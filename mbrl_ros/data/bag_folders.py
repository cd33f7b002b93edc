"""Names of the bags of a run folder. Without `rosbags`, which a run that is not recorded does not need."""

from pathlib import Path

BAG = "bag"
PARAMETERS = "parameters.yaml"  # in a bag: those of the run


def next_bag(folder: Path) -> Path:
    """Where the next bag of a run folder goes: ``bag``, or where there is one, ``bag_2``, ``bag_3``, ..."""
    names = [BAG, *(f"{BAG}_{number}" for number in range(2, 1000))]
    return next(folder / name for name in names if not (folder / name).exists())


def bags_in(folder: Path) -> list[Path]:
    """Bags of a run folder, the oldest first."""
    return sorted((p for p in folder.glob(f"{BAG}*") if p.is_dir()), key=lambda p: int(p.name.partition("_")[2] or 1))
