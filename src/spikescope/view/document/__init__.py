"""What the page shows, as plain values: of a recording, of the folder of a run, or of a network that is watched."""

from .folder import of_folder as of_folder
from .folder import write_insight as write_insight
from .recorded import of_recording as of_recording
from .shape import Document as Document
from .shape import empty as empty
from .text import json_of as json_of
from .text import read_data as read_data
from .watched import of_health as of_health
from .watched import of_network as of_network
from .watched import show_health as show_health
from .watched import show_sample as show_sample
from .watched import show_view as show_view
from .watched import versions as versions
