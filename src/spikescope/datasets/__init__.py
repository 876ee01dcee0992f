"""Event data: recordings of event cameras and cochlea models, from published files to frames.

The names, arguments and folders are those of SpikingJelly, whose caches are used as they are. Without a data set at
hand, `integrate_events_by_fixed_frames_number` and the parsers of `datasets.formats` work on files and arrays of any
kind, and `NeuromorphicDatasetFolder` is the base of data sets of your own.
"""

from __future__ import annotations

from ..errors import explain_absent as _explain_absent
from .asl_dvs import ASLDVS
from .batches import (
    fast_split_to_train_test_set,
    pad_sequence_collate,
    padded_sequence_mask,
    split_to_train_test_set,
    time_first,
)
from .bullying10k import BULLYING10K_CATEGORY_LABEL, Bullying10kClassification
from .cifar10_dvs import CIFAR10DVS, CIFAR10DVS_CLASS_NAMES, CIFAR10DVSTEBNSplit
from .dvs128_gesture import DVS128Gesture
from .dvs_lip import DVSLip
from .es_imagenet import ESImageNet
from .faults import ConversionError, EventsError, FormatError, MissingFilesError, OptionError, UnsortedWarning
from .folders.checking import Finding, Report, check
from .folders.convert import convert_files
from .folders.dataset import NeuromorphicDatasetFolder, UndividedDatasetFolder
from .folders.files_of_frames import (
    integrate_events_file_to_frames_file_by_fixed_duration,
    integrate_events_file_to_frames_file_by_fixed_frames_number,
)
from .folders.recordings import convert_tree
from .folders.storage import load_events, load_npz_frames, np_savez, save_frames_to_npz_and_print
from .folders.trees import create_same_directory_structure, create_sub_dataset
from .formats import load_aedat_v3, load_ATIS_bin
from .frames.integrate import (
    cal_fixed_frames_number_segment_index,
    integrate_events_by_fixed_duration,
    integrate_events_by_fixed_frames_number,
    integrate_events_segment_to_frame,
)
from .frames.sliding import SlidingWindows
from .hardvs import HARDVS
from .n_caltech101 import NCaltech101
from .n_mnist import NMNIST
from .nav_gesture import NAVGestureSit, NAVGestureWalk
from .playing import play_frame, save_as_pic, save_as_video
from .shd import SpikingHeidelbergDigits, SpikingSpeechCommands, integrate_spikes
from .speechcommands import SPEECHCOMMANDS, SpeechCommands
from .transform import (
    CenterCrop,
    Compose,
    EventDrop,
    FlipHorizontally,
    NeuromorphicAugment,
    RandomTemporalDelete,
    Roll,
    ToFrames,
    ToTensor,
    random_temporal_delete,
)

_explain_absent(__name__)
