"""ES-ImageNet: ImageNet as events of a simulated camera of 256 x 256 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .events import Array, StoredPath
from .faults import FormatError, MissingFilesError
from .folders.dataset import NeuromorphicDatasetFolder
from .folders.recordings import link_tree, subfolders
from .folders.resources import Resource
from .folders.storage import load_events
from .formats.reading import text

__all__ = ["ESImageNet"]

FOLDER = "ES-imagenet-0.18"
HOST = "https://cloud.tsinghua.edu.cn/d/94873ab4ec2a4eb497b3/files/?p=%2F"
PARTS = (
    "900bdd57b5641f7d81cd4620283fef76",
    "5982532009e863a8f4e18e793314c54b",
    "8f408c1f5a1d4604e48d0d062a8289a0",
    "5c5b5cf0a55954eb639964e3da510097",
    "51feb661b4c9fa87860b63e76b914673",
    "fcd007a2b17b7c13f338734c53f6db31",
    "d3e74b96d9c5df15714bbc3abcd329fc",
    "65b9cf7fa63e18d2e7d92ff45a42a5e5",
    "241c9a37a83ff9efd305fe46d012211e",
    "ceee96971008e30d0cdc34086c49fd75",
    "4fbfefbe6e48758fbb72427c81f119cf",
    "c8cc163be4e5f6451201dccbded4ec24",
    "08c9dff32f6b42c49ef7cd78e37c728e",
    "43aa157dc5bd5fcea81315a46e0322cf",
    "480a69b050f465ef01efcc44ae29f7df",
    "11abd24d92b93e7f85acd63abd4a18ab",
    "3891486a6862c63a325c5f16cd01fdd1",
    "cf8bb0525b514f411bca9d7c2d681f7c",
    "3766bc35572ccacc03f0f293c571d0ae",
    "bf73a5e338644122220e41da7b5630e6",
    "564de4a2609cbb0bb67ffa1bc51f2487",
    "60a9e52db1acadfccc9a9809073f0b04",
    "373b5484826d40d7ec35f0e1605cb6ea",
    "a50612e889b20f99cc7b2725dfd72e9e",
    "0802ccdeb0cff29237faf55164524101",
)


class ESImageNet(NeuromorphicDatasetFolder):
    """ES-ImageNet: 1,000 classes, 1.3 million samples, 256 x 256, .npz with `pos` and `neg`; `train` must be given.

    The published archive is a RAR in 25 parts, which has to be unpacked by hand. `events_np` has links to the files in
    `extract`.

    Paper: Y. Lin et al., ES-ImageNet: a million event-stream classification dataset for spiking neural networks,
    Frontiers in Neuroscience 2021.
    """

    divided = True

    @staticmethod
    def load_events_np(fname: StoredPath) -> dict[str, Array]:
        """The events of a sample, in order of time: rows (y, x, t) of `pos` are ON, those of `neg` are OFF."""
        held = load_events(fname)
        if not isinstance(held, dict) or not {"pos", "neg"} <= set(held):
            raise FormatError(f"{fname} has no 'pos' and 'neg', which ES-ImageNet's files have.")
        rows = np.vstack([held["pos"], held["neg"]]).astype(np.float64)
        p = np.repeat([1.0, 0.0], [len(held["pos"]), len(held["neg"])])
        order = np.argsort(rows[:, 2])
        y, x, t = rows[order].T
        return {"x": x, "y": y, "t": t, "p": p[order]}

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        names = [f"{FOLDER}.part{number:02d}.rar" for number in range(1, len(PARTS) + 1)]
        return [(name, f"{HOST}{name}&dl=1", md5) for name, md5 in zip(names, PARTS, strict=True)]

    @staticmethod
    def downloadable() -> bool:
        """Whether a program may fetch the files."""
        return True

    @staticmethod
    def extract_downloaded_files(download_root: StoredPath, extract_root: StoredPath) -> None:
        """Say how the archive is unpacked."""
        target = Path(extract_root).with_name("extract")
        raise MissingFilesError(
            f"ES-ImageNet is a RAR archive, which Python cannot unpack. Unpack it into {target}, for example with: "
            f"unrar x {Path(download_root) / FOLDER}.part01.rar {target}/"
        )

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Link the samples, a folder a class; those for testing by the table `vallabel.txt` (file and label)."""
        source, target = Path(extract_root) / FOLDER, Path(events_np_root)
        pairs = []
        for folder in subfolders(source / "train"):
            (target / "test" / folder.name).mkdir(parents=True, exist_ok=True)
            pairs += [(file, target / "train" / folder.name / file.name) for file in sorted(folder.glob("*.npz"))]
        table = source / "vallabel.txt"
        for line in text(table).splitlines():
            name, _, label = line.partition(" ")
            if not label.split() or not label.split()[0].isdecimal() or Path(name).name != name:
                raise FormatError(f"{table} must have lines of file and label, but has {line!r}.")
            pairs.append((source / "val" / name, target / "test" / f"class{label.split()[0]}" / name))
        link_tree(pairs)

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the pictures."""
        return 256, 256
